#include "team.h"

#include <thread>

#include "executor.h"
#include "plan.h"
#include "waiter.h"

namespace recurra {
namespace {

// The items of a run that nobody has begun, and the run's number.  The caller takes items from the
// front and helpers from the back: so each finds in its caches what it left there in the run
// before.
struct Ticket {
  static constexpr int kBits = 20;
  static constexpr std::uint64_t kMost = (std::uint64_t(1) << kBits) - 1;

  std::uint64_t bits = 0;
  static Ticket of(std::uint64_t run, Index front, Index left) {
    return {run << (2 * kBits) | std::uint64_t(front) << kBits | std::uint64_t(left)};
  }
  Index left() const { return Index(bits & kMost); }
  Index front() const { return Index(bits >> kBits & kMost); }
  Ticket without_front() const { return {bits + (std::uint64_t(1) << kBits) - 1}; }
  Ticket without_back() const { return {bits - 1}; }
};

}  // namespace

// What the caller and its helpers share, each kind of it in a cache line of its own: a round, from
// the caller's store to the helper's claim and back to what the caller waits for, takes a few
// transfers of a line between two processors.
struct Team::Shared {
  // What helpers watch.  A helper that read the fields of an earlier run fails to claim an item,
  // because the number has moved on (all items of a run are claimed before the fields change).
  alignas(64) std::atomic<std::uint64_t> ticket{0};
  std::atomic<bool> over{false};

  alignas(64) std::atomic<Work> work{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<int> next_worker{1};
  const std::thread::id caller = std::this_thread::get_id();

  alignas(64) std::atomic<Index> helped{0};  // items that helpers have finished, of all runs

  // Claims an item and works on it; false if there was none.
  bool work_on_one(int worker) {
    Ticket seen{ticket.load(std::memory_order_acquire)};
    for (;;) {
      if (seen.left() == 0) return false;
      const Work w = work.load(std::memory_order_relaxed);
      void* const c = context.load(std::memory_order_relaxed);
      const Ticket next = worker == 0 ? seen.without_front() : seen.without_back();
      if (!ticket.compare_exchange_weak(seen.bits, next.bits, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
        continue;
      w(c, worker == 0 ? seen.front() : seen.front() + seen.left() - 1, worker);
      return true;
    }
  }

  static void help(void* handle) {
    const std::unique_ptr<std::shared_ptr<Shared>> self(
        static_cast<std::shared_ptr<Shared>*>(handle));
    Shared& s = **self;
    // A host without free threads may run the task at once, inside schedule().
    if (std::this_thread::get_id() == s.caller) return;
    const int worker = s.next_worker.fetch_add(1);
    const IeeeMode mode;
    Waiter waiter;
    while (!s.over.load(std::memory_order_acquire)) {
      if (s.work_on_one(worker)) {
        s.helped.fetch_add(1, std::memory_order_release);
        waiter = Waiter();
      } else {
        waiter.wait();
      }
    }
  }
};

Team::Team(Executor& executor, int threads)
    : size_(threads < 1 ? 1 : threads), executor_(executor) {}

Team::~Team() {
  if (shared_) shared_->over.store(true, std::memory_order_release);
}

bool Team::splits_units(const Problem& p) const { return recurra::splits_units(p, size_); }

void Team::run_erased(Index items, Work work, void* context) {
  if (size_ == 1 || items <= 1 || items > Index(Ticket::kMost)) {
    for (Index i = 0; i < items; ++i) work(context, i, 0);
    return;
  }
  const bool first = !shared_;
  if (first) shared_ = std::make_shared<Shared>();
  Shared& s = *shared_;
  s.work.store(work, std::memory_order_relaxed);
  s.context.store(context, std::memory_order_relaxed);
  // The first item is the caller's.
  s.ticket.store(Ticket::of(++runs_, 1, items - 1).bits, std::memory_order_release);
  if (first)
    for (int i = 1; i < size_; ++i)
      executor_.schedule(&Shared::help, new std::shared_ptr<Shared>(shared_));
  Index own = 1;
  work(context, 0, 0);
  while (s.work_on_one(0)) ++own;
  helped_ += items - own;
  Waiter waiter;
  while (s.helped.load(std::memory_order_acquire) < helped_) waiter.wait();
}

}  // namespace recurra
