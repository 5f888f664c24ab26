// A model as a list of operations, compiled once: weights packed, memory laid out.  It is never
// changed after that, so any number of threads may run it.
#pragma once

#include <memory>
#include <vector>

#include "ops.h"

namespace recurra {
namespace runtime {

// One run of a plan: all arrays are C-contiguous, (rows, steps, width) or (rows, width).
struct Run {
  Index rows = 1, steps = 1;
  const void* const* inputs = nullptr;  // one for each of the plan's, null only for masks
  float* const* outputs = nullptr;
  char* state = nullptr;          // the rows' states, one behind the other, or
  char* const* states = nullptr;  // each row's; neither: all start from zero
};

class StreamPlan {
 public:
  // Inputs, and outputs: calls keep as many pointers on the stack.
  static constexpr std::size_t kMostArrays = 64;

  // Throws std::invalid_argument naming the operation that does not fit.
  explicit StreamPlan(ProgramSpec program);

  // Throws std::invalid_argument for indices out of range, before any state has changed.
  void run(const Run& run) const;

  const char* isa() const { return kernels_.name; }
  const std::vector<StateField>& state() const { return fields_; }
  Index state_bytes() const { return state_bytes_; }
  std::size_t inputs() const { return program_.inputs.size(); }
  std::size_t outputs() const { return program_.outputs.size(); }
  const TensorSpec& input(std::size_t i) const {
    return program_.tensors[std::size_t(program_.inputs[i])];
  }
  const TensorSpec& output(std::size_t i) const {
    return program_.tensors[std::size_t(program_.outputs[i])];
  }

 private:
  struct Layout;
  void lay_out_tensors();
  void check_inputs(const Run& run) const;
  Layout layout(Index rows, Index steps, bool own_states) const;
  int threads_for(Index rows, Index steps) const;
  bool splits_units(Index rows, int threads) const;
  void run_group(const Run& run, Index first, Index rows, Team* team) const;
  void run_block(const Run& run, Index first, Index t0, Block& block, View* views) const;

  ProgramSpec program_;  // without weights
  const OpKernels& kernels_;
  std::vector<Memory> packed_;  // weights
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<StateField> fields_;
  Index state_bytes_ = 0;

  // Where a tensor's values lie: in an array of the caller's, or so many bytes into the scratch
  // memory for each of its (row, step) pairs.
  struct Place {
    int input = -1, output = -1;
    Index offset = 0, width_bytes = 0;
    bool steps = false;
  };
  std::vector<Place> places_;
  Index pair_bytes_ = 0, row_bytes_ = 0;  // of scratch memory, for a pair and for a row
  std::vector<int> copied_;               // outputs that are written elsewhere
  Index most_rows_ = 1;                   // that one thread takes together
  double work_ = 0;                       // multiplications and additions for a row's step
  std::size_t step_scratch_ = 0;          // the operations', for one row's step
};

}  // namespace runtime
}  // namespace recurra
