// The activations as vector functions: value, and derivative from the value (or the argument).
//
// exp, expm1, tanh and sigmoid are computed by range reduction x = n ln2 + r, |r| <= ln2/2, and a
// polynomial r + r^2 q(r) for expm1(r): in float32 q is the minimax polynomial of degree 4 (error
// below 2^-25.9 of r, found with Lawson's algorithm), in float64 the Taylor polynomial of degree 11
// (below 2^-56 of r).  They cover the whole range, denormal results and infinities included; NaN
// stays NaN.  gelu's erf and softplus's log1p are the C library's, lane by lane.
//
// Largest errors in float32, in units of the last place of the exact value (AVX2, generic; one
// argument in 17, of every exponent; `make check-activations` takes them all and accepts 2):
//   exp 1.05, 1.02   expm1 1.59, 1.73   tanh 1.50, 1.50   sigmoid 1.75, 1.75   silu 1.84, 1.70
//   elu 0.96, 1.08   selu 1.85, 1.93    gelu 0.51, 0.51   softplus 1.63, 1.63  softsign 1.50, 1.50
// In float64 tests allow 2, tanh 2.5, selu 3, and gelu's tail an x^2-fold of that.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "vec.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr int mantissa_bits = 23;
  static constexpr int exponent_bias = 127;
  static constexpr float round_magic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float ln2_high = 0.693359375f;    // few bits: n * ln2_high is exact
  static constexpr float ln2_low = -2.12194440054690583e-4f;
  static constexpr float lowest = -105.0f, highest = 89.0f;  // exp is 0 below and inf above
  static constexpr float tanh_saturates = 10.0f;
  static constexpr int sigmoid_shift = 32;        // see vsigmoid
  static constexpr float sigmoid_is_one = 60.0f;  // from here on, to the last bit
  static constexpr float silu_is_zero = 110.0f;   // below minus this, as is sigmoid
  static constexpr float tanh_near_zero[] = {-0.33333298563957214f, 0.13331235455108643f,
                                             -0.05356413871049881f, 0.018751218914985657f};
  static constexpr float q[] = {0.5f, 0.1666654348373413f, 0.04166628047823906f,
                                0.00836661085486412f, 0.0013946498511359096f};
};
template <>
struct ExpConstants<double> {
  static constexpr int mantissa_bits = 52;
  static constexpr int exponent_bias = 1023;
  static constexpr double round_magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 0.693147180369123816490;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double lowest = -746.0, highest = 710.0;
  static constexpr double tanh_saturates = 20.0;
  static constexpr int sigmoid_shift = 64;
  static constexpr double sigmoid_is_one = 100.0;
  static constexpr double silu_is_zero = 753.0;
  static constexpr double q[] = {1.0 / 2,        1.0 / 6,         1.0 / 24,
                                 1.0 / 120,      1.0 / 720,       1.0 / 5040,
                                 1.0 / 40320,    1.0 / 362880,    1.0 / 3628800,
                                 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
};

// 2^n from an integer whose lowest bits are n + exponent_bias, for n within the normal exponents.
template <class T>
RECURRA_INLINE Vec<T> power_of_two(typename VecTraits<T>::Int biased) {
  return from_bits<T>(biased << ExpConstants<T>::mantissa_bits);
}

template <class T>
struct Reduced {
  Vec<T> expm1_r;                     // expm1 of the reduced argument
  typename VecTraits<T>::Int biased;  // for power_of_two: the power of two, times 2^offset
};

// The addition that rounds x/ln2 to n also adds the exponent's bias: the sum's lowest bits are the
// power's exponent as it is stored.
template <class T>
RECURRA_INLINE Reduced<T> reduce_exp(Vec<T> x, int offset = 0) {
  using C = ExpConstants<T>;
  const Vec<T> magic = splat(T(C::round_magic + C::exponent_bias + offset));
  const Vec<T> shifted = fma(x, splat(T(1.44269504088896340736)), magic);
  const Vec<T> n = shifted - magic;
  const Vec<T> r = fma(n, splat(-C::ln2_low), fma(n, splat(-C::ln2_high), x));
  constexpr int last = int(sizeof C::q / sizeof C::q[0]) - 1;
  Vec<T> q = splat(C::q[last]);
#pragma GCC unroll 16
  for (int k = last - 1; k >= 0; --k) q = fma(q, r, splat(C::q[k]));
  return {fma(r * r, q, r), bits<T>(shifted)};
}

template <class T>
RECURRA_INLINE Vec<T> vexp(Vec<T> x) {
  using C = ExpConstants<T>;
  const Reduced<T> e = reduce_exp<T>(clamp<T>(x, C::lowest, C::highest));
  // Two factors: 2^n itself may be denormal or beyond the largest exponent.
  const auto n = e.biased - bits<T>(splat(T(C::round_magic + C::exponent_bias)));
  const auto half = n >> 1;
  return (e.expm1_r + splat(T(1))) * power_of_two<T>(half + C::exponent_bias) *
         power_of_two<T>(n - half + C::exponent_bias);
}

template <class T>
RECURRA_INLINE Vec<T> vabs(Vec<T> x) {
  constexpr auto all_but_sign = std::numeric_limits<typename VecTraits<T>::IntScalar>::max();
  return from_bits<T>(bits<T>(x) & all_but_sign);
}
template <class T>
RECURRA_INLINE Vec<T> copy_sign(Vec<T> magnitude, Vec<T> sign) {
  return from_bits<T>(bits<T>(magnitude) | (bits<T>(sign) & ~bits<T>(vabs<T>(sign))));
}

// tanh|x| = e / (e + 2) with e = expm1(2|x|) = 2^n expm1(r) + (2^n - 1), and near zero, where the
// three roundings would show, |x| + |x|^3 p(x^2).
template <class T>
RECURRA_INLINE Vec<T> vtanh(Vec<T> x) {
  using C = ExpConstants<T>;
  const Vec<T> a = vabs<T>(x), b = min_of(splat(C::tanh_saturates), a);
  const Reduced<T> r = reduce_exp<T>(b + b);
  const Vec<T> scale = power_of_two<T>(r.biased);
  const Vec<T> e = fma(scale, r.expm1_r, scale - splat(T(1)));
  Vec<T> y = e / (e + splat(T(2)));
  if constexpr (std::is_same_v<T, float>) {
    const Vec<T> square = x * x;
    Vec<T> p = splat(C::tanh_near_zero[3]);
#pragma GCC unroll 3
    for (int k = 2; k >= 0; --k) p = fma(p, square, splat(C::tanh_near_zero[k]));
    y = a < splat(0.4f) ? fma(a * square, p, a) : y;
  }
  return copy_sign<T>(y, x);
}

// sigmoid(x) = one / denominator, which is 1 + exp(-x): both times 2^-shift so that exp(-x) does
// not overflow.  1 + exp(-x) = 2^n + 1 + 2^n expm1(r) is rounded once: where 2^n + 1 is not exact,
// what it lost is added to the last term, which is exact where it is.
template <class T>
struct Logistic {
  Vec<T> one, denominator;
};
template <class T>
RECURRA_INLINE Logistic<T> logistic(Vec<T> x) {
  using C = ExpConstants<T>;
  const Vec<T> one = power_of_two<T>(bits<T>(splat(T(0))) + (C::exponent_bias - C::sigmoid_shift));
  const Vec<T> y = clamp<T>(-x, -C::sigmoid_is_one, C::silu_is_zero);
  const Reduced<T> r = reduce_exp<T>(y, -C::sigmoid_shift);
  const Vec<T> scale = power_of_two<T>(r.biased);
  const Vec<T> sum = scale + one, lost = one - (sum - scale);
  return {one, sum + fma(scale, r.expm1_r, lost)};
}

template <class T>
RECURRA_INLINE Vec<T> vsigmoid(Vec<T> x) {
  const Logistic<T> l = logistic<T>(x);
  return l.one / l.denominator;
}

// x sigmoid(x) as one quotient: sigmoid may be denormal where silu is not.
template <class T>
RECURRA_INLINE Vec<T> vsilu(Vec<T> x) {
  const Logistic<T> l = logistic<T>(x);
  const Vec<T> least = splat(-ExpConstants<T>::silu_is_zero);
  const Vec<T> y = (x < least ? least : x) * l.one / l.denominator;
  return vabs<T>(x) < splat(T(0x1p-60)) ? x * splat(T(0.5)) : y;  // x one may be denormal
}

template <class T>
RECURRA_INLINE Vec<T> vexpm1(Vec<T> x) {
  using C = ExpConstants<T>;
  const Vec<T> one = splat(T(1));
  const Vec<T> c = clamp<T>(x, T(-40), C::highest);
  const Reduced<T> r = reduce_exp<T>(c);
  const auto n = r.biased - bits<T>(splat(T(C::round_magic + C::exponent_bias)));
  const auto half = n >> 1;  // 2^n overflows before expm1 does
  const Vec<T> s1 = power_of_two<T>(half + C::exponent_bias),
               s2 = power_of_two<T>(n - half + C::exponent_bias);
  const Vec<T> small = fma(s1 * s2, r.expm1_r, s1 * s2 - one);
  const Vec<T> large = (r.expm1_r + one) * s1 * s2;
  return c > splat(T(40)) ? large : small;
}

template <class T, class F>
inline Vec<T> lane_by_lane(Vec<T> x, F f) {
  T buffer[kLanes<T>];
  store(buffer, x);
  for (int i = 0; i < kLanes<T>; ++i) buffer[i] = T(f(buffer[i]));
  return load(buffer);
}

// Klambauer et al. 2017, https://arxiv.org/abs/1706.02515.
inline constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
inline constexpr double kSeluScale = 1.0507009873554804934193349852946;

// Phi(x), the normal distribution function, of gelu(x) = x Phi(x).  In float32 both are computed in
// double precision: the tail multiplies a rounding of the argument by x^2.
RECURRA_INLINE double normal_cdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }

