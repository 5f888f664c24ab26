// The weights' gradients of the backward scan: dkernel = x^T dg, drecurrent_kernel = h^T dg and
// dbias, the sum of dg, over all kept (step, row) pairs.
//
// Every element is one chain over the pairs from the last step to the first, rows ascending within
// a step, whatever the chunks and the threads.
#pragma once

#include "gemm_transposed.h"
#include "pack.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T, class C, class P>
class WeightGradients {
  using Operand = typename P::Operand;
  static constexpr int L = kLanes<T>;
  static constexpr Index kStretch = 256;    // operands of pairs that stay in the nearest cache
  static constexpr Index kBlocks = 2;       // unit blocks of one item
  static constexpr Index kWantedItems = 8;  // for the threads to share
  static constexpr Index kPlane = kStretch * L;

 public:
  // A worker's scratch: one vector of each pair of a stretch after the other, for every column of
  // an item's blocks.
  static constexpr Index kScratch = kBlocks * C::columns * kPlane;

  WeightGradients(const Problem& p, const BackwardArgs& a)
      : p_(p), a_(a), blocks_(blocks_of<T>(p.units)) {}

  bool wanted() const { return a_.dkernel || a_.drecurrent_kernel || a_.dbias; }

  void lay_out(Arena& arena, Index pairs) {
    const Index capacity = padded_pairs(P::steps(pairs));
    if (a_.dkernel)
      input_.lay_out(arena, p_.features, C::input, a_.dropout_x ? p_.dropout_x_masks : 0, capacity,
                     blocks_);
    for (int phase = 0; phase < C::phases; ++phase)
      if (recurrent_was_used())
        recurrent_[phase].lay_out(arena, p_.units, C::recurrent[phase],
                                  a_.dropout_h ? p_.dropout_h_masks : 0, capacity, blocks_);
    dbias_ = arena.take<T>(blocks_ * C::columns * L);
  }

  // How many pairs the chunk has that begins now.
  void begin(Index pairs) { pairs_ = pairs; }

  void clear(Index block) {
    std::memset(dbias_ + block * C::columns * L, 0, sizeof(T) * C::columns * L);
    input_.clear(block);
    for (Product& product : recurrent_) product.clear(block);
  }

  // What the input product multiplied at pairs `pair` .. `pair`+count-1: rows of x, before dropout.
  void keep_input(const T* const* rows, const Index* batch_rows, Index count, Index pair) {
    input_.keep(rows, static_cast<const T*>(a_.dropout_x), batch_rows, p_.batch, count, pair,
                pairs_);
  }
  // The same for the recurrent product of `phase`.
  void keep_state(int phase, const T* const* rows, const Index* batch_rows, Index count,
                  Index pair) {
    recurrent_[phase].keep(rows, static_cast<const T*>(a_.dropout_h), batch_rows, p_.batch, count,
                           pair, pairs_);
  }
  bool keeps_state() const { return recurrent_was_used(); }

  // The work of one chunk: groups of blocks, each cut into parts where there are few.  dg holds the
  // gradients of the pre-activations: (pairs, blocks, columns) vectors.
  Index items() const { return block_groups() * parts(); }
  void add(Index item, const T* dg, Operand* scratch) {
    const Index part = item % parts(), first = item / parts() * kBlocks;
    const Index blocks = blocks_ - first < kBlocks ? blocks_ - first : kBlocks;
    const EvenSplit stretches(P::steps(pairs_), kStretch);
    for (Index i = 0, step = 0; i < stretches.parts; step += stretches.size(i++)) {
      const Index count = stretches.size(i);
      for (Index b = 0; b < blocks; ++b)
        copy_planes(dg, first + b, step, count, part == 0, scratch + b * C::columns * kPlane);
      const auto add_to = [&](Product& product) {
        product.add(first, blocks, part, parts(), scratch, step, count);
      };
      add_to(input_);
      for (Product& product : recurrent_) add_to(product);
    }
  }

  void finish(Team& team) {
    if (a_.dbias) unpack_bias<T, C>(dbias_, p_.units, p_.gates(), static_cast<T*>(a_.dbias));
    if (a_.drecurrent_kernel && !recurrent_was_used())
      std::memset(a_.drecurrent_kernel, 0,
                  sizeof(T) * std::size_t(p_.units * p_.gates() * p_.units));
    if (!a_.dkernel && !recurrent_was_used()) return;
    team.run(blocks_, [&](Index block, int) {
      if (a_.dkernel)
        unpack_gates<T, C>(input_.sum, p_.units, p_.gates(), C::input, block,
                           static_cast<T*>(a_.dkernel));
      for (int phase = 0; phase < C::phases; ++phase)
        if (recurrent_was_used())
          unpack_gates<T, C>(recurrent_[phase].sum, p_.units, p_.gates(), C::recurrent[phase],
                             block, static_cast<T*>(a_.drecurrent_kernel));
    });
  }

 private:
  // One kernel's gradient.  With a dropout mask per gate the kernel multiplied a row of its own for
  // each of its columns.
  struct Product {
    Columns columns = {0, 0};
    bool mask_per_gate = false;
    int copies = 0;  // of each row; 0: this gradient is not wanted
    int tile_vectors = 1;
    Strips<Operand> rows[kMaxGates];
    Panels<T> sum;  // a panel per unit block

