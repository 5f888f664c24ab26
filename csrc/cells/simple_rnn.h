// SimpleRNN (Elman 1990): h = activation(gx + h_prev.R).
#pragma once

#include "../cell.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T>
struct SimpleRnn {
  template <class F>
  static void select(const Problem&, F&& f) {
    f(SimpleRnn{});
  }

  static constexpr bool two_biases = false;
  static constexpr int columns = 1;
  static constexpr int column_gate[] = {0};
  static constexpr Columns input = {0, 1};
  static constexpr int phases = 1;
  static constexpr Columns recurrent[] = {{0, 1}};
  static constexpr bool has_cell_state = false;

  template <int phase, class Act>
  static RECURRA_INLINE void forward(const Act& act, const ForwardTile<T>& tile) {
    tile.each([&](const ForwardRow<T>& row, Index, Index u, int lanes, const T* pre) {
      const Vec<T> p = load(pre);
      const Vec<T> h = act.main(p);
      store(row.h + u, h);
      const Index at = row.offset + u;
      save_n(tile.output, at, h, lanes);
      save_n(tile.save.hidden_state, at, h, lanes);
      save_n(tile.save.pre[0], at, p, lanes);
    });
  }

  template <int phase, class Act>
  static RECURRA_INLINE void backward(const Act& act, const BackwardRow<T>& row, Index block,
                                      int lanes) {
    const Index u = block * kLanes<T>;
    const Vec<T> h = load_n(row.saved.hidden_state + u, lanes);
    const Vec<T> dh = incoming_dh(row, u, lanes);
    store(row.dh + u, splat(T(0)));
    store(row.dg + u,
          keep_n<T>(dh * act.main_slope(kept_pre(row.saved.pre[0], u, lanes, h), h), lanes));
  }
};

}  // namespace RECURRA_ISA
}  // namespace recurra
