// The list of cells, a line each, in the order of recurra.cells.CELLS (a test compares the two):
//   X(name, functor in cells/name.h, has a cell state, has the option reset_after,
//     index of the candidate: the gate that uses `activation`, the others `recurrent_activation`,
//     the gates in Keras's order)
// With reset_after a cell has a second bias row and saves its "recurrent_candidate".
#pragma once

#define RECURRA_CELLS(X)                                                                 \
  X(lstm, Lstm, true, false, 2, "input_gate", "forget_gate", "candidate", "output_gate") \
  X(gru, Gru, false, true, 2, "update_gate", "reset_gate", "candidate")                  \
  X(simple_rnn, SimpleRnn, false, false, 0, "candidate")

#if defined(RECURRA_CELL_FUNCTORS)
#include "gru.h"
#include "lstm.h"
#include "simple_rnn.h"
#endif
