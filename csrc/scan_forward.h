// The forward scan: packs the weights, then takes groups of rows through the whole sequence, each
// on one thread with no barrier.  Where there are few rows, the threads share out the units of
// every step instead.
//
// Per group and chunk of time: the input product of all kept (step, row) pairs at once, then step
// by step the recurrent product of the kept rows, started from that.  A masked row takes no part
// in either.
#pragma once

#include <optional>

#include "pack.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T, class C, class Act, class P>
class ForwardScan {
  using Operand = typename P::Operand;
  static constexpr int L = kLanes<T>;
  static constexpr bool two_phases = C::phases == 2;
  // Both products feed the same columns.
  static constexpr bool can_fuse = C::phases == 1 && C::input.count == C::columns;

 public:
  ForwardScan(const Problem& p, const ForwardArgs& a)
      : p_(p),
        a_(a),
        act_(p.activation, p.recurrent_activation),
        blocks_(blocks_of<T>(p.units)),
        padded_(blocks_ * L),
        row_columns_(blocks_ * C::columns * L) {}

  void run(Team& team) {
    advise_outputs();
    prepare(team);
    run_steps(team, {0, p_.time_steps});
  }

  // Memory and packed weights, for any number of stretches.
  void prepare(Team& team) {
    by_units_ = team.splits_units(p_);
    groups_ = row_groups(p_.batch, by_units_ ? 1 : team.size());
    const Index most_rows = groups_.parts ? groups_.size(0) : 0;
    chunk_ = most_rows ? (128 + most_rows - 1) / most_rows : 1;
    if (chunk_ > p_.time_steps) chunk_ = p_.time_steps;

    fused_ = can_fuse && !per_gate_x() && !per_gate_h() && most_rows >= 4 &&
             (p_.features + p_.units) * row_columns_ * Index(sizeof(T)) <= (Index(3) << 18);

    Arena measure(nullptr);
    lay_out_shared(measure);
    shared_bytes_ = measure.used();
    Arena measure_group(nullptr);
    Group probe;
    probe.rows = most_rows;
    lay_out_group(measure_group, probe);
    group_bytes_ = measure_group.used();
    workspace_.emplace(shared_bytes_ + group_bytes_ * std::size_t(by_units_ ? 1 : team.size()));
    Arena shared(workspace_->data());
    lay_out_shared(shared);

    pack_bias<T, C>(static_cast<const T*>(a_.bias), p_.units, p_.gates(), bias_);
    team.run(blocks_, [&](Index block, int) {
      pack_gates<T, C, P>(static_cast<const T*>(a_.kernel), p_.features, p_.units, p_.gates(),
                          C::input, kernel_, block);
      for (int phase = 0; phase < C::phases; ++phase)
        pack_gates<T, C, P>(static_cast<const T*>(a_.recurrent_kernel), p_.units, p_.units,
                            p_.gates(), C::recurrent[phase], recurrent_[phase], block);
    });
  }

  // From the states h0 and c0 through some steps.  The sequence and the slots hold these alone.
  void run_steps(Team& team, Steps steps) {
    steps_ = steps;
    save_ = slot_rows<T*>(a_.slots, 0);
    auto run_group_of = [&](Index g, int worker) {
      Arena arena(workspace_->data() + shared_bytes_ + group_bytes_ * std::size_t(worker));
      Group group;
      group.first = group_start(groups_, g);
      group.rows = groups_.size(g);
      lay_out_group(arena, group);
      run_group(group);
    };
    sharing_ = by_units_ ? &team : nullptr;
    if (!by_units_) return team.run(groups_.parts, run_group_of);
    for (Index g = 0; g < groups_.parts; ++g) run_group_of(g, 0);
  }

 private:
  struct Group {
    Index first = 0, rows = 0;
    T* state[2];  // (rows, padded): current and next h, per row
    T* c;
    T* update_gate;
    T* reset_h;
    T* gx;                   // (pairs, blocks, columns) vectors
    T* dropped_x;            // (pairs, features [, columns])
    T* dropped_h;            // (rows, units [, columns])
    Operand* x_copies;       // of the above, or of x and h themselves, where operands are
    Operand* h_copies;       // converted
    const Operand** x_rows;  // per pair
    const Operand** h_rows;  // per kept row of a step
    Index* kept;             // rows kept at a step
    ForwardRow<T>* row;
    unsigned char* current;  // which of state[] holds the row's h
    unsigned char* began;    // a step was kept
  };

  // Hosts lay the saved arrays one behind the other.  Advised one by one, each would lose the huge
  // pages at its two ends.
  void advise_outputs() {
    const std::size_t bytes = sizeof(T) * std::size_t(p_.batch * p_.time_steps * p_.units);
    HugePages pages;
    Slots<void*> s = a_.slots;
    for_each_slot(s, [&](void* p) { pages.add(p, bytes); });
    pages.add(a_.sequence, bytes);
    pages.advise();
  }

