// The engine's vocabulary: what one call computes (Problem), the arrays it reads and writes
// (ForwardArgs, BackwardArgs) and the table through which a call reaches the kernels that were
// compiled for this processor.  Nothing here depends on an instruction set or on a host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cells/list.h"

// Functions that files of different instruction sets share must be inlined: an out-of-line copy
// could be the one that was compiled for a processor this one is not.
#define RECURRA_INLINE inline __attribute__((always_inline))

namespace recurra {

using Index = std::ptrdiff_t;

inline constexpr int kMaxGates = 4;

#define RECURRA_CELL(name, functor, has_cell_state, reset_after, candidate, ...) name,
enum class Cell : int { RECURRA_CELLS(RECURRA_CELL) };
#undef RECURRA_CELL

struct CellFacts {
  const char* name;
  bool has_cell_state;
  bool has_reset_after;
  int candidate;
  const char* gate_names[kMaxGates];
  RECURRA_INLINE constexpr int gates() const {
    int n = 0;
    while (n < kMaxGates && gate_names[n]) ++n;
    return n;
  }
};
#define RECURRA_CELL(name, functor, has_cell_state, reset_after, candidate, ...) \
  {#name, has_cell_state, reset_after, candidate, {__VA_ARGS__}},
inline constexpr CellFacts kCells[] = {RECURRA_CELLS(RECURRA_CELL)};
#undef RECURRA_CELL

// The order is that of recurra.cells.ACTIVATIONS (a test compares the two).
enum class Activation : int {
  linear,
  tanh,
  sigmoid,
  hard_sigmoid,
  relu,
  softsign,
  elu,
  selu,
  gelu,
  silu,
  exponential,
  softplus
};
inline constexpr const char* kActivationNames[] = {
    "linear", "tanh", "sigmoid", "hard_sigmoid", "relu",        "softsign",
    "elu",    "selu", "gelu",    "silu",         "exponential", "softplus"};

// The derivative of these cannot be found from the activation's output: the cache keeps their
// argument as well.
RECURRA_INLINE bool derivative_needs_input(Activation a) {
  return a == Activation::gelu || a == Activation::silu;
}

enum class Dtype : int { float32, float64 };

// What the matrix products multiply; they are summed up in the arrays' type.
enum class Products : int { as_arrays, bfloat16 };

struct Problem {
  Cell cell = Cell::lstm;
  bool reset_after = true;  // GRU only
  Activation activation = Activation::tanh;
  Activation recurrent_activation = Activation::sigmoid;
  bool go_backwards = false;
  bool zero_output_for_mask = false;
  Index checkpoint_every = 0;  // 0: every step is saved; k: the states before steps 0, k, 2k, ...
  Products products = Products::as_arrays;
  Dtype dtype = Dtype::float32;
  Index batch = 0, time_steps = 0, features = 0, units = 0;
  int dropout_x_masks = 0;  // 0 (none), 1 (one for all gates) or one per gate
  int dropout_h_masks = 0;

  RECURRA_INLINE const CellFacts& facts() const { return kCells[int(cell)]; }
  RECURRA_INLINE int gates() const { return facts().gates(); }
  RECURRA_INLINE Index checkpoints() const {
    return checkpoint_every ? (time_steps + checkpoint_every - 1) / checkpoint_every : 0;
  }
  RECURRA_INLINE bool two_biases() const { return facts().has_reset_after && reset_after; }
  RECURRA_INLINE Activation gate_activation(int gate) const {
    return gate == facts().candidate ? activation : recurrent_activation;
  }
};

// Per-step arrays (batch, time_steps, units) in processing order, each nullable: kept for the
// backward pass and handed to the user as the trace.  `pre` holds the pre-activations of gates
// whose derivative needs them; `recurrent_candidate` is GRU's h_prev.R_h + b (reset_after).
template <class P>
struct Slots {
  P gate[kMaxGates] = {};
  P cell_state = nullptr;
  P hidden_state = nullptr;
  P recurrent_candidate = nullptr;
  P pre[kMaxGates] = {};
};

// Calls f(prefix, stem, pointer) for the slots of a problem without checkpoints, in canonical
// order; prefix and stem make the name.
template <class P, class F>
RECURRA_INLINE void visit_slots(const Problem& p, Slots<P>& slots, F&& f) {
  const CellFacts& cell = p.facts();
  // The value of a single gate is the hidden state, which is saved anyway.
  for (int g = 0; g < p.gates() && p.gates() > 1; ++g) f("", cell.gate_names[g], slots.gate[g]);
  if (cell.has_cell_state) f("", "cell_state", slots.cell_state);
  f("", "hidden_state", slots.hidden_state);
  if (p.two_biases()) f("", "recurrent_candidate", slots.recurrent_candidate);
  for (int g = 0; g < p.gates(); ++g)
    if (derivative_needs_input(p.gate_activation(g))) f("pre_", cell.gate_names[g], slots.pre[g]);
}

struct ForwardArgs {
  const void* x = nullptr;                 // (batch, time_steps, features)
  const void* kernel = nullptr;            // (features, gates*units)
  const void* recurrent_kernel = nullptr;  // (units, gates*units)
  const void* bias = nullptr;          // nullable; (gates*units), GRU reset_after: (2, gates*units)
  const void* h0 = nullptr;            // nullable; (batch, units)
  const void* c0 = nullptr;            // nullable; (batch, units)
  const std::uint8_t* mask = nullptr;  // nullable; (batch, time_steps), nonzero = keep
  const void* dropout_x = nullptr;     // nullable; (dropout_x_masks, batch, features)
  const void* dropout_h = nullptr;     // nullable; (dropout_h_masks, batch, units)
  void* last_output = nullptr;         // nullable; (batch, units)
  void* state_h = nullptr;             // nullable; (batch, units)
  void* state_c = nullptr;             // nullable; (batch, units)
  void* sequence = nullptr;            // nullable; (batch, time_steps, units)
  Slots<void*> slots;                  // nothing with checkpoint_every, but
  void* checkpoint_h = nullptr;        // nullable; (batch, checkpoints, units)
  void* checkpoint_c = nullptr;        // nullable; (batch, checkpoints, units)
};

struct BackwardArgs {
  const void* x = nullptr;
  const void* kernel = nullptr;
  const void* recurrent_kernel = nullptr;
  const void* bias = nullptr;  // read with checkpoint_every only
  const void* h0 = nullptr;
  const void* c0 = nullptr;
  const std::uint8_t* mask = nullptr;
  const void* dropout_x = nullptr;
  const void* dropout_h = nullptr;
  Slots<const void*> slots;  // as the forward pass wrote them; hidden_state is never null.  Nothing
                             // with checkpoint_every, but
  const void* checkpoint_h = nullptr;
  const void* checkpoint_c = nullptr;
  const void* d_last_output = nullptr;  // every cotangent is nullable (null = zero)
  const void* d_state_h = nullptr;
  const void* d_state_c = nullptr;
  const void* d_sequence = nullptr;
  Slots<const void*> d_slots;
  void* dx = nullptr;  // every gradient is nullable (null = not wanted)
  void* dkernel = nullptr;
  void* drecurrent_kernel = nullptr;
  void* dbias = nullptr;
  void* dh0 = nullptr;
  void* dc0 = nullptr;
};

class Team;

struct Kernels {
  const char* name;
  void (*forward)(const Problem&, const ForwardArgs&, Team&);
  void (*backward)(const Problem&, const BackwardArgs&, Team&);
};

// dispatch.cpp: the instruction sets this processor can run, best first, and the one in use.
constexpr int kIsas = 4;
int runnable_isas(const Kernels** out);  // out has room for kIsas
const Kernels& active_kernels();
bool select_isa(const char* name);  // false: unknown or not runnable here

}  // namespace recurra
