// The operations of a plan: each checks its description when it is made, and after that runs on
// blocks of rows and steps.
#pragma once

#include <memory>

#include "op_kernels.h"
#include "program.h"
#include "scratch.h"

namespace recurra {

class Team;

namespace runtime {

// A tensor's values in the block at hand: (r, t) at data + r * row + t * width, in elements.
struct View {
  void* data;  // null: a mask that keeps everything
  Index row;
};

struct Block {
  Index rows, steps;
  const View* tensors;
  char* const* state;  // of each row
  char* scratch;
  Team* team;  // null: this thread alone

  float* values(int tensor) const { return static_cast<float*>(tensors[tensor].data); }
  const std::int32_t* ids(int tensor) const {
    return static_cast<const std::int32_t*>(tensors[tensor].data);
  }
  std::uint8_t* flags(int tensor) const { return static_cast<std::uint8_t*>(tensors[tensor].data); }
  Index row(int tensor) const { return tensors[tensor].row; }
};

class Op {
 public:
  virtual ~Op() = default;
  virtual void run(const Block& block) const = 0;
  virtual std::size_t scratch(Index, Index) const { return 0; }  // for so many rows and steps
  // Whether threads should share out the units of every step of so many rows.
  virtual bool splits_units(Index, int) const { return false; }
  // Multiplications and additions for a row's step.
  virtual double work() const { return 0; }
  // Throws std::invalid_argument for indices that do not exist: before anything is computed.
  // `inputs` are the whole call's arrays.
  virtual void check(const void* const*, Index, Index) const {}
};

// The tensors and the state as far as operations have defined them.
class Builder {
 public:
  Builder(const ProgramSpec& program, const OpKernels& kernels);

  // For the operation `number`, which messages name.
  void begin(std::size_t number);
  [[noreturn]] void fail(const std::string& problem) const;

  // A tensor to read: it must be defined and of such a kind (and width, unless 0).
  int read(int tensor, const char* role, Kind kind, Index width = 0) const;
  int read_values(int tensor, const char* role) const;  // steps or row
  // A tensor to write: nothing else may have.
  int write(int tensor, const char* role, Kind kind, Index width);
  bool from_steps(int tensor) const { return from_steps_[std::size_t(tensor)]; }
  std::size_t position(int tensor) const;  // of an input among the plan's
  void derive(int tensor, int from);       // `tensor` is computed from `from`

  const TensorSpec& spec(int tensor) const { return program_.tensors[std::size_t(tensor)]; }
  Index width(int tensor) const { return spec(tensor).width; }
  bool is_tensor(int tensor) const {
    return tensor >= 0 && std::size_t(tensor) < program_.tensors.size();
  }
  bool is_row(int tensor) const { return is_tensor(tensor) && spec(tensor).kind == Kind::row; }
  void need(const Weights& weights, const char* role, std::vector<Index> shape) const;

  // Room in the state; the offset.
  Index float_field(const std::string& name, std::vector<Index> shape);
  Index flag_field(const std::string& name);

  // Memory for packed weights, which lives as long as the plan.
  char* packed(std::size_t bytes);
  std::vector<Memory> take_packed() { return std::move(packed_); }

  const OpKernels& kernels() const { return kernels_; }
  const std::vector<StateField>& fields() const { return fields_; }
  Index state_bytes() const { return state_bytes_; }
  bool defined(int tensor) const { return defined_[std::size_t(tensor)]; }

 private:
  void exists(int tensor, const char* role) const;
  void add_field(const std::string& name, Index offset, std::vector<Index> shape,
                 const char* dtype);

  const ProgramSpec& program_;
  const OpKernels& kernels_;
  std::size_t op_ = 0;
  std::vector<bool> defined_, from_steps_;
  std::vector<StateField> fields_;
  Index state_bytes_ = 0, next_flag_ = 0;
  std::size_t expected_ = 0;  // bytes of all weights
  std::vector<Memory> packed_;
  std::size_t used_ = 0;  // of the last of them
};

// Throws std::invalid_argument for an op that does not exist or does not fit.
std::unique_ptr<Op> make_op(Builder& builder, const OpSpec& spec);

// Those of one file each; null if it has no such op.
std::unique_ptr<Op> make_weighted(Builder& builder, const OpSpec& spec);
std::unique_ptr<Op> make_pointwise(Builder& builder, const OpSpec& spec);
std::unique_ptr<Op> make_masking(Builder& builder, const OpSpec& spec);
std::unique_ptr<Op> make_moving(Builder& builder, const OpSpec& spec);

}  // namespace runtime
}  // namespace recurra
