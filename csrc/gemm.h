// The engine's matrix products: packing, and two register-tiled micro-kernels.
//
// Every element of a result is one chain of fused multiply-adds in ascending k from its initial
// value.  The tile a row falls into never changes that chain, so a row's bits depend neither on
// the rows beside it nor on how work was divided.
#pragma once

#include <type_traits>

#include "products.h"

namespace recurra {
namespace RECURRA_ISA {

// A tile of rows * vectors accumulators stays in registers, beside the vectors of B and one
// broadcast element of A.
#if defined(RECURRA_ISA_AVX512)
inline constexpr int kTileBudget = 24;  // of 32 registers
inline constexpr int kMaxTileRows = 8;
#else
inline constexpr int kTileBudget = 12;  // of 16
inline constexpr int kMaxTileRows = 6;
#endif
inline constexpr int kMaxVectors = 4;  // vectors of one packed panel
inline constexpr int kMaxPanels = 4;   // panels that one tile may span
inline constexpr int kMaxTileVectors = 12;

constexpr int tile_budget(int vectors) {
  return kTileBudget == 12 && vectors >= 4 ? 8 : kTileBudget;  // 3 x 4 would spill
}
constexpr bool tile_exists(int rows, int vectors, int panels) {
  return vectors * panels <= kMaxTileVectors &&
         rows * vectors * panels <= tile_budget(vectors * panels);
}
// How many of a panel's vectors one tile takes.  Where registers are few, two passes of many rows
// by two vectors read the panel less often than one of two rows by four.
constexpr int vectors_per_tile(Index rows, int vectors) {
  return kTileBudget == 12 && vectors == 4 && rows >= 3 ? 2 : vectors;
}
// Few rows: span several panels, so that enough independent chains hide the FMA latency.
constexpr int panels_for(int rows, int vectors) {
  int best = 1;
  for (int p = 1; p <= kMaxPanels; ++p) {
    const bool wanted = vectors * p <= (rows <= 2 ? 12 : rows == 3 ? 8 : 4);
    if (wanted && tile_exists(rows, vectors, p)) best = p;
  }
  return best;
}
constexpr int max_rows_for(int vectors) {
  int best = 1;
  for (int r = 1; r <= kMaxTileRows; ++r)
    if (tile_exists(r, vectors, 1)) best = r;
  return best;
}

// k runs over `outer` stretches of `inner` consecutive columns of A.
struct Depth {
  Index outer, inner;
  Index a_step, b_step;  // from one stretch to the next
};

// A stretch of a product's k: rows of A and the panels of B that they meet.
template <class Op>
struct Factors {
  const Op* const* a;  // rows
  Index a_first;       // the first of a row's elements that is used
  Depth depth;
  const Op* b;    // the first panel's first row
  Index b_k;      // from k to k in B, in elements
  Index b_panel;  // from panel to panel in B
};

// tile[m][p][v] = init[m][p][v] + sum_k a[m][k] b[k][p][v], over one factor after the other.
//   a     with PerVector each k holds a_k values, one for every vector of the panel
//   init  the first row of initial values, the next ones init_row elements apart; null for zero
template <class Op, int Rows, int Vectors, int Panels, bool PerVector>
__attribute__((noinline)) void multiply_tile(const Factors<Op>* factors, int count,
                                             const Sum<Op>* init, Index init_row, Index init_panel,
                                             Index a_k, Sum<Op>* tile, Index tile_row) {
  using T = Sum<Op>;
  constexpr int L = kLanes<T>;
  constexpr int N = Panels * Vectors;
  Vec<T> acc[Rows][N];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 12
    for (int n = 0; n < N; ++n)
      acc[m][n] = init ? load(init + m * init_row + (n / Vectors) * init_panel + (n % Vectors) * L)
                       : splat(T(0));
  for (const Factors<Op>* f = factors; f != factors + count; ++f) {
    const Op* rows[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) rows[m] = f->a[m] + f->a_first;
    const Index step = PerVector ? a_k : 1, b_k = f->b_k, b_panel = f->b_panel;
    for (Index o = 0; o < f->depth.outer; ++o) {
      const Op* bk = f->b + o * f->depth.b_step;
      Index at = o * f->depth.a_step;
      for (Index k = 0; k < f->depth.inner; ++k) {
        __builtin_prefetch(bk + 12 * b_k);
        Vec<Op> bv[N];
#pragma GCC unroll 12
        for (int n = 0; n < N; ++n) bv[n] = load(bk + (n / Vectors) * b_panel + (n % Vectors) * L);
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
          if constexpr (PerVector) {
#pragma GCC unroll 12
            for (int n = 0; n < N; ++n)
              acc[m][n] = fma(splat(rows[m][at + n % Vectors]), bv[n], acc[m][n]);
          } else {
            const Vec<Op> am = splat(rows[m][at]);
#pragma GCC unroll 12
            for (int n = 0; n < N; ++n) acc[m][n] = fma(am, bv[n], acc[m][n]);
          }
        }
        at += step;
        bk += b_k;
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 12
    for (int n = 0; n < N; ++n) store(tile + m * tile_row + n * L, acc[m][n]);
}

template <class Op>
using TileFn = void (*)(const Factors<Op>*, int, const Sum<Op>*, Index, Index, Index, Sum<Op>*,
                        Index);

template <class Op>
struct TileTable {
  TileFn<Op> plain[kMaxTileRows][kMaxVectors][kMaxPanels] = {};
  TileFn<Op> per_vector[kMaxTileRows][kMaxVectors][kMaxPanels] = {};
};

template <class Op, int R, int V, int P>
constexpr void fill_tile(TileTable<Op>& t) {
  if constexpr (tile_exists(R, V, P) && P <= panels_for(R, V)) {
    t.plain[R - 1][V - 1][P - 1] = &multiply_tile<Op, R, V, P, false>;
    t.per_vector[R - 1][V - 1][P - 1] = &multiply_tile<Op, R, V, P, true>;
  }
  if constexpr (P < kMaxPanels)
    fill_tile<Op, R, V, P + 1>(t);
  else if constexpr (V < kMaxVectors)
    fill_tile<Op, R, V + 1, 1>(t);
  else if constexpr (R < kMaxTileRows)
    fill_tile<Op, R + 1, 1, 1>(t);
}
template <class Op>
constexpr TileTable<Op> make_tile_table() {
  TileTable<Op> t{};
  fill_tile<Op, 1, 1, 1>(t);
  return t;
}
template <class Op>
inline constexpr TileTable<Op> kTiles = make_tile_table<Op>();

// `total` rows in the fewest tiles of at most `most` rows, as even as they can be.
struct EvenSplit {
  Index parts, base, larger;  // the first `larger` parts have base + 1
  EvenSplit(Index total, Index most) {
    parts = (total + most - 1) / most;
    base = parts ? total / parts : 0;
    larger = parts ? total % parts : 0;
  }
  Index size(Index part) const { return base + (part < larger ? 1 : 0); }
};

// A weight matrix in panels of `vectors` vectors: panel p, row k at data + (p*depth + k)*width.
template <class Op>
struct Panels {
  Op* data = nullptr;
  Index count = 0;  // panels
  Index depth = 0;  // rows k, or pairs of them
  int vectors = 0;
  Index width() const { return Index(vectors) * kLanes<Op>; }
  Index panel_size() const { return depth * width(); }
  const Op* panel(Index p) const { return data + p * panel_size(); }
  Op* panel(Index p) { return data + p * panel_size(); }
  Index size() const { return count * panel_size(); }
};

// One product of A (row pointers) and B.
template <class Op>
struct Product {
  const Op* const* a;
  Depth depth;
  const Panels<Op>* b;
  Index b_first = 0;  // the first of B's rows that is used, in elements of a panel
};

// What a sum of products starts from: `row` elements from row to row, `panel` from panel to panel;
// null for zero.
template <class T>
struct Initial {
  const T* data = nullptr;
  Index row = 0, panel = 0;
};

// Runs body(tile, panel, panels, row, rows) (which may overwrite the tile) for all rows times the
// panels first_panel .. last_panel-1 of a sum of products, whose matrices B are cut into panels
// alike; tile is (rows, panels, vectors) vectors.  Panels outside, rows inside: a panel is read
// from the nearest cache by all rows after the first.  `descending` takes the panels from the last
// to the first: a loop that alternates finds half of what it last read still in the cache, where
// one that always starts at the first finds nothing once B is larger than the cache.
template <class Op, bool PerVector, int Products, class Body>
RECURRA_INLINE void multiply(const Product<Op> (&products)[Products], Index rows, Index first_panel,
                             Index last_panel, Initial<Sum<Op>> init, bool descending,
                             Body&& body) {
  using T = Sum<Op>;
  constexpr int L = kLanes<T>;
  if (rows == 0) return;
  const int v = products[0].b->vectors, v_tile = vectors_per_tile(rows, v);
  const EvenSplit split(rows, max_rows_for(v_tile));
  const int widest = v_tile == v ? panels_for(int(split.size(0)), v) : 1;
  alignas(64) T tile[kMaxTileRows * kMaxTileVectors * L];
  const auto& table = PerVector ? kTiles<Op>.per_vector : kTiles<Op>.plain;
  const Index strips = (last_panel - first_panel + widest - 1) / widest;
  for (Index i = 0; i < strips; ++i) {
    const Index p = first_panel + (descending ? strips - 1 - i : i) * widest;
    const int panels = int(last_panel - p < widest ? last_panel - p : widest);
    Index row = 0;
    for (Index part = 0; part < split.parts; ++part) {
      const int n = int(split.size(part));
      for (int first = 0; first < v; first += v_tile) {
        Factors<Op> factors[Products];
        for (int f = 0; f < Products; ++f) {
          const Product<Op>& from = products[f];
          factors[f] = {from.a + row,    PerVector ? first : 0,
                        from.depth,      from.b->panel(p) + from.b_first + first * L,
                        from.b->width(), from.b->panel_size()};
        }
        const T* const start =
            init.data ? init.data + row * init.row + p * init.panel + first * L : nullptr;
        table[n - 1][v_tile - 1][panels - 1](factors, Products, start, init.row, init.panel, v,
                                             tile + first * L, Index(panels) * v * L);
      }
      body(tile, p, panels, row, n);
      row += n;
    }
  }
}

// The same for one product, which starts from zero, and all panels.
template <class Op, bool PerVector, class Body>
RECURRA_INLINE void multiply(const Op* const* a, Index rows, Depth depth, const Panels<Op>& b,
                             Index b_first, bool descending, Body&& body) {
  const Product<Op> products[] = {{a, depth, &b, b_first}};
  multiply<Op, PerVector>(products, rows, 0, b.count, {}, descending, body);
}

// How a plain (not gate-interleaved) matrix of `columns` columns is cut into panels.
template <class Op>
inline Panels<Op> plain_panels(Index columns, Index depth) {
  const Index vectors = (columns + kLanes<Op> - 1) / kLanes<Op>;
  Panels<Op> p;
  p.count = (vectors + kMaxVectors - 1) / kMaxVectors;
  if (p.count == 0) p.count = 1;
  p.vectors = int((vectors + p.count - 1) / p.count);
  if (p.vectors == 0) p.vectors = 1;
  p.depth = depth;
  return p;
}

}  // namespace RECURRA_ISA
}  // namespace recurra
