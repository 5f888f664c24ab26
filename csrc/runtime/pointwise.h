// What is computed value by value, or within one step's values: activations, normalizations,
// merges.  Sums run over vectors in ascending order and then over lanes, whatever surrounds a row.
#pragma once

#include "../activations.h"
#include "op_kernels.h"

namespace recurra {
namespace RECURRA_ISA {

using runtime::Function;

// Calls f(position, lanes) for the vectors of n values.
template <class F>
RECURRA_INLINE void each_vector(Index n, F&& f) {
  constexpr int L = kLanes<float>;
  Index i = 0;
  for (; i + L <= n; i += L) f(i, L);
  if (i < n) f(i, int(n - i));
}

RECURRA_INLINE VecF relu_above(VecF x, VecF threshold) { return x > threshold ? x : splat(0.0f); }
RECURRA_INLINE VecF vsoftplus(VecF x) { return activate<float>(Activation::softplus, x); }

// Functions of one value. p: the function's parameters.
inline VecF apply_function(Function function, VecF x, const float* p) {
  const VecF zero = splat(0.0f), one = splat(1.0f);
  switch (function) {
    case Function::linear: return x;
    case Function::tanh: return vtanh<float>(x);
    case Function::sigmoid: return vsigmoid<float>(x);
    case Function::hard_sigmoid: return activate<float>(Activation::hard_sigmoid, x);
    case Function::relu: {
      const VecF threshold = splat(p[2]);
      VecF y = p[2] == 0.0f ? (x < zero ? zero : x) : relu_above(x, threshold);
      y = y > splat(p[1]) ? splat(p[1]) : y;
      return p[0] == 0.0f ? y : y - splat(p[0]) * relu_above(threshold - x, zero);
    }
    case Function::softsign: return activate<float>(Activation::softsign, x);
    case Function::elu: return x > zero ? x : splat(p[0]) * vexpm1<float>(x);
    case Function::selu: return activate<float>(Activation::selu, x);
    case Function::gelu: return activate<float>(Activation::gelu, x);
    case Function::silu: return vsilu<float>(x);
    case Function::exponential: return vexp<float>(x);
    case Function::softplus: return vsoftplus(x);
    case Function::leaky_relu: return x < zero ? splat(p[0]) * x : x;
    case Function::relu6: return clamp<float>(x, 0.0f, 6.0f);
    case Function::celu: return x > zero ? x : splat(p[0]) * vexpm1<float>(x / splat(p[0]));
    case Function::gelu_tanh: {
      const VecF inner = splat(0.7978845608028654f) * (x + splat(0.044715f) * x * x * x);
      return splat(0.5f) * x * (one + vtanh<float>(inner));
    }
    case Function::threshold: return x > splat(p[0]) ? x : splat(p[1]);
    case Function::soft_shrink: {
      const VecF t = splat(p[0]);
      const VecF below = x < -t ? x + t : zero;
      return x > t ? x - t : below;
    }
    case Function::hard_shrink: return vabs<float>(x) > splat(p[0]) ? x : zero;
    case Function::squareplus: {
      VecF root = x * x + splat(p[0]);
      for (int i = 0; i < kLanes<float>; ++i) root[i] = std::sqrt(root[i]);
      return splat(0.5f) * (x + root);
    }
    case Function::log_sigmoid: return -vsoftplus(-x);
    case Function::mish: return x * vtanh<float>(vsoftplus(x));
    case Function::hard_silu: {
      return x * clamp<float>(x + splat(3.0f), 0.0f, 6.0f) * splat(1.0f / 6.0f);
    }
    case Function::hard_tanh: return clamp<float>(x, -1.0f, 1.0f);
    case Function::tanh_shrink: return x - vtanh<float>(x);
    case Function::sparse_plus: {
      const VecF sum = x + one, middle = x < one ? splat(0.25f) * sum * sum : x;
      return x > -one ? middle : zero;
    }
    case Function::sparse_sigmoid: return clamp<float>(splat(0.5f) * (x + one), 0.0f, 1.0f);
    case Function::prelu:
    case Function::softmax:
    case Function::log_softmax: break;
  }
  return x;
}

// Adds up, or takes the largest of, a vector's lanes in a fixed order.
RECURRA_INLINE float sum_of_lanes(VecF v) {
  float sum = v[0];
  for (int i = 1; i < kLanes<float>; ++i) sum += v[i];
  return sum;
}
RECURRA_INLINE float sum_of(const float* x, Index n) {
  VecF sum = splat(0.0f);
  each_vector(n, [&](Index i, int lanes) { sum = sum + load_n(x + i, lanes); });
  return sum_of_lanes(sum);
}

inline void softmax_row(const float* x, float* out, Index width, bool log) {
  float most = x[0];
  for (Index i = 1; i < width; ++i) most = x[i] > most ? x[i] : most;
  VecF sum = splat(0.0f);
  each_vector(width, [&](Index i, int lanes) {
    const VecF shifted = load_n(x + i, lanes) - splat(most), e = vexp<float>(shifted);
    sum = sum + keep_n<float>(e, lanes);
    store_n(out + i, log ? shifted : e, lanes);
  });
  const float total = sum_of_lanes(sum), logarithm = log ? std::log(total) : 0.0f;
  each_vector(width, [&](Index i, int lanes) {
    const VecF v = load_n(out + i, lanes);
    store_n(out + i, log ? v - splat(logarithm) : v / splat(total), lanes);
  });
}

inline void run_function(const runtime::FunctionCall& c) {
  if (c.function == Function::softmax || c.function == Function::log_softmax) {
    for (Index r = 0; r < c.rows; ++r)
      softmax_row(c.x + r * c.width, c.out + r * c.width, c.width,
                  c.function == Function::log_softmax);
    return;
  }
  if (c.function == Function::prelu) {
    for (Index r = 0; r < c.rows; ++r)
      each_vector(c.width, [&](Index i, int lanes) {
        const VecF x = load_n(c.x + r * c.width + i, lanes), zero = splat(0.0f);
        const VecF y = x < zero ? load_n(c.parameters + i, lanes) * x : x;
        store_n(c.out + r * c.width + i, y, lanes);
      });
    return;
  }
  each_vector(c.rows * c.width, [&](Index i, int lanes) {
    store_n(c.out + i, apply_function(c.function, load_n(c.x + i, lanes), c.parameters), lanes);
  });
}

inline void run_norm(const runtime::NormCall& c) {
  const Index size = c.width / c.groups;
  for (Index g = 0; g < c.rows * c.groups; ++g) {
    const float* x = c.x + g * size;
    float* out = c.out + g * size;
    const Index column = g % c.groups * size;
    const float mean = c.centered ? sum_of(x, size) / float(size) : 0.0f;
    VecF squares = splat(0.0f);
    each_vector(size, [&](Index i, int lanes) {
      const VecF d = keep_n<float>(load_n(x + i, lanes) - splat(mean), lanes);
      squares = fma(d, d, squares);
    });
    const float inverse = 1.0f / std::sqrt(sum_of_lanes(squares) / float(size) + c.epsilon);
    each_vector(size, [&](Index i, int lanes) {
      VecF y = (load_n(x + i, lanes) - splat(mean)) * splat(inverse);
      if (c.scale) y = y * load_n(c.scale + column + i, lanes);
      if (c.offset) y = y + load_n(c.offset + column + i, lanes);
      store_n(out + i, y, lanes);
    });
  }
}

inline void run_affine(const float* x, float* out, Index rows, Index width, const float* shift,
                       const float* scale, const float* offset) {
  for (Index r = 0; r < rows; ++r, x += width, out += width)
    each_vector(width, [&](Index i, int lanes) {
      const VecF y = (load_n(x + i, lanes) - load_n(shift + i, lanes)) * load_n(scale + i, lanes);
      store_n(out + i, y + load_n(offset + i, lanes), lanes);
    });
}

inline void run_merge(runtime::Merge kind, const float* x, float* out, Index count, bool first) {
  using runtime::Merge;
  each_vector(count, [&](Index i, int lanes) {
    VecF y = load_n(x + i, lanes);
    if (!first) {
      const VecF before = load_n(out + i, lanes);
      switch (kind) {
        case Merge::add:
        case Merge::average: y = before + y; break;
        case Merge::subtract: y = before - y; break;
        case Merge::multiply: y = before * y; break;
        case Merge::maximum: y = before > y ? before : y; break;
        case Merge::minimum: y = before < y ? before : y; break;
      }
    }
    store_n(out + i, y, lanes);
  });
}

}  // namespace RECURRA_ISA
}  // namespace recurra
