// The threads of one call.
//
// The caller does not depend on anybody else: work items are claimed one by one from a shared
// counter, helpers join when (and if) they wake up, and the caller only ever waits for an item
// that a helper has already begun.  Waking a sleeping thread can take from 50 us to milliseconds.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "engine.h"

namespace recurra {

// Where helpers come from: the engine's own pool, or the host's.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual int threads() const = 0;  // the caller included
  virtual void schedule(void (*task)(void*), void* context) = 0;
};

// The engine's own pool; its size follows set_num_threads.
Executor& own_executor();
void set_num_threads(int n);  // 0: as many as the process may run on
int num_threads();            // what set_num_threads asked for, else that default
bool num_threads_is_set();

class Team {
 public:
  using Work = void (*)(void* context, Index item, int worker);

  // At most `threads` workers, the caller being worker 0.
  Team(Executor& executor, int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  RECURRA_INLINE int size() const { return size_; }

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
  bool invited_ = false;
  Executor& executor_;
  std::shared_ptr<Shared> shared_;
  std::uint32_t saved_float_mode_;
};

// Scratch memory, aligned to 64 bytes, taken from and returned to a small store so that a
// training loop does not fault its pages in anew at every step.
class Workspace {
 public:
  explicit Workspace(std::size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  RECURRA_INLINE char* data() const { return data_; }

 private:
  char* data_;
  std::size_t capacity_;
};

// Asks the kernel for huge pages under a large array that is about to be written in full.
void advise_huge_pages(void* data, std::size_t bytes);

// Hands out consecutive aligned pieces; with a null base it only measures.
class Arena {
 public:
  RECURRA_INLINE explicit Arena(char* base) : base_(base) {}
  template <class T>
  RECURRA_INLINE T* take(Index count) {
    const std::size_t at = used_;
    used_ += (std::size_t(count) * sizeof(T) + 63) / 64 * 64;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  RECURRA_INLINE std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

}  // namespace recurra
