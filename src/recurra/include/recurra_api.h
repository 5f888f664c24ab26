/* The engine as plain C, for hosts that are compiled apart from it.
 *
 * The address of a RecurraApi is what recurra._engine.c_api() returns; it stays valid as long as
 * the process.  All functions may be called from any thread, also several at a time.
 */
#ifndef RECURRA_API_H
#define RECURRA_API_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RECURRA_API_VERSION 1

/* Numbers that describe one problem, in this order:
 *   cell, reset_after, activation, recurrent_activation, go_backwards, zero_output_for_mask,
 *   batch, time_steps, features, units, dropout_x masks, dropout_h masks (0 = none, 1 or one per
 *   gate)
 * Cells and activations are numbered as in recurra.cells. */
#define RECURRA_PROBLEM_NUMBERS 12

typedef struct RecurraApi {
  int64_t version; /* RECURRA_API_VERSION */

  /* Runs n independent scans, forward or backward.  Returns NULL, or a text that says what is
   * wrong, valid until this thread's next call.
   *
   *   float64    whether all arrays but the masks are double (else float)
   *   n          number of problems, 0 included
   *   problems   (n, RECURRA_PROBLEM_NUMBERS)
   *   addresses  for each problem its inputs, then its outputs, as recurra.engine.cpu names them
   *              (FORWARD_INPUTS and forward_outputs, or backward_inputs and DIFFERENTIABLE);
   *              NULL = absent.  Arrays are C-contiguous; one without elements is any pointer but
   *              NULL.  Outputs overlap nothing.
   *   threads    how many threads to use at most, the caller included; 0 = the engine's default
   *   schedule   has a thread of the caller's pool run task(context), or is NULL: the engine's own
   *              threads.  `pool` is handed to it.  Every task must run exactly once, but may do
   *              so at any time, even after the call has returned (it then does nothing). */
  const char* (*run)(int backward, int float64, int64_t n, const int64_t* problems,
                     void* const* addresses, int threads,
                     void (*schedule)(void* pool, void (*task)(void*), void* context), void* pool);
} RecurraApi;

#ifdef __cplusplus
}
#endif

#endif
