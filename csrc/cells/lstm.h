// LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000), Keras's gate order i, f, c, o:
//   i, f, o = recurrent_activation(gx + h_prev.R)     g = activation(gx_c + h_prev.R_c)
//   c = f c_prev + i g                                h = o activation(c)
#pragma once

#include "../cell.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T>
struct Lstm {
  template <class F>
  static void select(const Problem&, F&& f) {
    f(Lstm{});
  }

  static constexpr bool two_biases = false;
  static constexpr int columns = 4;
  static constexpr int column_gate[] = {0, 1, 2, 3};
  static constexpr Columns input = {0, 4};
  static constexpr int phases = 1;
  static constexpr Columns recurrent[] = {{0, 4}};
  static constexpr bool has_cell_state = true;

  template <int phase, class Act>
  static RECURRA_INLINE void forward(const Act& act, const ForwardTile<T>& tile) {
    constexpr int L = kLanes<T>;
    // Two passes: activation(c) waits for all four gates, and in one pass nothing waits for another
    // row or block. The output gate takes the place of its pre-activation in between.
    const Slots<T*>& s = tile.save;
    tile.each([&](const ForwardRow<T>& row, Index, Index u, int lanes, T* pre) {
      const Vec<T> pi = load(pre), pf = load(pre + L), pg = load(pre + 2 * L),
                   po = load(pre + 3 * L);
      const Vec<T> i = act.gate(pi), f = act.gate(pf), g = act.main(pg), o = act.gate(po);
      const Vec<T> c = fma(f, load(row.c + u), i * g);
      store(row.c + u, c);
      store(pre + 3 * L, o);
      const Index at = row.offset + u;
      save_n(s.gate[0], at, i, lanes);
      save_n(s.gate[1], at, f, lanes);
      save_n(s.gate[2], at, g, lanes);
      save_n(s.gate[3], at, o, lanes);
      save_n(s.cell_state, at, c, lanes);
      save_n(s.pre[0], at, pi, lanes);
      save_n(s.pre[1], at, pf, lanes);
      save_n(s.pre[2], at, pg, lanes);
      save_n(s.pre[3], at, po, lanes);
    });
    tile.each([&](const ForwardRow<T>& row, Index, Index u, int lanes, const T* pre) {
      const Vec<T> h = load(pre + 3 * L) * act.main(load(row.c + u));
      store(row.h + u, h);
      const Index at = row.offset + u;
      save_n(tile.output, at, h, lanes);
      save_n(s.hidden_state, at, h, lanes);
    });
  }

  template <int phase, class Act>
  static RECURRA_INLINE void backward(const Act& act, const BackwardRow<T>& row, Index block,
                                      int lanes) {
    constexpr int L = kLanes<T>;
    const Index u = block * L;
    const auto& s = row.saved;
    const auto& d = row.d_saved;
    const Vec<T> i = load_n(s.gate[0] + u, lanes), f = load_n(s.gate[1] + u, lanes),
                 g = load_n(s.gate[2] + u, lanes), o = load_n(s.gate[3] + u, lanes),
                 c = load_n(s.cell_state + u, lanes);
    const Vec<T> dh = incoming_dh(row, u, lanes);
    const Vec<T> active_c = act.main(c);
    Vec<T> dc = add_n(load(row.dc + u), d.cell_state, u, lanes);
    dc = fma(dh * o, act.main_slope(c, active_c), dc);
    const Vec<T> di = add_n(dc * g, d.gate[0], u, lanes);
    const Vec<T> df = add_n(dc * load_n(row.c_prev + u, lanes), d.gate[1], u, lanes);
    const Vec<T> dg = add_n(dc * i, d.gate[2], u, lanes);
    const Vec<T> dout = add_n(dh * active_c, d.gate[3], u, lanes);
    store(row.dc + u, dc * f);
    store(row.dh + u, splat(T(0)));
    T* out = row.dg + block * (columns * L);
    store(out, keep_n<T>(di * act.gate_slope(kept_pre(s.pre[0], u, lanes, i), i), lanes));
    store(out + L, keep_n<T>(df * act.gate_slope(kept_pre(s.pre[1], u, lanes, f), f), lanes));
    store(out + 2 * L, keep_n<T>(dg * act.main_slope(kept_pre(s.pre[2], u, lanes, g), g), lanes));
    store(out + 3 * L, keep_n<T>(dout * act.gate_slope(kept_pre(s.pre[3], u, lanes, o), o), lanes));
  }
};

}  // namespace RECURRA_ISA
}  // namespace recurra
