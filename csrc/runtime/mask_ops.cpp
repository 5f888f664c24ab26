// Operations on masks, and with them.
#include <cstring>

#include "ops.h"

namespace recurra {
namespace runtime {
namespace {

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

// The input's steps where a mask keeps them, elsewhere another tensor's or one value.
class Where : public Op {
 public:
  Where(Builder& b, const OpSpec& spec)
      : mask_(b.read(spec.mask, "mask", Kind::mask)),
        input_(b.read(spec.input, "input", Kind::steps)),
        width_(b.width(input_)),
        other_(spec.other < 0 ? -1 : b.read(spec.other, "other", Kind::steps, width_)),
        output_(b.write(spec.output, "output", Kind::steps, width_)),
        value_(float(spec.value)) {}
  void run(const Block& b) const override {
    for (Index r = 0; r < b.rows; ++r)
      for (Index t = 0; t < b.steps; ++t) {
        const std::uint8_t* flags = b.flags(mask_);
        const bool keep = !flags || flags[r * b.row(mask_) + t];
        const int from = keep ? input_ : other_;
        float* out = b.values(output_) + r * b.row(output_) + t * width_;
        if (from >= 0)
          std::memcpy(out, b.values(from) + r * b.row(from) + t * width_,
                      sizeof(float) * std::size_t(width_));
        else
          for (Index i = 0; i < width_; ++i) out[i] = value_;
      }
  }

 private:
  const int mask_, input_;
  const Index width_;
  const int other_, output_;
  const float value_;
};

}  // namespace

std::unique_ptr<Op> make_masking(Builder& b, const OpSpec& spec) {
  if (spec.op == "masking") return std::make_unique<Masking>(b, spec);
  if (spec.op == "mask_ids") return std::make_unique<MaskIds>(b, spec);
  if (spec.op == "mask_and") return std::make_unique<MaskJoin>(b, spec);
  if (spec.op == "mask_or") return std::make_unique<MaskJoin>(b, spec);
  if (spec.op == "where") return std::make_unique<Where>(b, spec);
  return nullptr;
}

}  // namespace runtime
}  // namespace recurra
