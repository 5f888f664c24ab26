// The threads of one call.
//
// Work items are claimed one by one from a shared counter.  The caller does not depend on anybody
// else: helpers join when (and if) they wake up, and the caller only ever waits for an item that a
// helper has already begun.  Waking a sleeping thread can take from 50 us to milliseconds.  Once
// there, helpers wait awake until the team's end, so that a run costs some tenths of a microsecond.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "engine.h"
#include "float_mode.h"

namespace recurra {

class Executor;

class Team {
 public:
  using Work = void (*)(void* context, Index item, int worker);

  // At most `threads` workers, the caller being one of them.
  Team(Executor& executor, int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  RECURRA_INLINE int size() const { return size_; }
  // Whether a forward pass is to share out the units of every step rather than the rows (plan.h).
  bool splits_units(const Problem& p) const;

  // Runs work(item, worker) for every item in 0..items-1; worker < size() names the thread, for
  // its scratch memory.  Returns when all are done.
  template <class F>
  RECURRA_INLINE void run(Index items, F&& work) {
    run_erased(
        items,
        [](void* f, Index item, int worker) {
          (*static_cast<std::remove_reference_t<F>*>(f))(item, worker);
        },
        &work);
  }

 private:
  struct Shared;
  void run_erased(Index items, Work work, void* context);

  int size_;
  std::uint64_t runs_ = 0;
  Index helped_ = 0;  // items left to helpers, of all runs
  Executor& executor_;
  std::shared_ptr<Shared> shared_;
  IeeeMode mode_;
};

}  // namespace recurra
