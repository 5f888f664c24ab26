// Products with a matrix of weights: dense layers, and convolutions as one chain over their taps.
#pragma once

#include "../gemm.h"
#include "../workspace.h"
#include "op_kernels.h"

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

inline void run_product(const runtime::ProductCall& call) {
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
