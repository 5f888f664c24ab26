// Operations that move values as they are: joining, embedding, repeating, the last step.
#include <cstring>
#include <stdexcept>

#include "ops.h"

namespace recurra {
namespace runtime {
namespace {

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

// The last step's values.
class Last : public Op {
 public:
  Last(Builder& b, const OpSpec& spec)
      : input_(b.read(spec.input, "input", Kind::steps)),
        width_(b.width(input_)),
        output_(b.write(spec.output, "output", Kind::row, width_)) {
    b.derive(output_, input_);
  }
  void run(const Block& b) const override {
    const std::size_t bytes = sizeof(float) * std::size_t(width_);
    for (Index r = 0; r < b.rows; ++r) {
      float* out = b.values(output_) + r * width_;
      if (b.steps == 0)
        std::memset(out, 0, bytes);
      else
        std::memcpy(out, b.values(input_) + r * b.row(input_) + (b.steps - 1) * width_, bytes);
    }
  }

 private:
  const int input_;
  const Index width_;
  const int output_;
};

// A row's values at every step.
class Repeat : public Op {
 public:
  Repeat(Builder& b, const OpSpec& spec)
      : input_(b.read(spec.input, "input", Kind::row)),
        width_(b.width(input_)),
        output_(b.write(spec.output, "output", Kind::steps, width_)) {
    if (b.from_steps(input_))
      b.fail("input: tensor " + std::to_string(input_) +
             " depends on a sequence, whose end its first steps cannot know");
  }
  void run(const Block& b) const override {
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < b.steps; ++t)
        std::memcpy(b.values(output_) + r * b.row(output_) + t * width_,
                    b.values(input_) + r * width_, sizeof(float) * std::size_t(width_));
  }

 private:
  const int input_;
  const Index width_;
  const int output_;
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

}  // namespace

std::unique_ptr<Op> make_moving(Builder& b, const OpSpec& spec) {
  if (spec.op == "concat") return std::make_unique<Concat>(b, spec);
  if (spec.op == "last") return std::make_unique<Last>(b, spec);
  if (spec.op == "repeat") return std::make_unique<Repeat>(b, spec);
  if (spec.op == "embedding") return std::make_unique<Embedding>(b, spec);
  return nullptr;
}

}  // namespace runtime
}  // namespace recurra
