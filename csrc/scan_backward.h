// The backward scan.  Time is cut into chunks of about kPairs (step, row) pairs, last chunk first:
//   1. groups of rows, each on one thread, step back through the chunk: pre-activation gradients
//      `dg` of every kept pair, and the states' gradients;
//   2. panels of the weights' gradients and stretches of dx, each from all of the chunk's dg.
// Every weight gradient is one chain over the steps from last to first and the rows of each,
// whatever the threads and wherever chunks begin.
#pragma once

#include <optional>

#include "scan_weights.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T, class C, class Act, class P>
class BackwardScan {
  using Operand = typename P::Operand;
  static constexpr int L = kLanes<T>;
  static constexpr bool two_phases = C::phases == 2;
  static constexpr Index kPairs = 512;     // per chunk, if one step has no more
  static constexpr Index kInputRows = 96;  // pairs of one dx item

 public:
  BackwardScan(const Problem& p, const BackwardArgs& a)
      : p_(p),
        a_(a),
        act_(p.activation, p.recurrent_activation),
        blocks_(blocks_of<T>(p.units)),
        padded_(blocks_ * L),
        row_columns_(blocks_ * C::columns * L),
        weights_(p, a) {}

  void run(Team& team) {
    prepare(team);
    run_steps(team, {0, p_.time_steps}, static_cast<const T*>(a_.h0), static_cast<const T*>(a_.c0));
    finish(team);
  }

  // Memory, packed weights and the states' cotangents, before all stretches.
  void prepare(Team& team) {
    const Index B = p_.batch, S = p_.time_steps;
    chunk_ = B ? (kPairs + B - 1) / B : 1;
    if (chunk_ > S) chunk_ = S;
    groups_ = row_groups(B, team.size());
    group_rows_ = groups_.parts ? groups_.size(0) : 0;
    if (a_.dx) advise_huge_pages(a_.dx, sizeof(T) * std::size_t(B * S * p_.features));

    Arena measure(nullptr);
    lay_out_shared(measure);
    shared_bytes_ = measure.used();
    Arena measure_worker(nullptr);
    lay_out_worker(measure_worker);
    worker_bytes_ = measure_worker.used();
    workspace_.emplace(shared_bytes_ + worker_bytes_ * std::size_t(team.size()));
    Arena shared(workspace_->data());
    lay_out_shared(shared);
    start(team);
  }

  // Back through some steps; stretches follow each other from last to first.  The slots hold these
  // steps alone, h_before and c_before (batch, units; nullable) the states before them.
  void run_steps(Team& team, Steps steps, const T* h_before, const T* c_before) {
    steps_ = steps;
    h_before_ = h_before;
    c_before_ = c_before;
    for (Index s1 = steps.last; s1 > steps.first;) {
      const Index s0 = s1 - steps.first > chunk_ ? s1 - chunk_ : steps.first;
      number_pairs(s0, s1);
      team.run(groups_.parts, [&](Index g, int worker) {
        step_back(worker_scratch(worker), group_start(groups_, g), groups_.size(g), s0, s1);
      });
      const Index weight_items = weights_.wanted() ? weights_.items() : 0;
      const Index input_items = a_.dx ? (pairs_ + kInputRows - 1) / kInputRows : 0;
      if (pairs_ > 0)
        team.run(weight_items + input_items, [&](Index item, int worker) {
          if (item < weight_items)
            weights_.add(item, dg_, worker_scratch(worker).stretch);
          else
            input_item(worker_scratch(worker), (item - weight_items) * kInputRows);
        });
      s1 = s0;
    }
  }

