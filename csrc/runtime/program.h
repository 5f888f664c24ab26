// What a plan is made from: tensors, operations in order, and which tensors go in and come out.
#pragma once

#include <string>
#include <vector>

#include "../engine.h"

namespace recurra {
namespace runtime {

// The first three change from step to step; a "row" has one value for a whole call.
enum class Kind { steps, ids, mask, row, id_row };
inline bool per_step(Kind k) { return k == Kind::steps || k == Kind::ids || k == Kind::mask; }

struct TensorSpec {
  Kind kind;
  Index width;  // 1 for ids and masks
};

// An array of weights, C-contiguous; no dimensions: absent.
struct Weights {
  std::vector<float> values;
  std::vector<Index> shape;
  bool present() const { return !shape.empty(); }
};

// One operation: `op` says which, and which of the other fields it reads.  Tensors by number, -1
// where there is none.
struct OpSpec {
  std::string op, name, function;
  int input = -1, other = -1, output = -1, mask = -1;
  int sequence = -1, last_output = -1, state_h = -1, state_c = -1;
  std::vector<int> inputs, initial, numbers;
  std::int64_t units = 0, dilation = 1, groups = 1;
  double value = 0, epsilon = 1e-3;
  bool centered = true;
  Weights kernel, recurrent_kernel, bias, table, shift, scale, offset, parameters;
};

struct ProgramSpec {
  std::vector<TensorSpec> tensors;
  std::vector<OpSpec> ops;
  std::vector<int> inputs, outputs;
};

// A part of the state of a row.
struct StateField {
  std::string name;
  Index offset;  // in bytes
  std::vector<Index> shape;
  const char* dtype;  // "float32" or "bool"
};

}  // namespace runtime
}  // namespace recurra