    // Tiles take a block's columns, or one column of two blocks where that is all that goes with
    // the same rows.
    bool across_blocks() const { return copies > 1 || columns.count == 1; }

    void lay_out(Arena& arena, Index size, Columns part, int masks, Index capacity, Index blocks) {
      columns = part;
      mask_per_gate = masks > 1;
      copies = mask_per_gate ? part.count : 1;
      tile_vectors = across_blocks() ? int(kBlocks) : vectors_per_tile(kMaxTileRows, part.count);
      for (int c = 0; c < copies; ++c) {
        rows[c].columns = size;
        rows[c].capacity = capacity;
        rows[c].widest = max_rows_for(tile_vectors);
        rows[c].data = arena.take<Operand>(rows[c].size());
      }
      sum.count = blocks;
      sum.depth = size;
      sum.vectors = part.count;
      sum.data = arena.take<T>(sum.size());
    }

    void clear(Index block) {
      if (copies) std::memset(sum.panel(block), 0, sizeof(T) * std::size_t(sum.panel_size()));
    }

    void keep(const T* const* from, const T* masks, const Index* batch_rows, Index batch,
              Index count, Index pair, Index pairs) const {
      constexpr Index kRows = 16;
      for (Index n = 0; n < count; n += kRows) {
        const Index most = count - n < kRows ? count - n : kRows;
        for (int c = 0; c < copies; ++c) {
          const int gate = mask_per_gate ? C::column_gate[columns.first + c] : 0;
          const T* mask_rows[kRows];
          if (masks)
            for (Index i = 0; i < most; ++i)
              mask_rows[i] = masks + (gate * batch + batch_rows[n + i]) * rows[c].columns;
          pack_strips<P, T>(from + n, masks ? mask_rows : nullptr, most, pair + n, pairs, rows[c]);
        }
      }
    }

    // `planes` hold the operands of dg from `step` on.
    void add(Index block, Index blocks, Index part, Index parts, const Operand* planes, Index step,
             Index count) {
      if (!copies) return;
      const Index strips = rows[0].split().parts;
      const Index begin = strips * part / parts, end = strips * (part + 1) / parts;
      const auto multiply = [&](const Strips<Operand>& a, Index b, int column, int vectors,
                                Index b_vector, Index out_vector) {
        multiply_transposed(
            a, begin, end, step, count, planes + (b * C::columns + columns.first + column) * kPlane,
            vectors, {L, b_vector, sum.width(), out_vector}, sum.panel(block + b) + column * L);
      };
      if (across_blocks()) {
        for (int c = 0; c < columns.count; ++c)
          multiply(rows[c], 0, c, int(blocks), C::columns * kPlane, sum.panel_size());
        return;
      }
      for (Index b = 0; b < blocks; ++b)
        for (int c = 0; c < columns.count; c += tile_vectors)
          multiply(rows[0], b, c, tile_vectors, kPlane, L);
    }
  };

  // One step from the zero state: the recurrent kernel multiplied zeros, and its gradient is zero.
  bool recurrent_was_used() const { return a_.drecurrent_kernel && (p_.time_steps > 1 || a_.h0); }
  Index block_groups() const { return (blocks_ + kBlocks - 1) / kBlocks; }
  Index parts() const {
    return block_groups() ? (kWantedItems + block_groups() - 1) / block_groups() : 1;
  }

  // A block's columns of `count` steps (of a pair each, or of two) as the operands of a product, a
  // plane for each column, and the sums of dg to the bias.
  void copy_planes(const T* dg, Index block, Index step, Index count, bool add_bias,
                   Operand* planes) {
    const Index row = blocks_ * C::columns * L, first = P::first_of(step);
    const Index last = P::first_of(step + count) < pairs_ ? P::first_of(step + count) : pairs_;
    const T* from = dg + first * row + block * C::columns * L;
    T* bias = dbias_ + block * C::columns * L;
    Vec<T> sum[C::columns];
    for (int c = 0; c < C::columns; ++c) sum[c] = load(bias + c * L);
    for (Index n = 0; n < last - first; n = P::first_of(P::step_of(n) + 1)) {
      for (int at = 0; at < C::columns * L; at += 64 / int(sizeof(T)))
        __builtin_prefetch(from + (n + 12) * row + at);
      for (int c = 0; c < C::columns; ++c) {
        const auto plane = [&](Index k) {
          const Vec<T> v = load(from + k * row + c * L);
          sum[c] = sum[c] + v;
          return v;
        };
        store(planes + c * kPlane + P::step_of(n) * L,
              P::operand(P::step_of(n), last - first, plane));
      }
    }
    if (add_bias)
      for (int c = 0; c < C::columns; ++c) store(bias + c * L, sum[c]);
  }

  const Problem& p_;
  const BackwardArgs& a_;
  const Index blocks_;
  Index pairs_ = 0;
  Product input_, recurrent_[C::phases];
  T* dbias_ = nullptr;
};

}  // namespace RECURRA_ISA
}  // namespace recurra
