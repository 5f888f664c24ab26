// Operations without weights' products: embeddings, masks, activations, normalizations, merges.
#include "ops.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

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

class Concat : public Op {
 public:
  Concat(Builder& b, const OpSpec& spec) : inputs_(spec.inputs) {
    if (inputs_.empty()) b.fail("no inputs");
    kind_ = b.spec(b.read_values(inputs_[0], "inputs")).kind;
    for (const int input : inputs_) {
      b.read(input, "inputs", kind_);
      widths_.push_back(b.width(input));
      width_ += widths_.back();
    }
    output_ = b.write(spec.output, "output", kind_, width_);
    for (const int input : inputs_) b.derive(output_, input);
  }
  void run(const Block& b) const override {
    const Index steps = kind_ == Kind::row ? 1 : b.steps;
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < steps; ++t) {
        float* out = b.values(output_) + r * b.row(output_) + t * width_;
        for (std::size_t i = 0; i < inputs_.size(); out += widths_[i++])
          std::memcpy(out, b.values(inputs_[i]) + r * b.row(inputs_[i]) + t * widths_[i],
                      sizeof(float) * std::size_t(widths_[i]));
      }
  }

 private:
  const std::vector<int> inputs_;
  std::vector<Index> widths_;
  Kind kind_;
  Index width_ = 0;
  int output_;
};

class Embedding : public Op {
 public:
  Embedding(Builder& b, const OpSpec& spec) : name_(spec.name), table_(spec.table.values) {
    const bool row = b.is_row(spec.output);
    input_ = b.read(spec.input, "input", row ? Kind::id_row : Kind::ids);
    output_ = b.write(spec.output, "output", row ? Kind::row : Kind::steps, 0);
    width_ = b.width(output_);
    count_ = spec.table.shape.empty() || spec.table.shape[0] < 1 ? 1 : spec.table.shape[0];
    b.need(spec.table, "table", {count_, width_});
    per_step_ = !row;
    position_ = b.position(input_);
    b.derive(output_, input_);
  }
  void check(const void* const* inputs, Index rows, Index steps) const override {
    const auto* ids = static_cast<const std::int32_t*>(inputs[position_]);
    const Index n = per_step_ ? rows * steps : rows;
    for (Index i = 0; i < n; ++i)
      if (ids[i] < 0 || ids[i] >= count_)
        throw std::invalid_argument("Embedding '" + name_ + "': indices must be in 0.." +
                                    std::to_string(count_ - 1) + ", got " + std::to_string(ids[i]));
  }
  void run(const Block& b) const override {
    const Index steps = per_step_ ? b.steps : 1;
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < steps; ++t) {
        // Another thread may have changed the array since it was checked.
        const Index id = b.ids(input_)[r * b.row(input_) + t];
        const Index at = id < 0 || id >= count_ ? 0 : id;
        std::memcpy(b.values(output_) + r * b.row(output_) + t * width_,
                    table_.data() + at * width_, sizeof(float) * std::size_t(width_));
      }
  }

 private:
  const std::string name_;
  const std::vector<float> table_;
  Index count_, width_;
  int input_, output_;
  std::size_t position_;  // among the plan's inputs
  bool per_step_;
};

// Keras's Masking: steps whose values all equal `value` are masked, and zero.
class Masking : public Op {
 public:
  Masking(Builder& b, const OpSpec& spec)
      : input_(b.read(spec.input, "input", Kind::steps)),
        width_(b.width(input_)),
        output_(b.write(spec.output, "output", Kind::steps, width_)),
        mask_(b.write(spec.mask, "mask", Kind::mask, 1)),
        value_(float(spec.value)) {}
  void run(const Block& b) const override {
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < b.steps; ++t) {
        const float* x = b.values(input_) + r * b.row(input_) + t * width_;
        float* out = b.values(output_) + r * b.row(output_) + t * width_;
        bool keep = false;
        for (Index i = 0; i < width_; ++i) keep |= x[i] != value_;
        for (Index i = 0; i < width_; ++i) out[i] = keep ? x[i] : 0.0f;
        b.flags(mask_)[r * b.row(mask_) + t] = keep;
      }
  }

 private:
  const int input_;
  const Index width_;
  const int output_, mask_;
  const float value_;
};

class MaskIds : public Op {
 public:
  MaskIds(Builder& b, const OpSpec& spec)
      : input_(b.read(spec.input, "input", Kind::ids)),
        mask_(b.write(spec.mask, "mask", Kind::mask, 1)) {}
  void run(const Block& b) const override {
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < b.steps; ++t)
        b.flags(mask_)[r * b.row(mask_) + t] = b.ids(input_)[r * b.row(input_) + t] != 0;
  }

 private:
  const int input_, mask_;
};

class MaskJoin : public Op {
 public:
  MaskJoin(Builder& b, const OpSpec& spec) : inputs_(spec.inputs), any_(spec.op == "mask_or") {
    if (inputs_.empty()) b.fail("no inputs");
    for (const int input : inputs_) b.read(input, "inputs", Kind::mask);
    output_ = b.write(spec.output, "output", Kind::mask, 1);
  }
  void run(const Block& b) const override {
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < b.steps; ++t) {
        bool keep = !any_;
        for (const int input : inputs_) {
          const std::uint8_t* flags = b.flags(input);
          const bool here = !flags || flags[r * b.row(input) + t];
          keep = any_ ? keep || here : keep && here;
        }
        b.flags(output_)[r * b.row(output_) + t] = keep;
      }
  }

 private:
  const std::vector<int> inputs_;
  const bool any_;
  int output_;
};

}  // namespace

std::unique_ptr<Op> make_op(Builder& b, const OpSpec& spec) {
  const std::string& op = spec.op;
  if (op == "recurrent") return make_recurrent(b, spec);
  if (op == "dense") return make_dense(b, spec);
  if (op == "conv") return make_conv(b, spec);
  if (op == "embedding") return std::make_unique<Embedding>(b, spec);
  if (op == "masking") return std::make_unique<Masking>(b, spec);
  if (op == "mask_ids") return std::make_unique<MaskIds>(b, spec);
  if (op == "mask_and" || op == "mask_or") return std::make_unique<MaskJoin>(b, spec);
  if (op == "affine") return std::make_unique<Affine>(b, spec);
  if (op == "layer_norm") return std::make_unique<Norm>(b, spec);
  if (op == "activation") return std::make_unique<Activate>(b, spec);
  if (op == "merge") return std::make_unique<MergeOp>(b, spec);
  if (op == "concat") return std::make_unique<Concat>(b, spec);
  b.fail(
      "op must be recurrent, dense, conv, embedding, masking, mask_ids, mask_and, mask_or, "
      "affine, layer_norm, activation, merge or concat");
}

}  // namespace runtime
}  // namespace recurra
