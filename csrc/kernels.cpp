// The kernels of one instruction set: this file is compiled once per RECURRA_ISA_*.
#include "cells/gru.h"
#include "cells/lstm.h"
#include "cells/simple_rnn.h"
#include "scan_backward.h"
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
template <class T, class C>
void backward_cell(const Problem& p, const BackwardArgs& a, Team& team) {
  if (p.activation == Activation::tanh && p.recurrent_activation == Activation::sigmoid)
    BackwardScan<T, C, DefaultActivations<T>>(p, a).run(team);
  else
    BackwardScan<T, C, AnyActivations<T>>(p, a).run(team);
}

// The list of cells: calls f with the functor that implements the problem's cell.
template <class T, class F>
void with_cell(const Problem& p, F&& f) {
  switch (p.cell) {
    case Cell::lstm: return f(Lstm<T>{});
    case Cell::gru: return p.reset_after ? f(GruResetAfter<T>{}) : f(GruResetBefore<T>{});
    case Cell::simple_rnn: return f(SimpleRnn<T>{});
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

void forward(const Problem& p, const ForwardArgs& a, Team& team) {
  p.dtype == Dtype::float32 ? forward_typed<float>(p, a, team) : forward_typed<double>(p, a, team);
}
void backward(const Problem& p, const BackwardArgs& a, Team& team) {
  p.dtype == Dtype::float32 ? backward_typed<float>(p, a, team)
                            : backward_typed<double>(p, a, team);
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {RECURRA_ISA_NAME, forward, backward};

}  // namespace RECURRA_ISA
}  // namespace recurra