template <class T>
inline Vec<T> activate(Activation kind, Vec<T> x) {
  const Vec<T> zero = splat(T(0)), one = splat(T(1));
  switch (kind) {
    case Activation::tanh: return vtanh<T>(x);
    case Activation::sigmoid: return vsigmoid<T>(x);
    case Activation::hard_sigmoid: {
      Vec<T> y = (x + splat(T(3))) * splat(T(1.0 / 6));  // exact near its zero at -3
      y = y < zero ? zero : y;
      return y > one ? one : y;
    }
    case Activation::relu: return x < zero ? zero : x;
    case Activation::softsign: return x / (one + vabs<T>(x));
    case Activation::elu: return x > zero ? x : vexpm1<T>(x);
    case Activation::selu:
      return x > zero ? splat(T(kSeluScale)) * x : splat(T(kSeluScale * kSeluAlpha)) * vexpm1<T>(x);
    case Activation::gelu: return lane_by_lane<T>(x, [](double v) { return v * normal_cdf(v); });
    case Activation::silu: return vsilu<T>(x);
    case Activation::exponential: return vexp<T>(x);
    case Activation::softplus: {
      const Vec<T> tail = lane_by_lane<T>(vexp<T>(-vabs<T>(x)), [](T v) { return std::log1p(v); });
      return (x < zero ? zero : x) + tail;
    }
    case Activation::linear: break;
  }
  return x;
}

