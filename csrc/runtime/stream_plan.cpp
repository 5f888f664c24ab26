#include "stream_plan.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "../executor.h"
#include "../float_mode.h"
#include "../team.h"
#include "scratch.h"

namespace recurra {
namespace runtime {
namespace {

// Rows that one thread takes together, and (row, step) pairs of one block: as the scan does, so
// that states and a block's values stay in near caches.
constexpr Index kRows = 48;
constexpr Index kPairs = 128;
constexpr Index kMostPairBytes = Index(1) << 27;
constexpr Index kBlockBytes = Index(1) << 24;
constexpr Index kGroupBytes = Index(1) << 28;  // of states and one step's values

Index element_bytes(Kind k) { return k == Kind::mask ? 1 : 4; }
Index whole_lines(Index bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

struct StreamPlan::Layout {
  std::size_t states, own_states, tensors, ops, bytes;
};

StreamPlan::StreamPlan(ProgramSpec program)
    : program_(std::move(program)), kernels_(active_op_kernels()) {
  for (const auto& list : {program_.inputs, program_.outputs})
    if (list.size() > kMostArrays)
      throw std::invalid_argument("a plan has at most " + std::to_string(kMostArrays) +
                                  " inputs and as many outputs, got " +
                                  std::to_string(list.size()));
  Builder builder(program_, kernels_);
  for (std::size_t i = 0; i < program_.ops.size(); ++i) {
    builder.begin(i);
    ops_.push_back(make_op(builder, program_.ops[i]));
    work_ += ops_.back()->work();
  }
  if (program_.outputs.empty()) throw std::invalid_argument("outputs: a plan needs one or more");
  for (const int tensor : program_.outputs) {
    if (!builder.is_tensor(tensor) || !builder.defined(tensor))
      throw std::invalid_argument("outputs: no operation writes tensor " + std::to_string(tensor));
    const Kind kind = builder.spec(tensor).kind;
    if (kind != Kind::steps && kind != Kind::row)
      throw std::invalid_argument("outputs: tensor " + std::to_string(tensor) +
                                  " must be of kind 'steps' or 'row'");
  }
  packed_ = builder.take_packed();
  fields_ = builder.fields();
  state_bytes_ = builder.state_bytes();
  program_.ops.clear();
  lay_out_tensors();
  const Index each = state_bytes_ + pair_bytes_ + row_bytes_ + 1;
  most_rows_ = std::max(Index(1), std::min(kRows, kGroupBytes / each));
  for (const auto& op : ops_) step_scratch_ = std::max(step_scratch_, op->scratch(1, 1));
}

void StreamPlan::lay_out_tensors() {
  places_.resize(program_.tensors.size());
  for (std::size_t i = 0; i < program_.inputs.size(); ++i)
    places_[std::size_t(program_.inputs[i])].input = int(i);
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    Place& place = places_[std::size_t(program_.outputs[i])];
    if (place.input < 0 && place.output < 0)
      place.output = int(i);
    else
      copied_.push_back(int(i));
  }
  for (std::size_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    const TensorSpec& tensor = program_.tensors[i];
    place.steps = per_step(tensor.kind);
    place.width_bytes = tensor.width * element_bytes(tensor.kind);
    if (place.input >= 0 || place.output >= 0) continue;
    Index& end = place.steps ? pair_bytes_ : row_bytes_;
    place.offset = end;
    end += whole_lines(place.width_bytes);
    if (end > kMostPairBytes)
      throw std::invalid_argument("the tensors of one step take more than " +
                                  std::to_string(kMostPairBytes) + " bytes");
  }
}

StreamPlan::Layout StreamPlan::layout(Index rows, Index steps, bool own_states) const {
  Layout l;
  std::size_t at = whole_lines(Index(sizeof(View)) * Index(places_.size()));
  l.states = at;
  at += std::size_t(whole_lines(rows * Index(sizeof(char*))));
  l.own_states = at;
  if (own_states) at += std::size_t(rows * state_bytes_);
  l.tensors = at;
  at += std::size_t(rows * (steps * pair_bytes_ + row_bytes_));
  l.ops = at;
  std::size_t most = step_scratch_;
  if (rows * steps != 1) {
    most = 0;
    for (const auto& op : ops_) most = std::max(most, op->scratch(rows, steps));
  }
  l.bytes = at + most;
  return l;
}

void StreamPlan::check_inputs(const Run& run) const {
  for (const auto& op : ops_) op->check(run.inputs, run.rows, run.steps);
}

int StreamPlan::threads_for(Index rows, Index steps) const {
  const double work = work_ * double(rows) * double(std::max(steps, Index(1)));
  Executor& executor = own_executor();
  if (work < 2 * executor.worth_a_thread()) return 1;
  const double deserved = work / executor.worth_a_thread();
  const int available = executor.threads();
  return deserved < double(available) ? int(deserved) : available;
}

bool StreamPlan::splits_units(Index rows, int threads) const {
  if (threads == 1 || rows > most_rows_) return false;
  for (const auto& op : ops_)
    if (op->splits_units(rows, threads)) return true;
  return false;
}

void StreamPlan::run(const Run& run) const {
  check_inputs(run);
  if (run.rows == 0) return;
  const int threads = threads_for(run.rows, run.steps);
  if (splits_units(run.rows, threads)) {
    Team team(own_executor(), threads);
    return run_group(run, 0, run.rows, &team);
  }
  Index groups = (run.rows + most_rows_ - 1) / most_rows_;
  if (groups % threads) groups += threads - groups % threads;
  if (groups > run.rows) groups = run.rows;
  if (groups == 1) {
    const IeeeMode mode;
    return run_group(run, 0, run.rows, nullptr);
  }
  std::exception_ptr error;  // of the first group that failed
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  Team team(own_executor(), threads);
  team.run(groups, [&](Index g, int) {
    try {
      const Index first = run.rows * g / groups;
      run_group(run, first, run.rows * (g + 1) / groups - first, nullptr);
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

void StreamPlan::run_group(const Run& run, Index first, Index rows, Team* team) const {
  Index chunk =
      std::max(Index(1), std::min(kPairs, kBlockBytes / std::max(pair_bytes_, Index(1))) / rows);
  chunk = std::min(chunk, std::max(run.steps, Index(1)));
  const bool own_states = !run.state && !run.states;
  const Layout l = layout(rows, chunk, own_states);
  char* const scratch = thread_scratch(l.bytes);
  View* const views = reinterpret_cast<View*>(scratch);
  char** const states = reinterpret_cast<char**>(scratch + l.states);
  char* const base = own_states ? scratch + l.own_states : run.state + first * state_bytes_;
  if (own_states) std::memset(base, 0, std::size_t(rows * state_bytes_));
  for (Index r = 0; r < rows; ++r)
    states[r] = run.states ? run.states[first + r] : base + r * state_bytes_;

  Block block = {rows, 0, views, states, scratch + l.ops, team};
  char* const tensors = scratch + l.tensors;
  for (Index t0 = 0; t0 == 0 || t0 < run.steps; t0 += chunk) {
    block.steps = std::min(chunk, run.steps - t0);
    for (std::size_t i = 0; i < places_.size(); ++i) {
      const Place& p = places_[i];
      if (p.input >= 0 || p.output >= 0) continue;
      char* const data = p.steps ? tensors + p.offset * rows * chunk
                                 : tensors + pair_bytes_ * rows * chunk + p.offset * rows;
      views[i] = {data, program_.tensors[i].width * (p.steps ? block.steps : 1)};
    }
    run_block(run, first, t0, block, views);
  }
}

// Points the views of the caller's arrays to where the block begins, and runs the operations.
void StreamPlan::run_block(const Run& run, Index first, Index t0, Block& block, View* views) const {
  const auto view = [&](std::size_t tensor, void* array) {
    const Place& p = places_[tensor];
    const Index width = program_.tensors[tensor].width, steps = p.steps ? run.steps : 1;
    const Index at = first * steps + (p.steps ? t0 : 0);
    return View{array ? static_cast<char*>(array) + at * p.width_bytes : nullptr, steps * width};
  };
  for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
    const auto tensor = std::size_t(program_.inputs[i]);
    views[tensor] = view(tensor, const_cast<void*>(run.inputs[i]));
  }
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    const auto tensor = std::size_t(program_.outputs[i]);
    if (places_[tensor].output == int(i)) views[tensor] = view(tensor, run.outputs[i]);
  }
  for (const auto& op : ops_) op->run(block);
  for (const int i : copied_) {
    const auto tensor = std::size_t(program_.outputs[std::size_t(i)]);
    const View to = view(tensor, run.outputs[i]), from = views[tensor];
    const Index steps = places_[tensor].steps ? block.steps : 1;
    for (Index r = 0; r < block.rows; ++r)
      std::memcpy(static_cast<float*>(to.data) + r * to.row,
                  static_cast<const float*>(from.data) + r * from.row,
                  std::size_t(steps * places_[tensor].width_bytes));
  }
}

}  // namespace runtime
}  // namespace recurra
