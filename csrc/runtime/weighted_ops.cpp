// Operations with packed weights: recurrent layers, dense layers, causal convolutions.
#include <cstring>

#include "../call.h"
#include "../plan.h"
#include "../team.h"
#include "ops.h"

namespace recurra {
namespace runtime {
namespace {

class Recurrent : public Op {
 public:
  Recurrent(Builder& b, const OpSpec& spec) : kernels_(b.kernels()) {
    if (spec.numbers.size() != kProblemOptions)
      b.fail("numbers must be " + std::to_string(kProblemOptions) + ", got " +
             std::to_string(spec.numbers.size()));
    const std::vector<std::int64_t> options(spec.numbers.begin(), spec.numbers.end());
    p_ = problem_of_options(options.data());
    if (p_.go_backwards) b.fail("go_backwards needs the whole sequence");
    if (p_.products != Products::as_arrays) b.fail("products must be float32's own");
    p_.checkpoint_every = 0;
    input_ = b.read(spec.input, "input", Kind::steps);
    p_.features = b.width(input_);
    if (spec.units < 1 || spec.units > (Index(1) << 24))
      b.fail("units must be 1 or more, got " + std::to_string(spec.units));
    p_.units = Index(spec.units);
    const Index columns = p_.gates() * p_.units;
    b.need(spec.kernel, "kernel", {p_.features, columns});
    b.need(spec.recurrent_kernel, "recurrent_kernel", {p_.units, columns});
    if (spec.bias.present()) {
      if (p_.two_biases())
        b.need(spec.bias, "bias", {2, columns});
      else
        b.need(spec.bias, "bias", {columns});
    }
    if (spec.mask >= 0) mask_ = b.read(spec.mask, "mask", Kind::mask);
    read_initial(b, spec);

    const auto output = [&](int tensor, const char* role, Kind kind) {
      if (tensor < 0) return -1;
      b.write(tensor, role, kind, p_.units);
      b.derive(tensor, input_);
      return tensor;
    };
    sequence_ = output(spec.sequence, "sequence", Kind::steps);
    last_output_ = output(spec.last_output, "last_output", Kind::row);
    state_h_ = output(spec.state_h, "state_h", Kind::row);
    if (spec.state_c >= 0 && !p_.facts().has_cell_state)
      b.fail(std::string("state_c: ") + p_.facts().name + " has no cell state");
    state_c_ = output(spec.state_c, "state_c", Kind::row);

    h_at_ = b.float_field(spec.name + "/hidden_state", {p_.units});
    if (p_.facts().has_cell_state) c_at_ = b.float_field(spec.name + "/cell_state", {p_.units});
    if (mask_ >= 0) began_at_ = b.flag_field(spec.name + "/began");
    if (initial_h_ >= 0) started_at_ = b.flag_field(spec.name + "/started");

    packed_ = b.packed(kernels_.recurrent_bytes(p_));
    kernels_.recurrent_pack(p_, spec.kernel.values.data(), spec.recurrent_kernel.values.data(),
                            spec.bias.present() ? spec.bias.values.data() : nullptr, packed_);
  }

  std::size_t scratch(Index rows, Index steps) const override {
    return kernels_.recurrent_scratch(p_, rows, steps);
  }
  double work() const override {
    return double(p_.gates() * p_.units) * (double(p_.features + p_.units) + 100.0);
  }

  bool splits_units(Index rows, int threads) const override {
    Problem p = p_;
    p.batch = rows;
    return recurra::splits_units(p, threads);
  }

  void run(const Block& b) const override {
    RecurrentCall c = {};
    c.problem = &p_;
    c.packed = packed_;
    c.rows = b.rows;
    c.steps = b.steps;
    c.x = b.values(input_);
    c.x_row = b.row(input_);
    if (mask_ >= 0) c.mask = {b.flags(mask_), b.row(mask_)};
    c.state = b.state;
    c.hidden_state = h_at_;
    c.cell_state = c_at_;
    c.began = began_at_;
    c.started = started_at_;
    const auto values = [&](int tensor) { return tensor < 0 ? nullptr : b.values(tensor); };
    c.initial_h = values(initial_h_);
    c.initial_c = values(initial_c_);
    c.last_output = values(last_output_);
    c.state_h = values(state_h_);
    c.state_c = values(state_c_);
    c.sequence = values(sequence_);
    c.sequence_row = sequence_ < 0 ? 0 : b.row(sequence_);
    c.scratch = b.scratch;
    c.team = b.team && splits_units(b.rows, b.team->size()) ? b.team : nullptr;
    kernels_.recurrent(c);
  }

 private:
  void read_initial(Builder& b, const OpSpec& spec) {
    if (spec.initial.empty()) return;
    const std::size_t states = p_.facts().has_cell_state ? 2 : 1;
    if (spec.initial.size() != states)
      b.fail("initial must be " + std::to_string(states) + " tensors, got " +
             std::to_string(spec.initial.size()));
    for (const int tensor : spec.initial) {
      b.read(tensor, "initial", Kind::row, p_.units);
      if (b.from_steps(tensor))
        b.fail("initial: tensor " + std::to_string(tensor) +
               " depends on a sequence, of which a stream's first step has seen one step only");
    }
    initial_h_ = spec.initial[0];
    if (states > 1) initial_c_ = spec.initial[1];
  }

