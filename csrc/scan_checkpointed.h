// The backward pass from checkpoints: segments of the sequence, last to first.  Each is computed
// anew from the states before it, with every step saved in scratch memory, and stepped back
// through.
//
// No bit shows it: a scan of pieces is the scan of the whole, and the weights' gradients are chains
// over the steps, wherever segments begin.
#pragma once

#include "scan_backward.h"
#include "scan_forward.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T, class C, class Act, class P>
class CheckpointedBackward {
 public:
  CheckpointedBackward(const Problem& p, const BackwardArgs& a) : p_(p), a_(a) {
    again_.x = a.x;
    again_.kernel = a.kernel;
    again_.recurrent_kernel = a.recurrent_kernel;
    again_.bias = a.bias;
    again_.mask = a.mask;
    again_.dropout_x = a.dropout_x;
    again_.dropout_h = a.dropout_h;
  }

  void run(Team& team) {
    ForwardScan<T, C, Act, P> forward(p_, again_);
    BackwardScan<T, C, Act, P> backward(p_, back_);
    back_ = a_;
    backward.prepare(team);
    forward.prepare(team);
    const Index every = p_.checkpoint_every, steps = segment(backward.chunk());
    Arena measure(nullptr);
    lay_out(measure, steps);
    const Workspace workspace(measure.used());
    Arena arena(workspace.data());
    lay_out(arena, steps);

    for (Index last = p_.time_steps; last > 0;) {
      const Index first = (last - 1) / steps * steps;
      restore(a_.checkpoint_h, first / every, h_before_);
      if (C::has_cell_state) restore(a_.checkpoint_c, first / every, c_before_);
      forward.run_steps(team, {first, last});
      backward.run_steps(team, {first, last}, h_before_, c_before_);
      last = first;
    }
    backward.finish(team);
  }

 private:
  // Whole numbers of checkpoints, and enough work for the threads to share.
  Index segment(Index chunk) const {
    const Index every = p_.checkpoint_every;
    const Index steps = (chunk + every - 1) / every * every;
    return steps < p_.time_steps && p_.batch > 0 ? steps : p_.time_steps;
  }

  void lay_out(Arena& arena, Index steps) {
    h_before_ = arena.take<T>(p_.batch * p_.units);
    c_before_ = arena.take<T>(C::has_cell_state ? p_.batch * p_.units : 0);
    again_.h0 = h_before_;
    again_.c0 = c_before_;
    visit_slots(p_, again_.slots, [&](const char*, const char*, void*& slot) {
      slot = arena.take<T>(p_.batch * steps * p_.units);
    });
    Slots<const void*>& read = back_.slots;
    for (int g = 0; g < kMaxGates; ++g) {
      read.gate[g] = again_.slots.gate[g];
      read.pre[g] = again_.slots.pre[g];
    }
    read.cell_state = again_.slots.cell_state;
    read.hidden_state = again_.slots.hidden_state;
    read.recurrent_candidate = again_.slots.recurrent_candidate;
  }

  void restore(const void* checkpoints, Index checkpoint, T* to) const {
    const Index count = p_.checkpoints();
    for (Index b = 0; b < p_.batch; ++b)
      std::memcpy(to + b * p_.units,
                  static_cast<const T*>(checkpoints) + (b * count + checkpoint) * p_.units,
                  sizeof(T) * std::size_t(p_.units));
  }

  const Problem& p_;
  const BackwardArgs& a_;
  ForwardArgs again_;  // the forward pass through one segment
  BackwardArgs back_;  // a_ with the segment's slots
  T *h_before_ = nullptr, *c_before_ = nullptr;
};

}  // namespace RECURRA_ISA
}  // namespace recurra