  void lay_out_shared(Arena& arena) {
    kernel_ = gate_panels<Operand>(p_.units, P::steps(p_.features), C::input);
    kernel_.data = arena.take<Operand>(kernel_.size());
    for (int phase = 0; phase < C::phases; ++phase) {
      recurrent_[phase] = gate_panels<Operand>(p_.units, P::steps(p_.units), C::recurrent[phase]);
      recurrent_[phase].data = arena.take<Operand>(recurrent_[phase].size());
    }
    bias_ = arena.take<T>(row_columns_);
  }

  void lay_out_group(Arena& arena, Group& g) {
    const Index pairs = g.rows * chunk_, state = g.rows * padded_;
    g.state[0] = arena.take<T>(state);
    g.state[1] = arena.take<T>(state);
    g.c = arena.take<T>(C::has_cell_state ? state : 0);
    g.update_gate = arena.take<T>(two_phases ? state : 0);
    g.reset_h = arena.take<T>(two_phases ? state : 0);
    g.gx = arena.take<T>(fused_ ? 0 : pairs * row_columns_);
    g.dropped_x =
        arena.take<T>(a_.dropout_x ? pairs * p_.features * (per_gate_x() ? C::input.count : 1) : 0);
    g.dropped_h = arena.take<T>(a_.dropout_h ? g.rows * p_.units * kMaxGates : 0);
    g.x_copies = arena.take<Operand>(P::converts ? pairs * x_stretch() : 0);
    g.h_copies = arena.take<Operand>(P::converts ? g.rows * P::steps(p_.units) * kMaxGates : 0);
    g.x_rows = arena.take<const Operand*>(pairs);
    g.h_rows = arena.take<const Operand*>(g.rows);
    g.kept = arena.take<Index>(g.rows);
    g.row = arena.take<ForwardRow<T>>(g.rows);
    g.current = arena.take<unsigned char>(g.rows);
    g.began = arena.take<unsigned char>(g.rows);
  }

  bool per_gate_x() const { return p_.dropout_x_masks > 1; }
  bool per_gate_h() const { return p_.dropout_h_masks > 1; }
  // Operands of a row of x.
  Index x_stretch() const { return P::steps(p_.features) * (per_gate_x() ? C::input.count : 1); }
  Index slot_offset(Index b, Index s) const {
    return (b * (steps_.last - steps_.first) + s - steps_.first) * p_.units;
  }
  Index input_time(Index s) const { return p_.go_backwards ? p_.time_steps - 1 - s : s; }
  bool kept(Index b, Index s) const {
    return !a_.mask || a_.mask[b * p_.time_steps + input_time(s)];
  }

  void run_group(Group& g) {
    start(g);
    for (Index s0 = steps_.first; s0 < steps_.last; s0 += chunk_) {
      const Index s1 = s0 + chunk_ < steps_.last ? s0 + chunk_ : steps_.last;
      project_input(g, s0, s1);
      Index pair = 0;
      for (Index s = s0; s < s1; ++s) {
        if (a_.checkpoint_h && s % p_.checkpoint_every == 0)
          keep_states(g, s / p_.checkpoint_every);
        pair += step(g, s, pair);
      }
    }
    finish(g);
  }

  void start(Group& g) {
    const auto copy_in = [&](T* to, const void* from) {
      std::memset(to, 0, sizeof(T) * std::size_t(g.rows * padded_));
      if (!from) return;
      for (Index r = 0; r < g.rows; ++r)
        std::memcpy(to + r * padded_, static_cast<const T*>(from) + (g.first + r) * p_.units,
                    sizeof(T) * std::size_t(p_.units));
    };
    copy_in(g.state[0], a_.h0);
    if (C::has_cell_state) copy_in(g.c, a_.c0);
    std::memset(g.current, 0, std::size_t(g.rows));
    std::memset(g.began, 0, std::size_t(g.rows));
  }

  // gx of every kept pair of the chunk, in the order the steps will ask for them.
  void project_input(Group& g, Index s0, Index s1) {
    const Index pairs = collect_input(g, s0, s1);
    if (!fused_) multiply_input(g, pairs);
  }

