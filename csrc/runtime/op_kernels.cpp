// The compiled plan's operations for one instruction set: this file is compiled once per
// RECURRA_ISA_*.  Nothing of the standard library's that is not inlined may be used here.
#define RECURRA_CELL_FUNCTORS
#include "../cells/list.h"
#include "op_kernels.h"
#include "pointwise.h"
#include "product.h"
#include "recurrent.h"

namespace recurra {
namespace RECURRA_ISA {
namespace {

template <class F>
void with_cell(const Problem& p, F&& f) {
  switch (p.cell) {
#define RECURRA_CELL(name, functor, ...) \
  case Cell::name: return functor<float>::select(p, f);
    RECURRA_CELLS(RECURRA_CELL)
#undef RECURRA_CELL
  }
}

bool has_default_activations(const Problem& p) {
  return p.activation == Activation::tanh && p.recurrent_activation == Activation::sigmoid;
}

std::size_t recurrent_bytes(const Problem& p) {
  std::size_t bytes = 0;
  with_cell(p, [&](auto cell) { bytes = PackedCell<decltype(cell)>(p, nullptr).bytes; });
  return bytes;
}

void recurrent_pack(const Problem& p, const float* kernel, const float* recurrent_kernel,
                    const float* bias, char* packed) {
  with_cell(p, [&](auto cell) {
    PackedCell<decltype(cell)>(p, packed).pack(p, kernel, recurrent_kernel, bias);
  });
}

std::size_t recurrent_scratch(const Problem& p, Index rows, Index steps) {
  std::size_t bytes = 0;
  with_cell(p, [&](auto cell) {
    bytes = RecurrentBlock<decltype(cell), AnyActivations<float>>::scratch(p, rows, steps);
  });
  return bytes;
}

void recurrent(const runtime::RecurrentCall& call) {
  with_cell(*call.problem, [&](auto cell) {
    if (has_default_activations(*call.problem))
      RecurrentBlock<decltype(cell), DefaultActivations<float>>(call).run();
    else
      RecurrentBlock<decltype(cell), AnyActivations<float>>(call).run();
  });
}

std::size_t product_bytes(Index outer, Index inner, Index columns) {
  return is_narrow(columns) ? PackedColumns(outer, inner, columns, nullptr).bytes
                            : PackedProduct(outer * inner, columns, nullptr).bytes;
}
void product_pack(Index outer, Index inner, Index columns, const float* weights, const float* bias,
                  char* packed) {
  if (is_narrow(columns))
    PackedColumns(outer, inner, columns, packed).pack(outer, inner, columns, weights, bias);
  else
    PackedProduct(outer * inner, columns, packed).pack(columns, weights, bias);
}

}  // namespace

extern const runtime::OpKernels op_kernels;
const runtime::OpKernels op_kernels = {
    RECURRA_ISA_NAME, recurrent_bytes, recurrent_pack, recurrent_scratch, recurrent,  product_bytes,
    product_pack,     run_product,     run_function,   run_norm,          run_affine, run_merge,
};

}  // namespace RECURRA_ISA
}  // namespace recurra
