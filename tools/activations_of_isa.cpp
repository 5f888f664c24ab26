// The activations of one instruction set: compiled once per RECURRA_ISA_*, like csrc/kernels.cpp.
#include "activations.h"

#include "../csrc/activations.h"

namespace recurra {
namespace RECURRA_ISA {
namespace {

template <class F>
void each(const float* x, float* y, std::size_t n, F f) {
  for (std::size_t i = 0; i < n; i += kLanes<float>) store(y + i, f(load(x + i)));
}

void evaluate(Function function, const float* x, float* y, std::size_t n) {
  using V = Vec<float>;
  const auto any = [&](Activation kind) {
    each(x, y, n, [kind](V v) { return activate<float>(kind, v); });
  };
  switch (function) {
    case Function::exp: return each(x, y, n, [](V v) { return vexp<float>(v); });
    case Function::expm1: return each(x, y, n, [](V v) { return vexpm1<float>(v); });
    case Function::tanh: return each(x, y, n, [](V v) { return vtanh<float>(v); });
    case Function::sigmoid: return each(x, y, n, [](V v) { return vsigmoid<float>(v); });
    case Function::softsign: return any(Activation::softsign);
    case Function::elu: return any(Activation::elu);
    case Function::selu: return any(Activation::selu);
    case Function::gelu: return any(Activation::gelu);
    case Function::silu: return any(Activation::silu);
    case Function::softplus: return any(Activation::softplus);
  }
}

}  // namespace

extern const ActivationsOfIsa activations;
const ActivationsOfIsa activations = {RECURRA_ISA_NAME, evaluate};

}  // namespace RECURRA_ISA
}  // namespace recurra
