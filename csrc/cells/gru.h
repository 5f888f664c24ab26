// GRU (Cho et al. 2014, https://arxiv.org/abs/1406.1078), Keras's gate order z, r, h:
//   z, r = recurrent_activation(gx + h_prev.R (+ b_r))
//   reset_after:   candidate = activation(gx_h + r (h_prev.R_h + b_rh))
//   otherwise:     candidate = activation(gx_h + (r h_prev).R_h)
//   h = z h_prev + (1 - z) candidate
#pragma once

#include "../cell.h"

namespace recurra {
namespace RECURRA_ISA {

// Columns: input part of the candidate, z, r, recurrent part of the candidate.  The input product
// feeds the first three and the recurrent product the last three, both as one stretch.
template <class T>
struct GruResetAfter {
  static constexpr bool two_biases = true;
  static constexpr int columns = 4;
  static constexpr int column_gate[] = {2, 0, 1, 2};
  static constexpr Columns input = {0, 3};
  static constexpr int phases = 1;
  static constexpr Columns recurrent[] = {{1, 3}};
  static constexpr bool has_cell_state = false;

  template <int phase, class Act>
  static RECURRA_INLINE void forward(const Act& act, const ForwardTile<T>& tile) {
    constexpr int L = kLanes<T>;
    const Slots<T*>& s = tile.save;
    // Two passes: the candidate waits for the reset gate, and in one pass nothing waits for another
    // row or block. The candidate's argument takes the place of the recurrent part in between.
    tile.each([&](const ForwardRow<T>& row, Index block, Index u, int lanes, T* pre) {
      const Vec<T> pr = load(pre + L), recurrent_part = load(pre + 2 * L);
      const Vec<T> r = act.gate(pr);
      store(pre + 2 * L, fma(r, recurrent_part, load(row.gx + block * (columns * L))));
      const Index at = row.offset + u;
      save_n(s.gate[1], at, r, lanes);
      save_n(s.recurrent_candidate, at, recurrent_part, lanes);
      save_n(s.pre[1], at, pr, lanes);
    });
    tile.each([&](const ForwardRow<T>& row, Index, Index u, int lanes, const T* pre) {
      const Vec<T> pz = load(pre), ph = load(pre + 2 * L);
      const Vec<T> z = act.gate(pz), candidate = act.main(ph);
      const Vec<T> h = fma(z, load(row.h_prev + u), (splat(T(1)) - z) * candidate);
      store(row.h + u, h);
      const Index at = row.offset + u;
      save_n(tile.output, at, h, lanes);
      save_n(s.gate[0], at, z, lanes);
      save_n(s.gate[2], at, candidate, lanes);
      save_n(s.hidden_state, at, h, lanes);
      save_n(s.pre[0], at, pz, lanes);
      save_n(s.pre[2], at, ph, lanes);
    });
  }

  template <int phase, class Act>
  static RECURRA_INLINE void backward(const Act& act, const BackwardRow<T>& row, Index block,
                                      int lanes) {
    constexpr int L = kLanes<T>;
    const Index u = block * L;
    const auto& s = row.saved;
    const auto& d = row.d_saved;
    const Vec<T> z = load_n(s.gate[0] + u, lanes), r = load_n(s.gate[1] + u, lanes),
                 candidate = load_n(s.gate[2] + u, lanes),
                 recurrent_part = load_n(s.recurrent_candidate + u, lanes);
    const Vec<T> dh = incoming_dh(row, u, lanes);
    const Vec<T> dz = add_n(dh * (load_n(row.h_prev + u, lanes) - candidate), d.gate[0], u, lanes);
    const Vec<T> dcandidate = add_n(dh * (splat(T(1)) - z), d.gate[2], u, lanes);
    const Vec<T> dph =
        dcandidate * act.main_slope(kept_pre(s.pre[2], u, lanes, candidate), candidate);
    const Vec<T> dr = add_n(dph * recurrent_part, d.gate[1], u, lanes);
    store(row.dh + u, dh * z);
    T* out = row.dg + block * (columns * L);
    store(out, keep_n<T>(dph, lanes));
    store(out + L, keep_n<T>(dz * act.gate_slope(kept_pre(s.pre[0], u, lanes, z), z), lanes));
    store(out + 2 * L, keep_n<T>(dr * act.gate_slope(kept_pre(s.pre[1], u, lanes, r), r), lanes));
    store(out + 3 * L, keep_n<T>(dph * r, lanes));
  }
};

// Columns z, r, candidate; the second recurrent product multiplies r h_prev.
template <class T>
struct GruResetBefore {
  static constexpr bool two_biases = false;
  static constexpr int columns = 3;
  static constexpr int column_gate[] = {0, 1, 2};
  static constexpr Columns input = {0, 3};
  static constexpr int phases = 2;
  static constexpr Columns recurrent[] = {{0, 2}, {2, 1}};
  static constexpr bool has_cell_state = false;

