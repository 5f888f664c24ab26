// What a cell's functor sees of one row at one step, and what the scan needs to know of a cell.
//
// A functor is a struct template over T with
//   select(problem, f)   calls f with the variant that implements the problem
//   two_biases        whether a second bias row goes with the recurrent product
//   columns           vectors per unit block in the pre-activation rows
//   column_gate[]     Keras's gate index of each column
//   input             the columns that the product x.kernel feeds
//   phases, recurrent[phases]   the columns that each recurrent product feeds, in forward order
//   has_cell_state
//   forward<phase>(act, tile)    the pre-activations of this phase's columns, bias included, of
//                                some rows and unit blocks
//   backward<phase>(act, row, block, lanes)        phases in reverse order
// A unit block is kLanes units; `lanes` of them exist in the last block.  All vectors of one unit
// block lie together, so one register tile holds every gate of its units.
#pragma once

#include "activations.h"
#include "vec.h"

namespace recurra {
namespace RECURRA_ISA {

struct Columns {
  int first, count;
};

template <class T>
struct ForwardRow {
  const T* gx;      // (blocks, columns) vectors: x.kernel + bias
  const T* h_prev;  // (padded units), as are h, c, and the two below
  T* h;
  T* c;            // in: previous cell state, out: the new one
  T* update_gate;  // scratch between the phases of a two-phase cell
  T* reset_h;      // r * h_prev: what the second recurrent product multiplies
  Index offset;    // of this row and step in the per-step arrays of ForwardTile
};

// The pre-activations that one register tile produced: `count` rows by `blocks` unit blocks.
template <class T>
struct ForwardTile {
  const ForwardRow<T>* rows;
  int count;
  Index first_block;
  int blocks;
  Index units;
  T* pre;  // (count, blocks, columns of the phase) vectors; the functor may overwrite them
  int columns;
  T* output;  // nullable, as those of `save`: the user's arrays (batch, time_steps, units)
  const Slots<T*>& save;

  // Calls f(row, block, unit, lanes, pre) for each row and block.
  template <class F>
  RECURRA_INLINE void each(F&& f) const {
    T* at = pre;
    for (int m = 0; m < count; ++m)
      for (int q = 0; q < blocks; ++q, at += columns * kLanes<T>) {
        const Index u = (first_block + q) * kLanes<T>;
        const int lanes = units - u < kLanes<T> ? int(units - u) : kLanes<T>;
        f(rows[m], first_block + q, u, lanes, at);
      }
  }
};

template <class T>
struct BackwardRow {
  const T* h_prev;          // (units)
  const T* c_prev;          // (units)
  Slots<const T*> saved;    // (units); gate and pre may be null where the cell does not use them
  Slots<const T*> d_saved;  // (units), nullable
  const T* d_output;        // (units), nullable
  T* dh;       // (padded) in: gradient of h from later steps; out: the part that bypasses the
               // recurrent product
  T* pending;  // (padded) gradient of outputs that masked steps repeated from this one
  T* dc;       // (padded) in: gradient of c from later steps; out: of c_prev
  T* product;  // (padded) d(operand of the later phase's recurrent product)
  T* reset_h;  // (padded) out: r * h_prev, two-phase cells
  T* dg;       // (blocks, columns) vectors: out: gradients of the pre-activations
};

// Everything that reaches h at this step.
template <class T>
RECURRA_INLINE Vec<T> incoming_dh(const BackwardRow<T>& row, Index u, int lanes) {
  Vec<T> dh = load(row.dh + u) + load(row.pending + u);
  store(row.pending + u, splat(T(0)));
  if (row.d_output) dh = dh + load_n(row.d_output + u, lanes);
  if (row.d_saved.hidden_state) dh = dh + load_n(row.d_saved.hidden_state + u, lanes);
  return dh;
}

template <class T>
RECURRA_INLINE void save_n(T* p, Index u, Vec<T> v, int lanes) {
  if (p) store_n(p + u, v, lanes);
}
template <class T>
RECURRA_INLINE Vec<T> add_n(Vec<T> v, const T* p, Index u, int lanes) {
  return p ? v + load_n(p + u, lanes) : v;
}
// The argument of a gate's activation if it was kept, else `value` (which is not looked at).
template <class T>
RECURRA_INLINE Vec<T> kept_pre(const T* pre, Index u, int lanes, Vec<T> value) {
  return pre ? load_n(pre + u, lanes) : value;
}

}  // namespace RECURRA_ISA
}  // namespace recurra
