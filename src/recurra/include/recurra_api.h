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

#define RECURRA_API_VERSION 2

/* Numbers that describe one problem, in this order:
 *   cell, reset_after, activation, recurrent_activation, go_backwards, zero_output_for_mask,
 *   checkpoint_every, products,
 *   batch, time_steps, features, units, dropout_x masks, dropout_h masks (0 = none, 1 or one per
 *   gate)
 * Cells and activations are numbered as in recurra.cells.  Options are all but the sizes.
 *
 * checkpoint_every: 0 saves every step for the backward pass; k saves the states before steps 0, k,
 * 2k, ... alone, and the backward pass computes the steps between them anew; RECURRA_SQUARE_ROOT
 * stands for a k of about the square root of time_steps.
 * products: what is multiplied: 0 numbers of the arrays' type, 1 numbers rounded to bfloat16. */
#define RECURRA_PROBLEM_OPTIONS 8
#define RECURRA_PROBLEM_NUMBERS 14
#define RECURRA_SQUARE_ROOT (-1)

/* checkpoint_every as a number of steps; with k of them there are ceil(time_steps / k) checkpoints.
 */
static inline int64_t recurra_checkpoint_steps(int64_t checkpoint_every, int64_t time_steps) {
  int64_t k = 1;
  if (checkpoint_every != RECURRA_SQUARE_ROOT) return checkpoint_every;
  while (k * k < time_steps) ++k;
  return k;
}

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