  Index collect_input(Group& g, Index s0, Index s1) {
    const T* x = static_cast<const T*>(a_.x);
    const Index stretch = p_.features * (per_gate_x() ? C::input.count : 1);
    Index pairs = 0;
    for (Index s = s0; s < s1; ++s)
      for (Index r = 0; r < g.rows; ++r) {
        const Index b = g.first + r;
        if (!kept(b, s)) continue;
        const T* row = x + (b * p_.time_steps + input_time(s)) * p_.features;
        if (a_.dropout_x) {
          T* dropped = g.dropped_x + pairs * stretch;
          apply_dropout<T, C>(row, static_cast<const T*>(a_.dropout_x), per_gate_x(), p_.batch, b,
                              p_.features, C::input, dropped);
          row = dropped;
        }
        if constexpr (P::converts) {
          Operand* copy = g.x_copies + pairs * x_stretch();
          P::row(row, p_.features, per_gate_x() ? C::input.count : 1, copy);
          g.x_rows[pairs++] = copy;
        } else {
          g.x_rows[pairs++] = row;
        }
      }
    return pairs;
  }

  void multiply_input(Group& g, Index pairs) {
    const auto write = [&](const T* tile, Index panel, int panels, Index row, int rows) {
      for (int m = 0; m < rows; ++m)
        for (int q = 0; q < panels; ++q) {
          T* gx = g.gx + (row + m) * row_columns_ + (panel + q) * (C::columns * L);
          const T* from = tile + (m * panels + q) * (C::input.count * L);
          for (int c = 0; c < C::input.count; ++c) store(gx + c * L, load(from + c * L));
          for (int c = C::input.count; c < C::columns; ++c)
            store(gx + c * L, load(bias_ + ((panel + q) * C::columns + c) * L));
        }
    };
    const Product<Operand> products[] = {{g.x_rows, {1, P::steps(p_.features), 0, 0}, &kernel_}};
    const Initial<T> bias = {bias_, 0, C::columns * L};
    for_blocks([&](Index begin, Index end) {
      if (per_gate_x())
        multiply<Operand, true>(products, pairs, begin, end, bias, false, write);
      else
        multiply<Operand, false>(products, pairs, begin, end, bias, false, write);
    });
  }

  // Runs f(begin, end) over all unit blocks, in shares of the threads if they split the units.
  template <class F>
  void for_blocks(F&& f) {
    if (!sharing_) return f(Index(0), blocks_);
    const Index shares = sharing_->size() < blocks_ ? sharing_->size() : blocks_;
    sharing_->run(shares,
                  [&](Index i, int) { f(blocks_ * i / shares, blocks_ * (i + 1) / shares); });
  }

  // One time step of the group; returns how many rows it kept.
  Index step(Group& g, Index s, Index first_pair) {
    Index n = 0;
    for (Index r = 0; r < g.rows; ++r) {
      const Index b = g.first + r;
      if (!kept(b, s)) {
        carry(g, r, s);
        continue;
      }
      ForwardRow<T>& row = g.row[n];
      row.gx = g.gx + (first_pair + n) * row_columns_;
      row.h_prev = g.state[g.current[r]] + r * padded_;
      row.h = g.state[g.current[r] ^ 1] + r * padded_;
      row.c = g.c + (C::has_cell_state ? r * padded_ : 0);
      row.update_gate = g.update_gate + (two_phases ? r * padded_ : 0);
      row.reset_h = g.reset_h + (two_phases ? r * padded_ : 0);
      row.offset = slot_offset(b, s);
      g.current[r] ^= 1;
      g.began[r] = 1;
      g.kept[n++] = r;
    }
    if (n == 0) return 0;
    if (fused_) {
      if constexpr (can_fuse) run_fused(g, s, first_pair, n);
      return n;
    }
    run_phase<0>(g, s, n);
    if constexpr (two_phases) run_phase<1>(g, s, n);
    return n;
  }

  // Both products of a step at once, from the bias: where few features make the input product
  // short, writing its result and reading it again would take longer than the product.
  void run_fused(Group& g, Index s, Index first_pair, Index n) {
    collect_operands(g, 0, n);
    const auto pointwise = [&](T* tile, Index panel, int panels, Index row, int rows) {
      const ForwardTile<T> view = {g.row + row, rows, panel,      panels,
                                   p_.units,    tile, C::columns, static_cast<T*>(a_.sequence),
                                   save_};
      C::template forward<0>(act_, view);
    };
    const Product<Operand> products[] = {
        {g.x_rows + first_pair, {1, P::steps(p_.features), 0, 0}, &kernel_},
        {g.h_rows, {1, P::steps(p_.units), 0, 0}, &recurrent_[0]},
    };
    for_blocks([&](Index begin, Index end) {
      multiply<Operand, false>(products, n, begin, end, {bias_, 0, C::columns * L}, s % 2,
                               pointwise);
    });
  }

