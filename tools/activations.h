// The activations of csrc/activations.h as functions on float32 arrays, one table for each
// instruction set, for check_activations.cpp.
#pragma once

#include <cstddef>

namespace recurra {

// What is checked.  The first four are the approximations; the others are made of them.
enum class Function {
  exp,
  expm1,
  tanh,
  sigmoid,
  softsign,
  elu,
  selu,
  gelu,
  silu,
  softplus,
};
inline constexpr const char* kFunctionNames[] = {"exp", "expm1", "tanh", "sigmoid", "softsign",
                                                 "elu", "selu",  "gelu", "silu",    "softplus"};
inline constexpr int kFunctions = sizeof kFunctionNames / sizeof *kFunctionNames;

struct ActivationsOfIsa {
  const char* isa;
  // y[i] = f(x[i]); n is a multiple of 16.
  void (*evaluate)(Function f, const float* x, float* y, std::size_t n);
};

}  // namespace recurra
