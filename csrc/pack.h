// Weights between Keras's layout (rows, gates*units) and the engine's panels.
#pragma once

#include "cell.h"
#include "gemm.h"
#include "team.h"
#include "workspace.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T>
RECURRA_INLINE int lanes_of(Index units, Index block) {
  const Index left = units - block * kLanes<T>;
  return left >= kLanes<T> ? kLanes<T> : left > 0 ? int(left) : 0;
}
template <class T>
RECURRA_INLINE Index blocks_of(Index units) {
  return (units + kLanes<T> - 1) / kLanes<T>;
}

// One panel per unit block: the block's columns `part` of a (rows, gates*units) matrix.
template <class Op>
Panels<Op> gate_panels(Index units, Index depth, Columns part) {
  Panels<Op> p;
  p.count = blocks_of<Op>(units);
  p.depth = depth;
  p.vectors = part.count;
  return p;
}
// P says what of it a product multiplies (see products.h).
template <class T, class C, class P>
void pack_gates(const T* w, Index rows, Index units, int gates, Columns part,
                Panels<typename P::Operand>& out, Index block) {
  constexpr int L = kLanes<T>;
  const int lanes = lanes_of<T>(units, block);
  for (Index step = 0; step < out.depth; ++step)
    for (int c = 0; c < part.count; ++c) {
      const T* from = w + C::column_gate[part.first + c] * units + block * L;
      const auto row = [&](Index k) { return load_n(from + k * gates * units, lanes); };
      store(out.panel(block) + (step * part.count + c) * L, P::operand(step, rows, row));
    }
}
// The inverse, for gradients: the panel's rows into the matrix.
template <class T, class C>
void unpack_gates(const Panels<T>& in, Index units, int gates, Columns part, Index block, T* w) {
  constexpr int L = kLanes<T>;
  const int lanes = lanes_of<T>(units, block);
  for (Index k = 0; k < in.depth; ++k)
    for (int c = 0; c < part.count; ++c) {
      T* to = w + k * gates * units + C::column_gate[part.first + c] * units + block * L;
      store_n(to, load(in.panel(block) + (k * part.count + c) * L), lanes);
    }
}

// The transpose, for products with the pre-activations' gradients: k runs over (block, column of
// `part`, lane), the panels over the matrix's rows.
template <class T, class C, class P>
void pack_transposed(const T* w, Index rows, Index units, int gates, Columns part,
                     Panels<typename P::Operand>& out, Index panel) {
  constexpr int L = kLanes<T>;
  const Index width = out.width();
  auto* to = out.panel(panel);
  std::memset(to, 0, sizeof(*to) * std::size_t(out.panel_size()));
  const Index blocks = blocks_of<T>(units);
  for (Index j = 0; j < width; ++j) {
    const Index row = panel * width + j;
    if (row >= rows) break;
    for (Index b = 0; b < blocks; ++b) {
      const int lanes = lanes_of<T>(units, b);
      for (int c = 0; c < part.count; ++c) {
        const T* from = w + row * gates * units + C::column_gate[part.first + c] * units + b * L;
        const Index k = (b * part.count + c) * L;
        for (int l = 0; l < lanes; ++l) P::put(to, k + l, width, j, from[l]);
      }
    }
  }
}

// The bias of each pre-activation column.  GRU with reset_after has a second bias row for the
// recurrent product; it joins the first one where both are added to the same column.
template <class T, class C>
void pack_bias(const T* bias, Index units, int gates, T* out) {
  constexpr int L = kLanes<T>;
  const Index blocks = blocks_of<T>(units);
  std::memset(out, 0, sizeof(T) * std::size_t(blocks * C::columns * L));
  if (!bias) return;
  const T* second = C::two_biases ? bias + gates * units : nullptr;
  for (Index b = 0; b < blocks; ++b) {
    const int lanes = lanes_of<T>(units, b);
    for (int c = 0; c < C::columns; ++c) {
      const Index at = C::column_gate[c] * units + b * L;
      const bool from_input = c < C::input.first + C::input.count;
      const bool from_recurrent = C::two_biases && c >= C::recurrent[0].first;
      Vec<T> v = from_input ? load_n(bias + at, lanes) : splat(T(0));
      if (from_recurrent) v = v + load_n(second + at, lanes);
      store(out + (b * C::columns + c) * L, v);
    }
  }
}
// The inverse, for its gradient.
template <class T, class C>
void unpack_bias(const T* in, Index units, int gates, T* dbias) {
  constexpr int L = kLanes<T>;
  for (Index b = 0; b < blocks_of<T>(units); ++b) {
    const int lanes = lanes_of<T>(units, b);
    for (int c = 0; c < C::columns; ++c) {
      const Index at = C::column_gate[c] * units + b * L;
      const Vec<T> v = load(in + (b * C::columns + c) * L);
      if (c < C::input.first + C::input.count) store_n(dbias + at, v, lanes);
      if (C::two_biases && c >= C::recurrent[0].first)
        store_n(dbias + gates * units + at, v, lanes);
    }
  }
}

// A row times its dropout masks, one value per column of `part` and k when there is a mask per
// gate, else one per k.  masks: (gates or 1, batch, size); row b of each.
template <class T, class C>
void apply_dropout(const T* row, const T* masks, bool per_gate, Index batch, Index b, Index size,
                   Columns part, T* out) {
  if (!per_gate) {
    const T* m = masks + b * size;
    for (Index k = 0; k < size; ++k) out[k] = row[k] * m[k];
    return;
  }
  for (int c = 0; c < part.count; ++c) {
    const T* m = masks + (C::column_gate[part.first + c] * batch + b) * size;
    for (Index k = 0; k < size; ++k) out[k * part.count + c] = row[k] * m[k];
  }
}

// A stretch of the sequence in processing order: first, ..., last - 1.
struct Steps {
  Index first, last;
};

// Rows that one thread takes through the whole sequence together: few enough for their states to
// stay in the nearest cache, an even share for every thread.
RECURRA_INLINE EvenSplit row_groups(Index batch, int threads) {
  constexpr Index most = 48;
  Index groups = (batch + most - 1) / most;
  if (groups % threads) groups += threads - groups % threads;
  if (groups > batch) groups = batch;
  return EvenSplit(batch, groups ? (batch + groups - 1) / groups : 1);
}
RECURRA_INLINE Index group_start(const EvenSplit& s, Index group) {
  return group * s.base + (group < s.larger ? group : s.larger);
}

template <class P, class F>
RECURRA_INLINE void for_each_slot(Slots<P>& s, F&& f) {
  for (auto& g : s.gate) f(g);
  f(s.cell_state);
  f(s.hidden_state);
  f(s.recurrent_candidate);
  for (auto& g : s.pre) f(g);
}

// The slots' rows of sequence element (b, s), from the slots' arrays.
template <class Q, class P>
RECURRA_INLINE Slots<Q> slot_rows(const Slots<P>& arrays, Index offset) {
  const auto at = [offset](P p) { return p ? static_cast<Q>(p) + offset : Q(nullptr); };
  Slots<Q> r;
  for (int g = 0; g < kMaxGates; ++g) {
    r.gate[g] = at(arrays.gate[g]);
    r.pre[g] = at(arrays.pre[g]);
  }
  r.cell_state = at(arrays.cell_state);
  r.hidden_state = at(arrays.hidden_state);
  r.recurrent_candidate = at(arrays.recurrent_candidate);
  return r;
}

}  // namespace RECURRA_ISA
}  // namespace recurra