  // After all stretches: the gradients of weights and initial states.
  void finish(Team& team) {
    const auto copy_out = [&](void* to, const T* from) {
      if (!to) return;
      for (Index b = 0; b < p_.batch; ++b)
        std::memcpy(static_cast<T*>(to) + b * p_.units, from + b * padded_,
                    sizeof(T) * std::size_t(p_.units));
    };
    if (p_.time_steps == 0)  // the initial state is the last output
      for (Index i = 0; i < p_.batch * padded_; ++i) dh_[i] += pending_[i];
    copy_out(a_.dh0, dh_);
    if (C::has_cell_state) copy_out(a_.dc0, dc_);
    weights_.finish(team);
  }

  // How many steps are taken at once.
  Index chunk() const { return chunk_; }

 private:
  struct Worker {
    BackwardRow<T>* row;      // (group rows)
    Index* batch_row;         // (group rows)
    const T** multiplied;     // (group rows): what a forward product multiplied
    const Operand** operand;  // rows of A of a product
    Operand* stretch;         // scratch of the weights' gradients
  };

  bool per_gate_x() const { return p_.dropout_x_masks > 1; }
  bool per_gate_h() const { return p_.dropout_h_masks > 1; }
  Index input_time(Index s) const { return p_.go_backwards ? p_.time_steps - 1 - s : s; }
  bool kept(Index b, Index s) const {
    return !a_.mask || a_.mask[b * p_.time_steps + input_time(s)];
  }

  Index slot_offset(Index b, Index s) const {
    return (b * (steps_.last - steps_.first) + s - steps_.first) * p_.units;
  }

  void lay_out_shared(Arena& arena) {
    const Index pairs = p_.batch * chunk_, state = p_.batch * padded_;
    dg_ = arena.take<T>(pairs * row_columns_);
    dg_copies_ = arena.take<Operand>(P::converts ? pairs * P::steps(row_columns_) : 0);
    pair_of_ = arena.take<Index>(pairs);
    place_ = arena.take<Place>(pairs);
    weights_.lay_out(arena, pairs);
    for (int phase = 0; phase < C::phases; ++phase) {
      transposed_[phase] =
          plain_panels<Operand>(p_.units, P::steps(blocks_ * C::recurrent[phase].count * L));
      transposed_[phase].data = arena.take<Operand>(transposed_[phase].size());
    }
    reset_h_ = arena.take<T>(two_phases ? state : 0);
    product_ = arena.take<T>(two_phases ? state : 0);
    kernel_transposed_ = plain_panels<Operand>(p_.features, P::steps(blocks_ * C::input.count * L));
    kernel_transposed_.data = arena.take<Operand>(a_.dx ? kernel_transposed_.size() : 0);
    dh_ = arena.take<T>(state);
    pending_ = arena.take<T>(state);
    dc_ = arena.take<T>(C::has_cell_state ? state : 0);
    zeros_ = arena.take<T>(padded_);
  }

  Worker worker_scratch(int worker) {
    Arena arena(workspace_->data() + shared_bytes_ + worker_bytes_ * std::size_t(worker));
    return lay_out_worker(arena);
  }

  // dg of a pair as the products with transposed kernels multiply it.
  const Operand* dg_operands(Index pair) const {
    if constexpr (P::converts)
      return dg_copies_ + pair * P::steps(row_columns_);
    else
      return dg_ + pair * row_columns_;
  }

  Worker lay_out_worker(Arena& arena) {
    Worker w;
    w.row = arena.take<BackwardRow<T>>(group_rows_);
    w.batch_row = arena.take<Index>(group_rows_);
    w.multiplied = arena.take<const T*>(group_rows_);
    w.operand = arena.take<const Operand*>(group_rows_ > kInputRows ? group_rows_ : kInputRows);
    w.stretch = arena.take<Operand>(WeightGradients<T, C, P>::kScratch);
    return w;
  }

