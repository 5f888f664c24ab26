// One recurrent layer on a block of rows and steps, from and to states that live outside: the
// scan's products and functors, with weights that were packed before.  Every element is the same
// chain of operations as in the scan, so are the bits.
#pragma once

#include "../pack.h"
#include "op_kernels.h"

namespace recurra {
namespace RECURRA_ISA {

// Where a cell's packed weights lie; with a null base it only measures.
template <class C>
struct PackedCell {
  Panels<float> kernel, recurrent[C::phases];
  float* bias;
  std::size_t bytes;

  PackedCell(const Problem& p, char* base) {
    Arena arena(base);
    kernel = gate_panels<float>(p.units, p.features, C::input);
    kernel.data = arena.take<float>(kernel.size());
    for (int phase = 0; phase < C::phases; ++phase) {
      recurrent[phase] = gate_panels<float>(p.units, p.units, C::recurrent[phase]);
      recurrent[phase].data = arena.take<float>(recurrent[phase].size());
    }
    bias = arena.take<float>(kernel.count * C::columns * kLanes<float>);
    bytes = arena.used();
  }

  void pack(const Problem& p, const float* w, const float* r, const float* b) {
    pack_bias<float, C>(b, p.units, p.gates(), bias);
    for (Index block = 0; block < kernel.count; ++block) {
      pack_gates<float, C, Exact<float>>(w, p.features, p.units, p.gates(), C::input, kernel,
                                         block);
      for (int phase = 0; phase < C::phases; ++phase)
        pack_gates<float, C, Exact<float>>(r, p.units, p.units, p.gates(), C::recurrent[phase],
                                           recurrent[phase], block);
    }
  }
};

template <class C, class Act>
class RecurrentBlock {
  using Call = runtime::RecurrentCall;
  static constexpr int L = kLanes<float>;
  static constexpr bool two_phases = C::phases == 2;
  static constexpr bool can_fuse = C::phases == 1 && C::input.count == C::columns;

 public:
  explicit RecurrentBlock(const Call& call)
      : c_(call),
        p_(*call.problem),
        act_(p_.activation, p_.recurrent_activation),
        packed_(p_, const_cast<char*>(call.packed)),
        blocks_(packed_.kernel.count),
        padded_(blocks_ * L),
        row_columns_(blocks_ * C::columns * L),
        fused_(fuses(p_, call.rows, call.steps)) {
    Arena arena(call.scratch);
    lay_out(arena, call.rows, call.steps);
  }

  static std::size_t scratch(const Problem& p, Index rows, Index steps) {
    const Call nothing = {};
    RecurrentBlock measure(p, nothing, rows, steps);
    Arena arena(nullptr);
    measure.lay_out(arena, rows, steps);
    return arena.used();
  }

  void run() {
    start();
    if (!fused_) project_input();
    Index pair = 0;
    for (Index t = 0; t < c_.steps; ++t) pair += step(t, pair);
    finish();
  }

 private:
  RecurrentBlock(const Problem& p, const Call& call, Index rows, Index steps)
      : c_(call),
        p_(p),
        act_(p.activation, p.recurrent_activation),
        packed_(p, nullptr),
        blocks_(packed_.kernel.count),
        padded_(blocks_ * L),
        row_columns_(blocks_ * C::columns * L),
        fused_(fuses(p, rows, steps)) {}

  // With one step there is nothing that the input product could share; otherwise as in the scan.
  static bool fuses(const Problem& p, Index rows, Index steps) {
    const Index bytes = (p.features + p.units) * blocks_of<float>(p.units) * C::columns * L * 4;
    return can_fuse && (steps <= 1 || (rows >= 4 && bytes <= (Index(3) << 18)));
  }

  void lay_out(Arena& arena, Index rows, Index steps) {
    spare_[0] = arena.take<float>(rows * padded_);
    spare_[1] = arena.take<float>(steps > 1 ? rows * padded_ : 0);
    update_gate_ = arena.take<float>(two_phases ? rows * padded_ : 0);
    reset_h_ = arena.take<float>(two_phases ? rows * padded_ : 0);
    gx_ = arena.take<float>(fused_ ? 0 : rows * steps * row_columns_);
    x_rows_ = arena.take<const float*>(fused_ ? rows : rows * steps);
    h_rows_ = arena.take<const float*>(rows);
    row_ = arena.take<ForwardRow<float>>(rows);
    h_ = arena.take<const float*>(rows);
  }

  float* state(Index r, Index offset) const {
    return reinterpret_cast<float*>(c_.state[r] + offset);
  }
  bool kept(Index r, Index t) const { return !c_.mask.data || c_.mask.data[r * c_.mask.row + t]; }
  bool began(Index r) const { return c_.began < 0 || c_.state[r][c_.began]; }
  std::size_t row_bytes() const { return sizeof(float) * std::size_t(p_.units); }

  void start() {
    for (Index r = 0; r < c_.rows; ++r) {
      float* h = state(r, c_.hidden_state);
      if (c_.initial_h && !c_.state[r][c_.started]) {
        std::memcpy(h, c_.initial_h + r * p_.units, row_bytes());
        if (C::has_cell_state)
          std::memcpy(state(r, c_.cell_state), c_.initial_c + r * p_.units, row_bytes());
        if (c_.steps > 0) c_.state[r][c_.started] = 1;
      }
      h_[r] = h;
    }
  }

