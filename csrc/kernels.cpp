// The kernels of one instruction set: this file is compiled once per RECURRA_ISA_*.
#define RECURRA_CELL_FUNCTORS
#include "cells/list.h"
#include "scan_backward.h"
#include "scan_checkpointed.h"
#include "scan_forward.h"

namespace recurra {

#if defined(RECURRA_ISA_AVX512_BF16)
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace RECURRA_ISA {
namespace {

template <class T, class C, class P>
void forward_cell(const Problem& p, const ForwardArgs& a, Team& team) {
  if (p.activation == Activation::tanh && p.recurrent_activation == Activation::sigmoid)
    ForwardScan<T, C, DefaultActivations<T>, P>(p, a).run(team);
  else
    ForwardScan<T, C, AnyActivations<T>, P>(p, a).run(team);
}
template <class T, class C, class Act, class P>
void backward_with(const Problem& p, const BackwardArgs& a, Team& team) {
  if (p.checkpoint_every)
    CheckpointedBackward<T, C, Act, P>(p, a).run(team);
  else
    BackwardScan<T, C, Act, P>(p, a).run(team);
}
template <class T, class C, class P>
void backward_cell(const Problem& p, const BackwardArgs& a, Team& team) {
  if (p.activation == Activation::tanh && p.recurrent_activation == Activation::sigmoid)
    backward_with<T, C, DefaultActivations<T>, P>(p, a, team);
  else
    backward_with<T, C, AnyActivations<T>, P>(p, a, team);
}

// Calls f with the functor that implements the problem's cell.
template <class T, class F>
void with_cell(const Problem& p, F&& f) {
  switch (p.cell) {
#define RECURRA_CELL(name, functor, ...) \
  case Cell::name: return functor<T>::select(p, f);
    RECURRA_CELLS(RECURRA_CELL)
#undef RECURRA_CELL
  }
}

template <class T, class P>
void forward_typed(const Problem& p, const ForwardArgs& a, Team& team) {
  with_cell<T>(p, [&](auto cell) { forward_cell<T, decltype(cell), P>(p, a, team); });
}
template <class T, class P>
void backward_typed(const Problem& p, const BackwardArgs& a, Team& team) {
  with_cell<T>(p, [&](auto cell) { backward_cell<T, decltype(cell), P>(p, a, team); });
}

// RECURRA_FLOAT32_ONLY is for tools that count these alone: it halves the time to compile.
#if defined(RECURRA_FLOAT32_ONLY)
void forward(const Problem& p, const ForwardArgs& a, Team& team) {
  forward_typed<float, Exact<float>>(p, a, team);
}
void backward(const Problem& p, const BackwardArgs& a, Team& team) {
  backward_typed<float, Exact<float>>(p, a, team);
}
#else

#if defined(RECURRA_ISA_AVX512_BF16)
// This instruction set adds products of bfloat16 to AVX-512's kernels and nothing else.
void forward_exact(const Problem& p, const ForwardArgs& a, Team& team) {
  avx512::kernels.forward(p, a, team);
}
void backward_exact(const Problem& p, const BackwardArgs& a, Team& team) {
  avx512::kernels.backward(p, a, team);
}
#else
void forward_exact(const Problem& p, const ForwardArgs& a, Team& team) {
  p.dtype == Dtype::float32 ? forward_typed<float, Exact<float>>(p, a, team)
                            : forward_typed<double, Exact<double>>(p, a, team);
}
void backward_exact(const Problem& p, const BackwardArgs& a, Team& team) {
  p.dtype == Dtype::float32 ? backward_typed<float, Exact<float>>(p, a, team)
                            : backward_typed<double, Exact<double>>(p, a, team);
}
#endif

void forward(const Problem& p, const ForwardArgs& a, Team& team) {
  p.products == Products::bfloat16 ? forward_typed<float, Bfloat16>(p, a, team)
                                   : forward_exact(p, a, team);
}
void backward(const Problem& p, const BackwardArgs& a, Team& team) {
  p.products == Products::bfloat16 ? backward_typed<float, Bfloat16>(p, a, team)
                                   : backward_exact(p, a, team);
}

#endif

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {RECURRA_ISA_NAME, forward, backward};

}  // namespace RECURRA_ISA
}  // namespace recurra
