#include "team.h"

#include <thread>

#include "executor.h"
#include "plan.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace recurra {
namespace {

// Hosts may run their threads with denormals flushed to zero.  Results must not depend on the
// thread that computes them, so every worker computes with IEEE defaults.
std::uint32_t enter_ieee_mode() {
#if defined(__x86_64__)
  const std::uint32_t saved = _mm_getcsr();
  _mm_setcsr(0x1f80);
  return saved;
#else
  return 0;
#endif
}
void leave_ieee_mode(std::uint32_t saved) {
#if defined(__x86_64__)
  _mm_setcsr(saved);
#else
  (void)saved;
#endif
}

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Spins for a while, then lets other threads of the machine run.
class Waiter {
 public:
  void wait() {
    if (++rounds_ < 4000)
      pause_briefly();
    else
      std::this_thread::yield();
  }

 private:
  int rounds_ = 0;
};

}  // namespace

// Items are claimed by advancing `ticket`, which carries the run's number in its upper half: a
// helper that read the fields of an earlier run fails to claim, because the number has moved on
// (all items of a run are claimed before the fields change).
struct Team::Shared {
  std::atomic<std::uint64_t> ticket{0};
  std::atomic<Index> finished{0};
  std::atomic<bool> over{false};
  std::atomic<int> next_worker{1};
  std::atomic<Work> work{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<Index> items{0};
  const std::thread::id caller = std::this_thread::get_id();

  // Works until nothing is left to claim; true if it did anything.
  bool work_off(int worker) {
    bool did = false;
    for (;;) {
      std::uint64_t seen = ticket.load(std::memory_order_acquire);
      const Work w = work.load(std::memory_order_acquire);
      void* const c = context.load(std::memory_order_acquire);
      const Index n = items.load(std::memory_order_acquire);
      const Index item = Index(seen & 0xffffffffu);
      if (item >= n) return did;
      if (!ticket.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel)) continue;
      w(c, item, worker);
      finished.fetch_add(1, std::memory_order_acq_rel);
      did = true;
    }
  }

  static void help(void* handle) {
    const std::unique_ptr<std::shared_ptr<Shared>> self(
        static_cast<std::shared_ptr<Shared>*>(handle));
    Shared& s = **self;
    // A host without free threads may run the task at once, inside schedule().
    if (std::this_thread::get_id() == s.caller) return;
    const int worker = s.next_worker.fetch_add(1);
    const std::uint32_t mode = enter_ieee_mode();
    Waiter waiter;
    while (!s.over.load(std::memory_order_acquire)) {
      if (s.work_off(worker))
        waiter = Waiter();
      else
        waiter.wait();
    }
    leave_ieee_mode(mode);
  }
};

// One parallel region.
struct Team::Region {
  const Work work;
  void* const context;
  const Index items;
  const int size;
  std::atomic<int> workers{0};
  std::atomic<Index> next{0};

  static void enter(void* handle) {
    Region& r = *static_cast<Region*>(handle);
    const int worker = r.workers.fetch_add(1, std::memory_order_relaxed);
    if (worker >= r.size) return;  // the team is smaller than the region
    const std::uint32_t mode = enter_ieee_mode();
    for (;;) {
      const Index item = r.next.fetch_add(1, std::memory_order_relaxed);
      if (item >= r.items) break;
      r.work(r.context, item, worker);
    }
    leave_ieee_mode(mode);
  }
};

Team::Team(Executor& executor, int threads)
    : size_(threads < 1 ? 1 : threads), executor_(executor), saved_float_mode_(enter_ieee_mode()) {}

Team::~Team() {
  if (shared_) shared_->over.store(true, std::memory_order_release);
  leave_ieee_mode(saved_float_mode_);
}

bool Team::splits_units(const Problem& p) const {
  return recurra::splits_units(p, size_, executor_.round());
}

void Team::run_erased(Index items, Work work, void* context) {
  if (size_ == 1 || (items <= 1 && !invited_)) {
    for (Index i = 0; i < items; ++i) work(context, i, 0);
    return;
  }
  if (executor_.forks()) {
    Region region{work, context, items, size_};
    executor_.fork(&Region::enter, &region);
    return;
  }
  if (!shared_) shared_ = std::make_shared<Shared>();
  Shared& s = *shared_;
  s.finished.store(0, std::memory_order_relaxed);
  s.items.store(0, std::memory_order_relaxed);
  s.work.store(work, std::memory_order_relaxed);
  s.context.store(context, std::memory_order_relaxed);
  const std::uint64_t number = (s.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  s.ticket.store(number << 32, std::memory_order_release);
  s.items.store(items, std::memory_order_release);
  if (!invited_) {
    invited_ = true;
    for (int i = 1; i < size_; ++i)
      executor_.schedule(&Shared::help, new std::shared_ptr<Shared>(shared_));
  }
  s.work_off(0);
  Waiter waiter;
  while (s.finished.load(std::memory_order_acquire) < items) waiter.wait();
}

}  // namespace recurra