  void start(Team& team) {
    const auto copy_in = [&](T* to, const void* from) {
      std::memset(to, 0, sizeof(T) * std::size_t(p_.batch * padded_));
      if (!from) return;
      for (Index b = 0; b < p_.batch; ++b)
        std::memcpy(to + b * padded_, static_cast<const T*>(from) + b * p_.units,
                    sizeof(T) * std::size_t(p_.units));
    };
    copy_in(dh_, a_.d_state_h);
    copy_in(pending_, a_.d_last_output);  // reaches the last kept output, like a repeated one
    if (C::has_cell_state) copy_in(dc_, a_.d_state_c);
    std::memset(zeros_, 0, sizeof(T) * std::size_t(padded_));
    const Index recurrent = transposed_[0].count, input = a_.dx ? kernel_transposed_.count : 0;
    team.run(recurrent + input + blocks_, [&](Index item, int) {
      if (item < recurrent) {
        const int first = p_.time_steps > 1 || a_.dh0 ? 0 : 1;  // see step_back
        for (int phase = first; phase < C::phases; ++phase)
          pack_transposed<T, C, P>(static_cast<const T*>(a_.recurrent_kernel), p_.units, p_.units,
                                   p_.gates(), C::recurrent[phase], transposed_[phase], item);
      } else if (item < recurrent + input) {
        pack_transposed<T, C, P>(static_cast<const T*>(a_.kernel), p_.features, p_.units,
                                 p_.gates(), C::input, kernel_transposed_, item - recurrent);
      } else {
        weights_.clear(item - recurrent - input);
      }
    });
  }

  // Gives every kept (step, row) of the chunk its place in dg, in the order of the chains of the
  // weights' gradients.
  void number_pairs(Index s0, Index s1) {
    pairs_ = 0;
    for (Index s = s1 - 1; s >= s0; --s)
      for (Index b = 0; b < p_.batch; ++b) {
        const bool keep = kept(b, s);
        pair_of_[(s - s0) * p_.batch + b] = keep ? pairs_ : -1;
        if (keep) place_[pairs_++] = {b, s};
      }
    weights_.begin(pairs_);
  }

  const T* previous(const void* states, const T* before, Index b, Index s) const {
    if (s > steps_.first) return static_cast<const T*>(states) + slot_offset(b, s - 1);
    return before ? before + b * p_.units : zeros_;
  }

  void step_back(Worker w, Index first, Index rows, Index s0, Index s1) {
    for (Index s = s1 - 1; s >= s0; --s) {
      Index n = 0, first_pair = 0;  // a group's pairs of one step follow each other
      for (Index b = first; b < first + rows; ++b) {
        const Index pair = pair_of_[(s - s0) * p_.batch + b];
        if (pair < 0) {
          pass_by(b, s);
          continue;
        }
        if (n == 0) first_pair = pair;
        prepare_row(w.row[n], b, s, pair);
        w.batch_row[n++] = b;
      }
      if (n == 0) continue;
      keep_operands(w, s, n, first_pair);
      if constexpr (two_phases) run_phase<1>(w, s, n, first_pair, true);
      run_phase<0>(w, s, n, first_pair, s > 0 || a_.dh0);
    }
  }

  void prepare_row(BackwardRow<T>& row, Index b, Index s, Index pair) {
    const Index offset = (b * p_.time_steps + s) * p_.units;
    row.h_prev = previous(a_.slots.hidden_state, h_before_, b, s);
    row.c_prev = C::has_cell_state ? previous(a_.slots.cell_state, c_before_, b, s) : nullptr;
    row.saved = slot_rows<const T*>(a_.slots, slot_offset(b, s));
    row.d_saved = slot_rows<const T*>(a_.d_slots, offset);
    row.d_output = a_.d_sequence ? static_cast<const T*>(a_.d_sequence) + offset : nullptr;
    row.dh = dh_ + b * padded_;
    row.pending = pending_ + b * padded_;
    row.dc = C::has_cell_state ? dc_ + b * padded_ : nullptr;
    row.product = two_phases ? product_ + b * padded_ : nullptr;
    row.reset_h = two_phases ? reset_h_ + b * padded_ : nullptr;
    row.dg = dg_ + pair * row_columns_;
  }

