// What a compiled plan needs of one instruction set: a table of operations on blocks of (rows,
// steps).  Weights are packed once, into memory that the plan owns.
#pragma once

#include "../engine.h"

namespace recurra {
class Team;

namespace runtime {

// A tensor's values for some rows and steps: (r, t) lies at data + r * row + t * width.
struct Values {
  float* data = nullptr;
  Index row = 0;
};
struct Flags {
  std::uint8_t* data = nullptr;  // null: no mask
  Index row = 0;
};

struct RecurrentCall {
  const Problem* problem;  // of which the sizes features and units are set
  const char* packed;
  Index rows, steps;
  const float* x;
  Index x_row;
  Flags mask;
  // A row's state: fields at these offsets, -1 where there is none.  Hidden and cell state have
  // room for whole vectors of any instruction set.
  char* const* state;
  Index hidden_state, cell_state, began, started;
  const float* initial_h;  // nullable; (rows, units), as are the four below: for rows not started
  const float* initial_c;
  float* last_output;  // nullable
  float* state_h;      // nullable
  float* state_c;      // nullable
  float* sequence;     // nullable
  Index sequence_row;
  char* scratch;
  Team* team;  // nullable: the threads that share out the units of every step
};

// out(r, t) = bias + sum over o and i of x[r * row + t * step + o * stretch + i] *
//             weights[o * inner + i]
struct ProductCall {
  const char* packed;
  Index outer, inner, columns;
  const float* x;
  Index x_row, x_step, stretch;
  Index rows, steps;
  Values out;
};

enum class Function : int {
  linear,
  tanh,
  sigmoid,
  hard_sigmoid,
  relu,  // [negative_slope, max_value, threshold]
  softsign,
  elu,  // [alpha]
  selu,
  gelu,
  silu,
  exponential,
  softplus,
  leaky_relu,  // [slope]
  relu6,
  celu,  // [alpha]
  gelu_tanh,
  threshold,    // [threshold, value]
  soft_shrink,  // [threshold]
  hard_shrink,  // [threshold]
  squareplus,   // [b]
  log_sigmoid,
  mish,
  hard_silu,
  hard_tanh,
  tanh_shrink,
  sparse_plus,
  sparse_sigmoid,
  prelu,  // a slope for each of the row's values
  softmax,
  log_softmax
};
inline constexpr const char* kFunctionNames[] = {
    "linear",      "tanh",        "sigmoid",        "hard_sigmoid", "relu",        "softsign",
    "elu",         "selu",        "gelu",           "silu",         "exponential", "softplus",
    "leaky_relu",  "relu6",       "celu",           "gelu_tanh",    "threshold",   "soft_shrink",
    "hard_shrink", "squareplus",  "log_sigmoid",    "mish",         "hard_silu",   "hard_tanh",
    "tanh_shrink", "sparse_plus", "sparse_sigmoid", "prelu",        "softmax",     "log_softmax"};

struct FunctionCall {
  Function function;
  const float* parameters;  // as many as the function has
  const float* x;
  float* out;
  Index rows, width;  // rows one behind the other
};

struct NormCall {
  const float* x;
  float* out;
  Index rows, width, groups;
  const float* scale;   // nullable; (width)
  const float* offset;  // nullable; (width)
  float epsilon;
  bool centered;
};

enum class Merge : int { add, subtract, multiply, average, maximum, minimum };
inline constexpr const char* kMergeNames[] = {"add",     "subtract", "multiply",
                                              "average", "maximum",  "minimum"};

struct OpKernels {
  const char* name;
  // Bytes of packed weights, packing them, bytes of scratch memory for a block, running it.
  std::size_t (*recurrent_bytes)(const Problem&);
  void (*recurrent_pack)(const Problem&, const float* kernel, const float* recurrent_kernel,
                         const float* bias, char* packed);
  std::size_t (*recurrent_scratch)(const Problem&, Index rows, Index steps);
  void (*recurrent)(const RecurrentCall&);
  std::size_t (*product_bytes)(Index outer, Index inner, Index columns);
  void (*product_pack)(Index outer, Index inner, Index columns, const float* weights,
                       const float* bias, char* packed);
  void (*product)(const ProductCall&);
  void (*function)(const FunctionCall&);
  void (*norm)(const NormCall&);
  // out = (x - shift) * scale + offset
  void (*affine)(const float* x, float* out, Index rows, Index width, const float* shift,
                 const float* scale, const float* offset);
  // out = merge(out, x), or with the first of the inputs, x
  void (*merge)(Merge, const float* x, float* out, Index count, bool first);
};

// Those that go with the kernels in use.
const OpKernels& active_op_kernels();

}  // namespace runtime
}  // namespace recurra
