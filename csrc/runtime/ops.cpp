// Operations value by value: activations, normalizations, merges.  And the list of all kinds.
#include "ops.h"

#include <limits>

namespace recurra {
namespace runtime {
namespace {

// How a tensor of values is walked: rows that lie apart, each `steps` steps in one piece.
struct Pieces {
  Index rows, steps;
};
// One piece where all tensors lie in one.
template <class... Tensors>
Pieces pieces(const Block& b, Kind kind, Index width, Tensors... tensors) {
  const Index steps = kind == Kind::row ? 1 : b.steps;
  const bool whole = ((b.row(tensors) == steps * width) && ...);
  return whole ? Pieces{1, b.rows * steps} : Pieces{b.rows, steps};
}

// From one tensor of values to another of the same width.
class Pointwise : public Op {
 public:
  Pointwise(Builder& b, const OpSpec& spec)
      : kernels_(b.kernels()),
        input_(b.read_values(spec.input, "input")),
        kind_(b.spec(input_).kind),
        width_(b.width(input_)),
        output_(b.write(spec.output, "output", kind_, width_)) {
    b.derive(output_, input_);
  }
  void run(const Block& b) const override {
    const Pieces p = pieces(b, kind_, width_, input_, output_);
    for (Index r = 0; r < p.rows; ++r)
      run_piece(b.values(input_) + r * b.row(input_), b.values(output_) + r * b.row(output_),
                p.steps);
  }
  double work() const override { return 10.0 * double(width_); }

 protected:
  virtual void run_piece(const float* x, float* out, Index rows) const = 0;

  const OpKernels& kernels_;
  const int input_;
  const Kind kind_;
  const Index width_;
  const int output_;
};

class Affine : public Pointwise {
 public:
  Affine(Builder& b, const OpSpec& spec)
      : Pointwise(b, spec),
        shift_(spec.shift.values),
        scale_(spec.scale.values),
        offset_(spec.offset.values) {
    b.need(spec.shift, "shift", {width_});
    b.need(spec.scale, "scale", {width_});
    b.need(spec.offset, "offset", {width_});
  }

 private:
  void run_piece(const float* x, float* out, Index rows) const override {
    kernels_.affine(x, out, rows, width_, shift_.data(), scale_.data(), offset_.data());
  }
  const std::vector<float> shift_, scale_, offset_;
};

class Norm : public Pointwise {
 public:
  Norm(Builder& b, const OpSpec& spec)
      : Pointwise(b, spec),
        scale_(spec.scale.values),
        offset_(spec.offset.values),
        epsilon_(float(spec.epsilon)),
        centered_(spec.centered),
        groups_(Index(spec.groups)) {
    if (spec.scale.present()) b.need(spec.scale, "scale", {width_});
    if (spec.offset.present()) b.need(spec.offset, "offset", {width_});
    if (groups_ < 1 || width_ % groups_)
      b.fail("groups must divide the width " + std::to_string(width_) + ", got " +
             std::to_string(groups_));
  }