  // Hands what the products of this step multiplied to the weights' gradients.
  void keep_operands(const Worker& w, Index s, Index n, Index first_pair) {
    if (a_.dkernel) {
      for (Index i = 0; i < n; ++i)
        w.multiplied[i] = static_cast<const T*>(a_.x) +
                          (w.batch_row[i] * p_.time_steps + input_time(s)) * p_.features;
      weights_.keep_input(w.multiplied, w.batch_row, n, first_pair);
    }
    if (weights_.keeps_state()) {
      for (Index i = 0; i < n; ++i) w.multiplied[i] = w.row[i].h_prev;
      weights_.keep_state(0, w.multiplied, w.batch_row, n, first_pair);
    }
  }

  // A masked step: gradients of the carried state pass by, those of a repeated output wait for
  // the step that produced it.
  void pass_by(Index b, Index s) {
    const Index offset = (b * p_.time_steps + s) * p_.units;
    const auto add = [&](T* to, const void* from) {
      if (!from) return;
      const T* d = static_cast<const T*>(from) + offset;
      for (Index u = 0; u < p_.units; ++u) to[u] += d[u];
    };
    add(dh_ + b * padded_, a_.d_slots.hidden_state);
    if (C::has_cell_state) add(dc_ + b * padded_, a_.d_slots.cell_state);
    if (!p_.zero_output_for_mask) add(pending_ + b * padded_, a_.d_sequence);
    if (a_.dx)
      std::memset(static_cast<T*>(a_.dx) + (b * p_.time_steps + input_time(s)) * p_.features, 0,
                  sizeof(T) * std::size_t(p_.features));
  }

  // `product`: whether the gradient of what the recurrent product multiplied is wanted.
  template <int phase>
  void run_phase(const Worker& w, Index s, Index n, Index first_pair, bool product) {
    constexpr Columns part = C::recurrent[phase];
    for (Index i = 0; i < n; ++i)
      for (Index block = 0; block < blocks_; ++block)
        C::template backward<phase>(act_, w.row[i], block, lanes_of<T>(p_.units, block));
    if (phase == 1 && weights_.keeps_state()) {
      for (Index i = 0; i < n; ++i) w.multiplied[i] = w.row[i].reset_h;
      weights_.keep_state(1, w.multiplied, w.batch_row, n, first_pair);
    }
    if constexpr (P::converts)
      for (Index pair = first_pair; pair < first_pair + n; ++pair)
        P::row(dg_ + pair * row_columns_, row_columns_, 1,
               dg_copies_ + pair * P::steps(row_columns_));
    if (!product) return;
    // d(operand) = dg . recurrent_kernel^T; of phase 0 it is h_prev's and joins dh.
    T* const BackwardRow<T>::* target = phase == 0 ? &BackwardRow<T>::dh : &BackwardRow<T>::product;
    const auto multiply_columns = [&](Columns columns, Index b_first, Index inner, bool add,
                                      const T* masks) {
      for (Index i = 0; i < n; ++i)
        w.operand[i] = dg_operands(first_pair + i) + P::steps(columns.first * L);
      const Panels<Operand>& b = transposed_[phase];
      const Depth depth = {blocks_, P::steps(inner), P::steps(C::columns * L),
                           P::steps(part.count * L) * b.width()};
      multiply<Operand, false>(
          w.operand, n, depth, b, b_first, s % 2,
          [&](const T* tile, Index panel, int panels, Index row, int rows) {
            const int vectors = panels * b.vectors;
            for (int m = 0; m < rows; ++m) {
              T* to = w.row[row + m].*target;
              for (int v = 0; v < vectors; ++v) {
                const Index block = panel * b.vectors + v;
                if (block >= blocks_) break;
                Vec<T> d = load(tile + (m * vectors + v) * L);
                if (masks)
                  d = d * load_n(masks + w.batch_row[row + m] * p_.units + block * L,
                                 lanes_of<T>(p_.units, block));
                store(to + block * L, add ? load(to + block * L) + d : d);
              }
            }
          });
    };
    const T* masks = static_cast<const T*>(a_.dropout_h);
    if (!masks || !per_gate_h()) {
      multiply_columns(part, 0, part.count * L, phase == 0, masks);
      return;
    }
    for (int c = 0; c < part.count; ++c)
      multiply_columns({part.first + c, 1}, P::steps(c * L) * transposed_[phase].width(), L,
                       phase == 0 || c > 0,
                       masks + C::column_gate[part.first + c] * p_.batch * p_.units);
  }