  void collect_operands(Group& g, int phase, Index n) {
    const bool per_gate = per_gate_h();
    for (Index i = 0; i < n; ++i) {
      const T* operand = phase == 0 ? g.row[i].h_prev : g.row[i].reset_h;
      if (a_.dropout_h) {
        T* dropped = g.dropped_h + i * p_.units * kMaxGates;
        apply_dropout<T, C>(operand, static_cast<const T*>(a_.dropout_h), per_gate, p_.batch,
                            g.first + g.kept[i], p_.units, C::recurrent[phase], dropped);
        operand = dropped;
      }
      if constexpr (P::converts) {
        Operand* copy = g.h_copies + i * P::steps(p_.units) * kMaxGates;
        P::row(operand, p_.units, per_gate ? C::recurrent[phase].count : 1, copy);
        g.h_rows[i] = copy;
      } else {
        g.h_rows[i] = operand;
      }
    }
  }

  template <int phase>
  void run_phase(Group& g, Index s, Index n) {
    constexpr Columns part = C::recurrent[phase];
    const bool per_gate = a_.dropout_h && per_gate_h();
    collect_operands(g, phase, n);
    const auto pointwise = [&](T* tile, Index panel, int panels, Index row, int rows) {
      const ForwardTile<T> view = {g.row + row, rows, panel,      panels,
                                   p_.units,    tile, part.count, static_cast<T*>(a_.sequence),
                                   save_};
      C::template forward<phase>(act_, view);
    };
    const Product<Operand> products[] = {
        {g.h_rows, {1, P::steps(p_.units), 0, 0}, &recurrent_[phase]}};
    const Initial<T> gx = {g.row[0].gx + part.first * L, row_columns_, C::columns * L};
    for_blocks([&](Index begin, Index end) {
      if (per_gate)
        multiply<Operand, true>(products, n, begin, end, gx, s % 2, pointwise);
      else
        multiply<Operand, false>(products, n, begin, end, gx, s % 2, pointwise);
    });
  }

  // A masked step: the state stays, the output repeats (or is zero), gates are zero.
  void carry(Group& g, Index r, Index s) {
    const Index offset = slot_offset(g.first + r, s);
    const std::size_t bytes = sizeof(T) * std::size_t(p_.units);
    const T* h = g.state[g.current[r]] + r * padded_;
    if (a_.sequence) {
      T* out = static_cast<T*>(a_.sequence) + offset;
      if (p_.zero_output_for_mask || !g.began[r])
        std::memset(out, 0, bytes);
      else
        std::memcpy(out, h, bytes);
    }
    Slots<T*> save = slot_rows<T*>(a_.slots, offset);
    if (save.hidden_state) std::memcpy(save.hidden_state, h, bytes);
    if (save.cell_state) std::memcpy(save.cell_state, g.c + r * padded_, bytes);
    save.hidden_state = save.cell_state = nullptr;
    for_each_slot(save, [bytes](T* p) {
      if (p) std::memset(p, 0, bytes);
    });
  }

  void keep_states(Group& g, Index checkpoint) {
    const std::size_t bytes = sizeof(T) * std::size_t(p_.units);
    for (Index r = 0; r < g.rows; ++r) {
      const Index at = ((g.first + r) * p_.checkpoints() + checkpoint) * p_.units;
      std::memcpy(static_cast<T*>(a_.checkpoint_h) + at, g.state[g.current[r]] + r * padded_,
                  bytes);
      if (C::has_cell_state)
        std::memcpy(static_cast<T*>(a_.checkpoint_c) + at, g.c + r * padded_, bytes);
    }
  }

  void finish(Group& g) {
    const std::size_t bytes = sizeof(T) * std::size_t(p_.units);
    for (Index r = 0; r < g.rows; ++r) {
      const T* h = g.state[g.current[r]] + r * padded_;
      const Index at = (g.first + r) * p_.units;
      if (a_.last_output) {
        T* last = static_cast<T*>(a_.last_output) + at;
        if (g.began[r] || p_.time_steps == 0)
          std::memcpy(last, h, bytes);
        else
          std::memset(last, 0, bytes);
      }
      if (a_.state_h) std::memcpy(static_cast<T*>(a_.state_h) + at, h, bytes);
      if (C::has_cell_state && a_.state_c)
        std::memcpy(static_cast<T*>(a_.state_c) + at, g.c + r * padded_, bytes);
    }
  }

  const Problem& p_;
  const ForwardArgs& a_;
  const Act act_;
  const Index blocks_, padded_, row_columns_;
  Slots<T*> save_;
  Index chunk_ = 1;
  bool fused_ = false, by_units_ = false;
  Team* sharing_ = nullptr;  // of every step's units; null if each group of rows has its thread
  Steps steps_ = {};
  EvenSplit groups_ = EvenSplit(0, 1);
  std::optional<Workspace> workspace_;
  std::size_t shared_bytes_ = 0, group_bytes_ = 0;
  Panels<Operand> kernel_, recurrent_[C::phases];
  T* bias_ = nullptr;
};

}  // namespace RECURRA_ISA
}  // namespace recurra