 private:
  void run_piece(const float* x, float* out, Index rows) const override {
    const auto data = [](const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); };
    kernels_.norm(
        {x, out, rows, width_, groups_, data(scale_), data(offset_), epsilon_, centered_});
  }
  const std::vector<float> scale_, offset_;
  const float epsilon_;
  const bool centered_;
  const Index groups_;
};

// The parameters a function has, with their defaults.
std::vector<float> defaults_of(Function f) {
  switch (f) {
    case Function::relu: return {0.0f, std::numeric_limits<float>::infinity(), 0.0f};
    case Function::leaky_relu: return {0.2f};
    case Function::elu:
    case Function::celu: return {1.0f};
    case Function::soft_shrink:
    case Function::hard_shrink: return {0.5f};
    case Function::threshold: return {0.0f, 0.0f};
    case Function::squareplus: return {4.0f};
    default: return {};
  }
}

class Activate : public Pointwise {
 public:
  Activate(Builder& b, const OpSpec& spec) : Pointwise(b, spec) {
    std::size_t i = 0;
    while (i < std::size(kFunctionNames) && spec.function != kFunctionNames[i]) ++i;
    if (i == std::size(kFunctionNames)) {
      std::string known;
      for (const char* name : kFunctionNames)
        known += std::string(known.empty() ? "" : ", ") + name;
      b.fail("function must be one of " + known + ", got '" + spec.function + "'");
    }
    function_ = Function(i);
    parameters_ = defaults_of(function_);
    const std::vector<float>& given = spec.parameters.values;
    if (function_ == Function::prelu) {
      b.need(spec.parameters, "parameters", {width_});
      parameters_ = given;
      return;
    }
    if (given.size() > parameters_.size())
      b.fail(spec.function + " has " + std::to_string(parameters_.size()) + " parameters, got " +
             std::to_string(given.size()));
    for (std::size_t k = 0; k < given.size(); ++k) parameters_[k] = given[k];
  }
  double work() const override { return 30.0 * double(width_); }

 private:
  void run_piece(const float* x, float* out, Index rows) const override {
    kernels_.function({function_, parameters_.data(), x, out, rows, width_});
  }
  Function function_;
  std::vector<float> parameters_;
};

class MergeOp : public Op {
 public:
  MergeOp(Builder& b, const OpSpec& spec) : kernels_(b.kernels()), inputs_(spec.inputs) {
    std::size_t i = 0;
    while (i < std::size(kMergeNames) && spec.function != kMergeNames[i]) ++i;
    if (i == std::size(kMergeNames))
      b.fail("function must be add, subtract, multiply, average, maximum or minimum, got '" +
             spec.function + "'");
    merge_ = Merge(i);
    if (inputs_.empty() || (merge_ == Merge::subtract && inputs_.size() != 2))
      b.fail("got " + std::to_string(inputs_.size()) + " inputs");
    kind_ = b.spec(b.read_values(inputs_[0], "inputs")).kind;
    width_ = b.width(inputs_[0]);
    for (const int input : inputs_) b.read(input, "inputs", kind_, width_);
    output_ = b.write(spec.output, "output", kind_, width_);
    for (const int input : inputs_) b.derive(output_, input);
  }
  void run(const Block& b) const override {
    const Index steps = kind_ == Kind::row ? 1 : b.steps, count = steps * width_;
    for (Index r = 0; r < b.rows; ++r) {
      float* out = b.values(output_) + r * b.row(output_);
      for (std::size_t i = 0; i < inputs_.size(); ++i)
        kernels_.merge(merge_, b.values(inputs_[i]) + r * b.row(inputs_[i]), out, count, i == 0);
      if (merge_ == Merge::average)
        for (Index k = 0; k < count; ++k) out[k] /= float(inputs_.size());
    }
  }
  double work() const override { return double(width_) * double(inputs_.size()); }

 private:
  const OpKernels& kernels_;
  const std::vector<int> inputs_;
  Merge merge_;
  Kind kind_;
  Index width_;
  int output_;
};

}  // namespace

std::unique_ptr<Op> make_pointwise(Builder& b, const OpSpec& spec) {
  if (spec.op == "affine") return std::make_unique<Affine>(b, spec);
  if (spec.op == "layer_norm") return std::make_unique<Norm>(b, spec);
  if (spec.op == "activation") return std::make_unique<Activate>(b, spec);
  if (spec.op == "merge") return std::make_unique<MergeOp>(b, spec);
  return nullptr;
}

std::unique_ptr<Op> make_op(Builder& b, const OpSpec& spec) {
  for (const auto make : {make_weighted, make_pointwise, make_masking, make_moving})
    if (std::unique_ptr<Op> op = make(b, spec)) return op;
  b.fail(
      "op must be recurrent, dense, conv, affine, layer_norm, activation, merge, masking, "
      "mask_ids, mask_and, mask_or, where, concat, last, repeat or embedding");
}

}  // namespace runtime
}  // namespace recurra