// d activate / d x, from y = activate(x); x is read only where derivative_needs_input(kind).
template <class T>
inline Vec<T> activation_slope(Activation kind, Vec<T> x, Vec<T> y) {
  const Vec<T> zero = splat(T(0)), one = splat(T(1));
  switch (kind) {
    case Activation::tanh: return fma(-y, y, one);
    case Activation::sigmoid: return y * (one - y);
    case Activation::hard_sigmoid: {
      const Vec<T> inside = y < one ? splat(T(1.0 / 6)) : zero;
      return y > zero ? inside : zero;
    }
    case Activation::relu: return y > zero ? one : zero;
    case Activation::softsign: {
      const Vec<T> rest = one - vabs<T>(y);
      return rest * rest;
    }
    case Activation::elu: return y > zero ? one : y + one;
    case Activation::selu:
      return y > zero ? splat(T(kSeluScale)) : y + splat(T(kSeluScale * kSeluAlpha));
    case Activation::gelu: {
      const Vec<T> density = vexp<T>(x * x * splat(T(-0.5))) * splat(T(0.39894228040143267794));
      return fma(x, density, lane_by_lane<T>(x, [](double v) { return normal_cdf(v); }));
    }
    case Activation::silu: {
      const Vec<T> s = vsigmoid<T>(x);
      return fma(y, one - s, s);
    }
    case Activation::exponential: return y;
    case Activation::softplus: return -vexpm1<T>(-y);
    case Activation::linear: break;
  }
  return one;
}

// The two activations of a layer.  The default pair is known at compile time, so its code is
// inlined into the cells; any other pair is chosen by one well-predicted branch per vector.
template <class T>
struct DefaultActivations {
  DefaultActivations(Activation, Activation) {}
  RECURRA_INLINE Vec<T> main(Vec<T> x) const { return vtanh<T>(x); }
  RECURRA_INLINE Vec<T> gate(Vec<T> x) const { return vsigmoid<T>(x); }
  RECURRA_INLINE Vec<T> main_slope(Vec<T>, Vec<T> y) const { return fma(-y, y, splat(T(1))); }
  RECURRA_INLINE Vec<T> gate_slope(Vec<T>, Vec<T> y) const { return y * (splat(T(1)) - y); }
};
template <class T>
struct AnyActivations {
  Activation main_kind, gate_kind;
  AnyActivations(Activation m, Activation g) : main_kind(m), gate_kind(g) {}
  Vec<T> main(Vec<T> x) const { return activate<T>(main_kind, x); }
  Vec<T> gate(Vec<T> x) const { return activate<T>(gate_kind, x); }
  Vec<T> main_slope(Vec<T> x, Vec<T> y) const { return activation_slope<T>(main_kind, x, y); }
  Vec<T> gate_slope(Vec<T> x, Vec<T> y) const { return activation_slope<T>(gate_kind, x, y); }
};

}  // namespace RECURRA_ISA
}  // namespace recurra
