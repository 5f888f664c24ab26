#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "ops.h"

namespace recurra {
namespace runtime {
namespace {

const char* show(Kind k) {
  switch (k) {
    case Kind::steps: return "steps";
    case Kind::ids: return "ids";
    case Kind::mask: return "mask";
    case Kind::row: return "row";
    case Kind::id_row: return "id_row";
  }
  return "?";
}

std::string show(const std::vector<Index>& shape) {
  std::string s = "(";
  for (const Index d : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(d);
  return s + (shape.size() == 1 ? ",)" : ")");
}

// More than any model needs, and far from overflowing.
constexpr Index kMostWidth = Index(1) << 24;
constexpr Index kMostStateBytes = Index(1) << 28;

}  // namespace

Builder::Builder(const ProgramSpec& program, const OpKernels& kernels)
    : program_(program),
      kernels_(kernels),
      defined_(program.tensors.size()),
      from_steps_(program.tensors.size()) {
  for (std::size_t i = 0; i < program.tensors.size(); ++i) {
    const TensorSpec& t = program.tensors[i];
    const bool values = t.kind == Kind::steps || t.kind == Kind::row;
    if (t.width < 1 || t.width > (values ? kMostWidth : 1))
      throw std::invalid_argument("tensors[" + std::to_string(i) + "]: the width must be in 1.." +
                                  std::to_string(values ? kMostWidth : 1) + ", got " +
                                  std::to_string(t.width));
  }
  for (const OpSpec& op : program.ops)
    for (const Weights* w : {&op.kernel, &op.recurrent_kernel}) expected_ += 4 * w->values.size();
  for (const int tensor : program.inputs) {
    exists(tensor, "inputs");
    if (defined_[std::size_t(tensor)])
      throw std::invalid_argument("inputs: tensor " + std::to_string(tensor) + " is there twice");
    defined_[std::size_t(tensor)] = true;
    from_steps_[std::size_t(tensor)] = per_step(spec(tensor).kind);
  }
}

void Builder::begin(std::size_t number) { op_ = number; }

void Builder::fail(const std::string& problem) const {
  const OpSpec& op = program_.ops[op_];
  throw std::invalid_argument("ops[" + std::to_string(op_) + "] (" + op.op +
                              (op.name.empty() ? "" : " '" + op.name + "'") + "): " + problem);
}

void Builder::exists(int tensor, const char* role) const {
  if (tensor >= 0 && std::size_t(tensor) < program_.tensors.size()) return;
  const std::string problem = std::string(role) + " must be a tensor's number, below " +
                              std::to_string(program_.tensors.size()) + ", got " +
                              std::to_string(tensor);
  if (op_ < program_.ops.size()) fail(problem);
  throw std::invalid_argument(problem);
}

int Builder::read(int tensor, const char* role, Kind kind, Index wanted) const {
  exists(tensor, role);
  if (!defined(tensor))
    fail(std::string(role) + ": tensor " + std::to_string(tensor) +
         " is neither an input nor written by an operation before this one");
  if (spec(tensor).kind != kind)
    fail(std::string(role) + ": tensor " + std::to_string(tensor) + " must be of kind '" +
         show(kind) + "', it is '" + show(spec(tensor).kind) + "'");
  if (wanted && width(tensor) != wanted)
    fail(std::string(role) + ": tensor " + std::to_string(tensor) + " must have width " +
         std::to_string(wanted) + ", it has " + std::to_string(width(tensor)));
  return tensor;
}

int Builder::read_values(int tensor, const char* role) const {
  exists(tensor, role);
  return read(tensor, role, spec(tensor).kind == Kind::row ? Kind::row : Kind::steps);
}

int Builder::write(int tensor, const char* role, Kind kind, Index wanted) {
  exists(tensor, role);
  if (defined(tensor))
    fail(std::string(role) + ": tensor " + std::to_string(tensor) +
         " is an input or written by an operation before this one");
  defined_[std::size_t(tensor)] = true;
  from_steps_[std::size_t(tensor)] = per_step(kind);
  return read(tensor, role, kind, wanted);
}

std::size_t Builder::position(int tensor) const {
  std::size_t i = 0;
  while (program_.inputs[i] != tensor) ++i;
  return i;
}

void Builder::derive(int tensor, int from) {
  if (from_steps(from)) from_steps_[std::size_t(tensor)] = true;
}

void Builder::need(const Weights& weights, const char* role, std::vector<Index> shape) const {
  if (weights.shape != shape)
    fail(std::string(role) + " must have shape " + show(shape) + ", got " +
         (weights.present() ? show(weights.shape) : "none"));
}

// A plan's weights lie together: from some size on, a step takes less time where they have huge
// pages.
char* Builder::packed(std::size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (packed_.empty() || packed_.back().bytes() - used_ < bytes) {
    constexpr std::size_t large = std::size_t(1) << 21;
    packed_.emplace_back(std::max(bytes, expected_ < large ? bytes : expected_ + expected_ / 8));
    used_ = 0;
  }
  used_ += bytes;
  return packed_.back().data() + used_ - bytes;
}

void Builder::add_field(const std::string& name, Index offset, std::vector<Index> shape,
                        const char* dtype) {
  for (const StateField& field : fields_)
    if (field.name == name) fail("the state has a field '" + name + "' already");
  fields_.push_back({name, offset, std::move(shape), dtype});
}

Index Builder::float_field(const std::string& name, std::vector<Index> shape) {
  Index bytes = 4;
  for (const Index d : shape) {
    if (d > kMostStateBytes / bytes) fail(name + " is too large: " + show(shape));
    bytes *= d;
  }
  const Index offset = state_bytes_;
  state_bytes_ += (bytes + 63) / 64 * 64;
  if (state_bytes_ > kMostStateBytes) fail("a row's state takes more than 256 megabytes");
  add_field(name, offset, std::move(shape), "float32");
  return offset;
}

Index Builder::flag_field(const std::string& name) {
  if (next_flag_ % 64 == 0) {
    next_flag_ = state_bytes_;
    state_bytes_ += 64;
  }
  add_field(name, next_flag_, {}, "bool");
  return next_flag_++;
}

}  // namespace runtime
}  // namespace recurra