  template <int phase, class Act>
  static RECURRA_INLINE void forward(const Act& act, const ForwardTile<T>& tile) {
    constexpr int L = kLanes<T>;
    const Slots<T*>& s = tile.save;
    tile.each([&](const ForwardRow<T>& row, Index, Index u, int lanes, const T* pre) {
      const Index at = row.offset + u;
      if constexpr (phase == 0) {
        const Vec<T> pz = load(pre), pr = load(pre + L);
        const Vec<T> z = act.gate(pz), r = act.gate(pr);
        store(row.update_gate + u, z);
        store(row.reset_h + u, r * load(row.h_prev + u));
        save_n(s.gate[0], at, z, lanes);
        save_n(s.gate[1], at, r, lanes);
        save_n(s.pre[0], at, pz, lanes);
        save_n(s.pre[1], at, pr, lanes);
      } else {
        const Vec<T> ph = load(pre);
        const Vec<T> candidate = act.main(ph);
        const Vec<T> z = load(row.update_gate + u);
        const Vec<T> h = fma(z, load(row.h_prev + u), (splat(T(1)) - z) * candidate);
        store(row.h + u, h);
        save_n(tile.output, at, h, lanes);
        save_n(s.gate[2], at, candidate, lanes);
        save_n(s.hidden_state, at, h, lanes);
        save_n(s.pre[2], at, ph, lanes);
      }
    });
  }

  template <int phase, class Act>
  static RECURRA_INLINE void backward(const Act& act, const BackwardRow<T>& row, Index block,
                                      int lanes) {
    constexpr int L = kLanes<T>;
    const Index u = block * L;
    const auto& s = row.saved;
    const auto& d = row.d_saved;
    const Vec<T> r = load_n(s.gate[1] + u, lanes), h_prev = load_n(row.h_prev + u, lanes);
    T* out = row.dg + block * (columns * L);
    if constexpr (phase == 1) {
      const Vec<T> z = load_n(s.gate[0] + u, lanes), candidate = load_n(s.gate[2] + u, lanes);
      const Vec<T> dh = incoming_dh(row, u, lanes);
      const Vec<T> dz = add_n(dh * (h_prev - candidate), d.gate[0], u, lanes);
      const Vec<T> dcandidate = add_n(dh * (splat(T(1)) - z), d.gate[2], u, lanes);
      store(row.dh + u, dh * z);
      store(row.reset_h + u, r * h_prev);
      store(out, keep_n<T>(dz * act.gate_slope(kept_pre(s.pre[0], u, lanes, z), z), lanes));
      store(
          out + 2 * L,
          keep_n<T>(dcandidate * act.main_slope(kept_pre(s.pre[2], u, lanes, candidate), candidate),
                    lanes));
    } else {
      const Vec<T> dreset_h = load(row.product + u);
      const Vec<T> dr = add_n(dreset_h * h_prev, d.gate[1], u, lanes);
      store(row.dh + u, fma(dreset_h, r, load(row.dh + u)));
      store(out + L, keep_n<T>(dr * act.gate_slope(kept_pre(s.pre[1], u, lanes, r), r), lanes));
    }
  }
};

template <class T>
struct Gru {
  template <class F>
  static void select(const Problem& p, F&& f) {
    p.reset_after ? f(GruResetAfter<T>{}) : f(GruResetBefore<T>{});
  }
};

}  // namespace RECURRA_ISA
}  // namespace recurra
