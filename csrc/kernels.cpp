// The kernels of one instruction set: this file is compiled once per RECURRA_ISA_*.
#define RECURRA_CELL_FUNCTORS
#include "cells/list.h"
#include "scan_backward.h"
#include "scan_checkpointed.h"
#include "scan_forward.h"

namespace recurra {
namespace RECURRA_ISA {
namespace {

template <class T, class C>
void forward_cell(const Problem& p, const ForwardArgs& a, Team& team) {
  if (p.activation == Activation::tanh && p.recurrent_activation == Activation::sigmoid)
    ForwardScan<T, C, DefaultActivations<T>>(p, a).run(team);
  else
    ForwardScan<T, C, AnyActivations<T>>(p, a).run(team);
}
template <class T, class C, class Act>
void backward_with(const Problem& p, const BackwardArgs& a, Team& team) {
  if (p.checkpoint_every)
    CheckpointedBackward<T, C, Act>(p, a).run(team);
  else
    BackwardScan<T, C, Act>(p, a).run(team);
}
template <class T, class C>
void backward_cell(const Problem& p, const BackwardArgs& a, Team& team) {
  if (p.activation == Activation::tanh && p.recurrent_activation == Activation::sigmoid)
    backward_with<T, C, DefaultActivations<T>>(p, a, team);
  else
    backward_with<T, C, AnyActivations<T>>(p, a, team);
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

template <class T>
void forward_typed(const Problem& p, const ForwardArgs& a, Team& team) {
  with_cell<T>(p, [&](auto cell) { forward_cell<T, decltype(cell)>(p, a, team); });
}
template <class T>
void backward_typed(const Problem& p, const BackwardArgs& a, Team& team) {
  with_cell<T>(p, [&](auto cell) { backward_cell<T, decltype(cell)>(p, a, team); });
}

// RECURRA_FLOAT32_ONLY is for tools that count these alone: it halves the time to compile.
#if defined(RECURRA_FLOAT32_ONLY)
void forward(const Problem& p, const ForwardArgs& a, Team& team) {
  forward_typed<float>(p, a, team);
}
void backward(const Problem& p, const BackwardArgs& a, Team& team) {
  backward_typed<float>(p, a, team);
}
#else
void forward(const Problem& p, const ForwardArgs& a, Team& team) {
  p.dtype == Dtype::float32 ? forward_typed<float>(p, a, team) : forward_typed<double>(p, a, team);
}
void backward(const Problem& p, const BackwardArgs& a, Team& team) {
  p.dtype == Dtype::float32 ? backward_typed<float>(p, a, team)
                            : backward_typed<double>(p, a, team);
}
#endif

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {RECURRA_ISA_NAME, forward, backward};

}  // namespace RECURRA_ISA
}  // namespace recurra