  const OpKernels& kernels_;
  Problem p_;
  char* packed_;  // the plan's
  int input_ = -1, mask_ = -1, initial_h_ = -1, initial_c_ = -1;
  int sequence_ = -1, last_output_ = -1, state_h_ = -1, state_c_ = -1;
  Index h_at_ = -1, c_at_ = -1, began_at_ = -1, started_at_ = -1;
};

const float* bias_of(const Builder& b, const OpSpec& spec, Index columns) {
  if (!spec.bias.present()) return nullptr;
  b.need(spec.bias, "bias", {columns});
  return spec.bias.values.data();
}

class Dense : public Op {
 public:
  Dense(Builder& b, const OpSpec& spec) : kernels_(b.kernels()) {
    input_ = b.read_values(spec.input, "input");
    kind_ = b.spec(input_).kind;
    features_ = b.width(input_);
    output_ = b.write(spec.output, "output", kind_, 0);
    units_ = b.width(output_);
    b.need(spec.kernel, "kernel", {features_, units_});
    b.derive(output_, input_);
    const float* bias = bias_of(b, spec, units_);
    packed_ = b.packed(kernels_.product_bytes(1, features_, units_));
    kernels_.product_pack(1, features_, units_, spec.kernel.values.data(), bias, packed_);
  }
  void run(const Block& b) const override {
    const Index steps = kind_ == Kind::row ? 1 : b.steps;
    kernels_.product({packed_,
                      1,
                      features_,
                      units_,
                      b.values(input_),
                      b.row(input_),
                      features_,
                      0,
                      b.rows,
                      steps,
                      {b.values(output_), b.row(output_)}});
  }
  double work() const override { return double(features_) * double(units_); }

 private:
  const OpKernels& kernels_;
  char* packed_;  // the plan's
  int input_, output_;
  Kind kind_;
  Index features_, units_;
};

// Causal: each step sees itself and steps before it, those before the block from the state.
class Conv : public Op {
 public:
  Conv(Builder& b, const OpSpec& spec) : kernels_(b.kernels()) {
    input_ = b.read(spec.input, "input", Kind::steps);
    features_ = b.width(input_);
    output_ = b.write(spec.output, "output", Kind::steps, 0);
    units_ = b.width(output_);
    taps_ = spec.kernel.shape.empty() || spec.kernel.shape[0] < 1 ? 1 : spec.kernel.shape[0];
    b.need(spec.kernel, "kernel", {taps_, features_, units_});
    constexpr std::int64_t most = std::int64_t(1) << 28;
    if (spec.dilation < 1 || spec.dilation > most / taps_)
      b.fail("dilation must be in 1.." + std::to_string(most / taps_) + ", got " +
             std::to_string(spec.dilation));
    dilation_ = Index(spec.dilation);
    past_ = (taps_ - 1) * dilation_;
    if (past_) history_at_ = b.float_field(spec.name + "/history", {past_, features_});
    const float* bias = bias_of(b, spec, units_);
    packed_ = b.packed(kernels_.product_bytes(taps_, features_, units_));
    kernels_.product_pack(taps_, features_, units_, spec.kernel.values.data(), bias, packed_);
  }

  std::size_t scratch(Index rows, Index steps) const override {
    return past_ ? sizeof(float) * std::size_t(rows * (past_ + steps) * features_) : 0;
  }
  double work() const override { return double(taps_ * features_) * double(units_); }

  void run(const Block& b) const override {
    const float* x = b.values(input_);
    Index x_row = b.row(input_);
    if (past_) {
      x_row = (past_ + b.steps) * features_;
      for (Index r = 0; r < b.rows; ++r)
        join(b, r, reinterpret_cast<float*>(b.scratch) + r * x_row);
      x = reinterpret_cast<const float*>(b.scratch);
    }
    kernels_.product({packed_,
                      taps_,
                      features_,
                      units_,
                      x,
                      x_row,
                      features_,
                      dilation_ * features_,
                      b.rows,
                      b.steps,
                      {b.values(output_), b.row(output_)}});
  }

 private:
  // A row's history and its new steps in one piece; the last of them are its next history.
  void join(const Block& b, Index r, float* to) const {
    float* history = reinterpret_cast<float*>(b.state[r] + history_at_);
    const std::size_t past = sizeof(float) * std::size_t(past_ * features_);
    std::memcpy(to, history, past);
    std::memcpy(to + past_ * features_, b.values(input_) + r * b.row(input_),
                sizeof(float) * std::size_t(b.steps * features_));
    std::memcpy(history, to + b.steps * features_, past);
  }

  const OpKernels& kernels_;
  char* packed_;  // the plan's
  int input_, output_;
  Index features_, units_, taps_, dilation_, past_, history_at_ = -1;
};

}  // namespace

std::unique_ptr<Op> make_weighted(Builder& b, const OpSpec& spec) {
  if (spec.op == "recurrent") return std::make_unique<Recurrent>(b, spec);
  if (spec.op == "dense") return std::make_unique<Dense>(b, spec);
  if (spec.op == "conv") return std::make_unique<Conv>(b, spec);
  return nullptr;
}

}  // namespace runtime
}  // namespace recurra
