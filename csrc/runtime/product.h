// Products with a matrix of weights: dense layers, and convolutions as one chain over their taps.
#pragma once

#include "../gemm.h"
#include "../workspace.h"
#include "op_kernels.h"
#include "pointwise.h"

namespace recurra {
namespace RECURRA_ISA {

// Where a product's packed weights lie; with a null base it only measures.
struct PackedProduct {
  Panels<float> weights;
  float* bias;
  std::size_t bytes;

  PackedProduct(Index depth, Index columns, char* base) {
    Arena arena(base);
    weights = plain_panels<float>(columns, depth);
    weights.data = arena.take<float>(weights.size());
    bias = arena.take<float>(weights.count * weights.width());
    bytes = arena.used();
  }

  void pack(Index columns, const float* from, const float* b) {
    const Index width = weights.width();
    for (Index p = 0; p < weights.count; ++p)
      for (Index j = 0; j < width; ++j) {
        const Index column = p * width + j;
        const bool exists = column < columns;
        bias[column] = exists && b ? b[column] : 0.0f;
        for (Index k = 0; k < weights.depth; ++k)
          weights.panel(p)[k * width + j] = exists ? from[k * columns + column] : 0.0f;
      }
  }
};

// So few columns leave most lanes of a panel without work: their products run over the lanes
// instead, as `columns` dot products with weights packed column by column.
RECURRA_INLINE bool is_narrow(Index columns) { return columns <= kLanes<float> / 2; }

struct PackedColumns {
  Index stretch;  // floats of a column's weights for one of the outer stretches
  float *weights, *bias;
  std::size_t bytes;

  PackedColumns(Index outer, Index inner, Index columns, char* base) {
    Arena arena(base);
    stretch = (inner + kLanes<float> - 1) / kLanes<float> * kLanes<float>;
    weights = arena.take<float>(columns * outer * stretch);
    bias = arena.take<float>(columns);
    bytes = arena.used();
  }

  void pack(Index outer, Index inner, Index columns, const float* from, const float* b) {
    for (Index c = 0; c < columns; ++c) {
      bias[c] = b ? b[c] : 0.0f;
      for (Index o = 0; o < outer; ++o)
        for (Index i = 0; i < stretch; ++i)
          weights[(c * outer + o) * stretch + i] =
              i < inner ? from[(o * inner + i) * columns + c] : 0.0f;
    }
  }
};

RECURRA_INLINE float dot(const runtime::ProductCall& call, const float* x, const float* w,
                         Index stretch) {
  constexpr int L = kLanes<float>;
  VecF sum[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  for (Index o = 0; o < call.outer; ++o, x += call.stretch, w += stretch) {
    Index i = 0;
    for (; i + 4 * L <= call.inner; i += 4 * L)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) sum[n] = fma(load(x + i + n * L), load(w + i + n * L), sum[n]);
    for (; i < call.inner; i += L) {
      const Index left = call.inner - i;
      sum[0] = fma(load_n(x + i, left < L ? int(left) : L), load(w + i), sum[0]);
    }
  }
  return sum_of_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

inline void run_narrow_product(const runtime::ProductCall& call) {
  const PackedColumns packed(call.outer, call.inner, call.columns, const_cast<char*>(call.packed));
  for (Index r = 0; r < call.rows; ++r)
    for (Index t = 0; t < call.steps; ++t) {
      const float* const x = call.x + r * call.x_row + t * call.x_step;
      float* const out = call.out.data + r * call.out.row + t * call.columns;
      for (Index c = 0; c < call.columns; ++c) {
        const float* const w = packed.weights + c * call.outer * packed.stretch;
        out[c] = dot(call, x, w, packed.stretch) + packed.bias[c];
      }
    }
}

inline void run_product(const runtime::ProductCall& call) {
  if (is_narrow(call.columns)) return run_narrow_product(call);
  constexpr int L = kLanes<float>;
  constexpr Index kMost = 120;  // rows at a time: a multiple of the tiles' heights
  const PackedProduct packed(call.outer * call.inner, call.columns, const_cast<char*>(call.packed));
  const Index width = packed.weights.width();
  const Depth depth = {call.outer, call.inner, call.stretch, call.inner * width};
  const float* a[kMost];
  float* out[kMost];
  Index n = 0;
  const auto flush = [&] {
    const Product<float> products[] = {{a, depth, &packed.weights}};
    const Initial<float> bias = {packed.bias, 0, width};
    multiply<float, false>(products, n, 0, packed.weights.count, bias, false,
                           [&](const float* tile, Index panel, int panels, Index row, int rows) {
                             const int vectors = panels * packed.weights.vectors;
                             for (int m = 0; m < rows; ++m)
                               for (int v = 0; v < vectors; ++v) {
                                 const Index column = panel * width + v * L;
                                 const Index left = call.columns - column;
                                 if (left <= 0) break;
                                 store_n(out[row + m] + column, load(tile + (m * vectors + v) * L),
                                         left < L ? int(left) : L);
                               }
                           });
    n = 0;
  };
  for (Index r = 0; r < call.rows; ++r)
    for (Index t = 0; t < call.steps; ++t) {
      a[n] = call.x + r * call.x_row + t * call.x_step;
      out[n] = call.out.data + r * call.out.row + t * call.columns;
      if (++n == kMost) flush();
    }
  flush();
}

}  // namespace RECURRA_ISA
}  // namespace recurra
