// Products A^T B over the (step, row) pairs: the weights' gradients.
//
// A's columns are cut into strips as wide as a register tile is high, packed one after the other as
// (pairs, strip's columns).  A tile reads its strip and B from one end to the other, and a stretch
// of both is small enough to stay in the nearest cache while the strips pass.
#pragma once

#include "gemm.h"

namespace recurra {
namespace RECURRA_ISA {

// How a matrix A is packed: pair n of a strip that begins at `column` and is `width` wide lies at
// data + column * capacity + n * width.
template <class Op>
struct Strips {
  Op* data = nullptr;
  Index columns = 0;
  Index capacity = 0;  // pairs there is room for, or operands of two
  int widest = 1;

  EvenSplit split() const { return EvenSplit(columns, widest); }
  Index size() const { return columns * capacity; }
};

// Room for the pairs of a chunk: a few more than there are, since strips that lie a multiple of
// 4 KiB apart would compete for the same lines of the nearest cache.
constexpr Index padded_pairs(Index pairs) { return pairs + 8; }

template <class P, class T, int Width>
void pack_strips_of(const T* const* rows, const T* const* masks, Index count, Index pair,
                    Index pairs, Index column, Index end, const Strips<typename P::Operand>& out) {
  // A few rows at a time: rows of different sequences may all fall on the same cache lines.
  constexpr Index kRows = 4;
  for (Index first = 0; first < count; first += kRows) {
    const Index last = first + kRows < count ? first + kRows : count;
    for (Index k = column; k < end; k += Width) {
      for (Index n = first; n < last; ++n) {
        auto* to = out.data + k * out.capacity + P::step_of(pair + n) * Width;
        T product[Width];
        const T* from = rows[n] + k;
        if (masks) {
          for (int i = 0; i < Width; ++i) product[i] = from[i] * masks[n][k + i];
          from = product;
        }
        if constexpr (P::converts)
          P::add_row(from, Width, pair + n, pairs, to);
        else
          std::memcpy(to, from, sizeof product);
      }
    }
  }
}

// Packs `count` rows of A (times masks, unless null) as pairs `pair` and following of `pairs`.
template <class P, class T, int Width = 1>
void pack_strips(const T* const* rows, const T* const* masks, Index count, Index pair, Index pairs,
                 const Strips<typename P::Operand>& out) {
  const EvenSplit split = out.split();
  const Index wide = split.larger * (split.base + 1);  // columns in the strips of one more
  if (split.base + 1 == Width)
    pack_strips_of<P, T, Width>(rows, masks, count, pair, pairs, 0, wide, out);
  if (split.base == Width)
    pack_strips_of<P, T, Width>(rows, masks, count, pair, pairs, wide, out.columns, out);
  if constexpr (Width < kMaxTileRows)
    pack_strips<P, T, Width + 1>(rows, masks, count, pair, pairs, out);
}

// The strides of a tile of A^T B, in elements.
struct TransposedStrides {
  Index b_pair;      // from pair to pair in B
  Index b_vector;    // from vector to vector in B
  Index out_row;     // from row to row of the result
  Index out_vector;  // from vector to vector of the result
};

// out[m][v] += sum_n a[n][m] b[n][v] over n = 0..count-1.
template <class Op, int Rows, int Vectors>
__attribute__((noinline)) void multiply_transposed_tile(const Op* a, Index count, const Op* b,
                                                        const TransposedStrides& strides,
                                                        Sum<Op>* out) {
  const Index b_pair = strides.b_pair, b_vector = strides.b_vector;
  const Index out_row = strides.out_row, out_vector = strides.out_vector;
  Vec<Sum<Op>> acc[Rows][Vectors];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[m][v] = load(out + m * out_row + v * out_vector);
  for (Index n = 0; n < count; ++n) {
    Vec<Op> bv[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) bv[v] = load(b + v * b_vector);
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      const Vec<Op> am = splat(a[m]);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) acc[m][v] = fma(am, bv[v], acc[m][v]);
    }
    a += Rows;
    b += b_pair;
  }
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(out + m * out_row + v * out_vector, acc[m][v]);
}

template <class Op>
using TransposedTileFn = void (*)(const Op*, Index, const Op*, const TransposedStrides&, Sum<Op>*);
template <class Op>
struct TransposedTileTable {
  TransposedTileFn<Op> tile[kMaxTileRows][kMaxVectors] = {};
};
template <class Op, int R, int V>
constexpr void fill_transposed_tile(TransposedTileTable<Op>& t) {
  if constexpr (tile_exists(R, V, 1)) t.tile[R - 1][V - 1] = &multiply_transposed_tile<Op, R, V>;
  if constexpr (V < kMaxVectors)
    fill_transposed_tile<Op, R, V + 1>(t);
  else if constexpr (R < kMaxTileRows)
    fill_transposed_tile<Op, R + 1, 1>(t);
}
template <class Op>
constexpr TransposedTileTable<Op> make_transposed_tile_table() {
  TransposedTileTable<Op> t{};
  fill_transposed_tile<Op, 1, 1>(t);
  return t;
}
template <class Op>
inline constexpr TransposedTileTable<Op> kTransposedTiles = make_transposed_tile_table<Op>();

// out += A^T B for pairs first .. first+count-1, the strips first_strip .. last_strip-1 and
// `vectors` vectors of B, which is given from pair 0 on; as `out`, which is given from A's column
// 0.
template <class Op>
void multiply_transposed(const Strips<Op>& a, Index first_strip, Index last_strip, Index first,
                         Index count, const Op* b, int vectors, const TransposedStrides& strides,
                         Sum<Op>* out) {
  const EvenSplit split = a.split();
  Index column =
      first_strip * split.base + (first_strip < split.larger ? first_strip : split.larger);
  for (Index strip = first_strip; strip < last_strip; ++strip) {
    const Index width = split.size(strip);
    kTransposedTiles<Op>.tile[width - 1][vectors - 1](a.data + column * a.capacity + first * width,
                                                      count, b, strides,
                                                      out + column * strides.out_row);
    column += width;
  }
}

}  // namespace RECURRA_ISA
}  // namespace recurra