  // dx of a stretch of pairs.
  void input_item(Worker w, Index first) {
    const Index n = pairs_ - first < kInputRows ? pairs_ - first : kInputRows;
    const Panels<Operand>& b = kernel_transposed_;
    const auto multiply_columns = [&](Columns columns, Index b_first, Index inner, bool add,
                                      const T* masks) {
      for (Index i = 0; i < n; ++i)
        w.operand[i] = dg_operands(first + i) + P::steps(columns.first * L);
      const Depth depth = {blocks_, P::steps(inner), P::steps(C::columns * L),
                           P::steps(C::input.count * L) * b.width()};
      multiply<Operand, false>(
          w.operand, n, depth, b, b_first, false,
          [&](const T* tile, Index panel, int panels, Index row, int rows) {
            const int vectors = panels * b.vectors;
            for (int m = 0; m < rows; ++m) {
              const Place at = place_[first + row + m];
              T* to = static_cast<T*>(a_.dx) +
                      (at.batch_row * p_.time_steps + input_time(at.step)) * p_.features;
              for (int v = 0; v < vectors; ++v) {
                const Index block = panel * b.vectors + v;
                const int lanes = lanes_of<T>(p_.features, block);
                if (lanes == 0) break;
                Vec<T> d = load(tile + (m * vectors + v) * L);
                if (masks) d = d * load_n(masks + at.batch_row * p_.features + block * L, lanes);
                if (add) d = d + load_n(to + block * L, lanes);
                store_n(to + block * L, d, lanes);
              }
            }
          });
    };
    const T* masks = static_cast<const T*>(a_.dropout_x);
    if (!masks || !per_gate_x()) {
      multiply_columns(C::input, 0, C::input.count * L, false, masks);
      return;
    }
    for (int c = 0; c < C::input.count; ++c)
      multiply_columns({C::input.first + c, 1}, P::steps(c * L) * b.width(), L, c > 0,
                       masks + C::column_gate[C::input.first + c] * p_.batch * p_.features);
  }

  struct Place {
    Index batch_row, step;
  };

  const Problem& p_;
  const BackwardArgs& a_;
  const Act act_;
  const Index blocks_, padded_, row_columns_;
  Index chunk_ = 1, group_rows_ = 0, pairs_ = 0;
  Steps steps_ = {};
  const T *h_before_ = nullptr, *c_before_ = nullptr;
  EvenSplit groups_ = EvenSplit(0, 1);
  std::optional<Workspace> workspace_;
  std::size_t shared_bytes_ = 0, worker_bytes_ = 0;
  WeightGradients<T, C, P> weights_;
  T* dg_ = nullptr;               // (pairs, blocks, columns) vectors
  Operand* dg_copies_ = nullptr;  // the same as operands, where they are converted
  Index* pair_of_ = nullptr;      // (steps of the chunk, batch): place in dg, -1 where masked
  Place* place_ = nullptr;        // (pairs)
  T* reset_h_ = nullptr;          // (batch, padded), as is product_
  T* product_ = nullptr;
  Panels<Operand> transposed_[C::phases], kernel_transposed_;
  T *dh_ = nullptr, *pending_ = nullptr, *dc_ = nullptr;  // (batch, padded)
  T* zeros_ = nullptr;
};

}  // namespace RECURRA_ISA
}  // namespace recurra