  void project_input() {
    Index pairs = 0;
    for (Index t = 0; t < c_.steps; ++t)
      for (Index r = 0; r < c_.rows; ++r)
        if (kept(r, t)) x_rows_[pairs++] = c_.x + r * c_.x_row + t * p_.features;
    const auto write = [&](const float* tile, Index panel, int panels, Index row, int rows) {
      for (int m = 0; m < rows; ++m)
        for (int q = 0; q < panels; ++q) {
          float* gx = gx_ + (row + m) * row_columns_ + (panel + q) * (C::columns * L);
          const float* from = tile + (m * panels + q) * (C::input.count * L);
          for (int c = 0; c < C::input.count; ++c) store(gx + c * L, load(from + c * L));
          for (int c = C::input.count; c < C::columns; ++c)
            store(gx + c * L, load(packed_.bias + ((panel + q) * C::columns + c) * L));
        }
    };
    const Product<float> products[] = {{x_rows_, {1, p_.features, 0, 0}, &packed_.kernel}};
    const Initial<float> bias = {packed_.bias, 0, C::columns * L};
    for_blocks([&](Index begin, Index end) {
      multiply<float, false>(products, pairs, begin, end, bias, false, write);
    });
  }

  // Runs f(begin, end) over all unit blocks, in shares of the threads if there are some.
  template <class F>
  void for_blocks(F&& f) {
    if (!c_.team) return f(Index(0), blocks_);
    const Index shares = c_.team->size() < blocks_ ? c_.team->size() : blocks_;
    c_.team->run(shares,
                 [&](Index i, int) { f(blocks_ * i / shares, blocks_ * (i + 1) / shares); });
  }

  Index step(Index t, Index first_pair) {
    Index n = 0;
    for (Index r = 0; r < c_.rows; ++r) {
      const Index offset = r * c_.sequence_row + t * p_.units;
      if (!kept(r, t)) {
        if (c_.sequence) repeat(r, c_.sequence + offset);
        continue;
      }
      ForwardRow<float>& row = row_[n];
      row.gx = gx_ + (first_pair + n) * row_columns_;
      row.h_prev = h_[r];
      float* const first = spare_[0] + r * padded_;
      row.h = h_[r] == first ? spare_[1] + r * padded_ : first;
      row.c = C::has_cell_state ? state(r, c_.cell_state) : nullptr;
      row.update_gate = two_phases ? update_gate_ + r * padded_ : nullptr;
      row.reset_h = two_phases ? reset_h_ + r * padded_ : nullptr;
      row.offset = offset;
      h_rows_[n] = h_[r];
      if (fused_) x_rows_[n] = c_.x + r * c_.x_row + t * p_.features;
      h_[r] = row.h;
      if (c_.began >= 0) c_.state[r][c_.began] = 1;
      ++n;
    }
    if (n == 0) return 0;
    if (fused_) {
      if constexpr (can_fuse) run_fused(t, n);
      return n;
    }
    run_phase<0>(t, n);
    if constexpr (two_phases) {
      for (Index i = 0; i < n; ++i) h_rows_[i] = row_[i].reset_h;
      run_phase<1>(t, n);
    }
    return n;
  }

  template <int phase>
  auto pointwise() {
    return [this](float* tile, Index panel, int panels, Index row, int rows) {
      constexpr int columns = can_fuse ? C::columns : C::recurrent[phase].count;
      static const Slots<float*> nothing = {};
      const ForwardTile<float> view = {row_ + row, rows,    panel,       panels, p_.units,
                                       tile,       columns, c_.sequence, nothing};
      C::template forward<phase>(act_, view);
    };
  }

  void run_fused(Index t, Index n) {
    const Product<float> products[] = {
        {x_rows_, {1, p_.features, 0, 0}, &packed_.kernel},
        {h_rows_, {1, p_.units, 0, 0}, &packed_.recurrent[0]},
    };
    const Initial<float> bias = {packed_.bias, 0, C::columns * L};
    for_blocks([&](Index begin, Index end) {
      multiply<float, false>(products, n, begin, end, bias, t % 2, pointwise<0>());
    });
  }

  template <int phase>
  void run_phase(Index t, Index n) {
    constexpr Columns part = C::recurrent[phase];
    const Product<float> products[] = {{h_rows_, {1, p_.units, 0, 0}, &packed_.recurrent[phase]}};
    const Initial<float> gx = {row_[0].gx + part.first * L, row_columns_, C::columns * L};
    for_blocks([&](Index begin, Index end) {
      multiply<float, false>(products, n, begin, end, gx, t % 2, pointwise<phase>());
    });
  }

  // A masked step: the output repeats, or is zero.
  void repeat(Index r, float* out) const {
    if (p_.zero_output_for_mask || !began(r))
      std::memset(out, 0, row_bytes());
    else
      std::memcpy(out, h_[r], row_bytes());
  }

  void finish() {
    for (Index r = 0; r < c_.rows; ++r) {
      const float* h = h_[r];
      float* const kept_h = state(r, c_.hidden_state);
      if (h != kept_h) std::memcpy(kept_h, h, row_bytes());
      const Index at = r * p_.units;
      if (c_.last_output) {
        if (began(r) || c_.steps == 0)
          std::memcpy(c_.last_output + at, h, row_bytes());
        else
          std::memset(c_.last_output + at, 0, row_bytes());
      }
      if (c_.state_h) std::memcpy(c_.state_h + at, h, row_bytes());
      if (C::has_cell_state && c_.state_c)
        std::memcpy(c_.state_c + at, state(r, c_.cell_state), row_bytes());
    }
  }

  const Call& c_;
  const Problem& p_;
  const Act act_;
  const PackedCell<C> packed_;
  const Index blocks_, padded_, row_columns_;
  const bool fused_;
  float *spare_[2], *update_gate_, *reset_h_, *gx_;
  const float **x_rows_, **h_rows_, **h_;
  ForwardRow<float>* row_;
};

}  // namespace RECURRA_ISA
}  // namespace recurra
