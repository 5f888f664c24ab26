#include "team.h"

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
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

int allowed_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? int(n) : 1;
}

std::atomic<int> requested_threads{0};

struct Task {
  void (*run)(void*);
  void* context;
};

class Pool : public Executor {
 public:
  int threads() const override { return num_threads(); }

  void schedule(void (*task)(void*), void* context) override {
    std::unique_lock<std::mutex> lock(mutex_);
    tasks_.push_back({task, context});
    const int wanted = num_threads() - 1;
    if (int(tasks_.size()) > idle_ && started_ < wanted) {
      ++started_;
      std::thread([this] { serve(); }).detach();
    }
    lock.unlock();
    wake_.notify_one();
  }

 private:
  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      ++idle_;
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      --idle_;
      const Task task = tasks_.front();
      tasks_.pop_front();
      lock.unlock();
      task.run(task.context);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  int started_ = 0, idle_ = 0;
};

// Never destroyed: its threads may still be waiting when the process ends.  A forked child has
// none of its parent's threads and gets a pool of its own.
std::atomic<Pool*> pool{nullptr};

}  // namespace

Executor& own_executor() {
  static std::once_flag once;
  std::call_once(once, [] {
    pool.store(new Pool);
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, [] { pool.store(new Pool); });
#endif
  });
  return *pool.load();
}

void set_num_threads(int n) { requested_threads.store(n < 0 ? 0 : n); }
bool num_threads_is_set() { return requested_threads.load() > 0; }
int num_threads() {
  const int n = requested_threads.load();
  return n > 0 ? n : allowed_cpus();
}

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

Team::Team(Executor& executor, int threads)
    : size_(threads < 1 ? 1 : threads), executor_(executor), saved_float_mode_(enter_ieee_mode()) {}

Team::~Team() {
  if (shared_) shared_->over.store(true, std::memory_order_release);
  leave_ieee_mode(saved_float_mode_);
}

void Team::run_erased(Index items, Work work, void* context) {
  if (size_ == 1 || (items <= 1 && !invited_)) {
    for (Index i = 0; i < items; ++i) work(context, i, 0);
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

namespace {

struct Block {
  char* data;
  std::size_t capacity;
};
constexpr std::size_t kStoreLimit = std::size_t(256) << 20;
constexpr std::size_t kHuge = std::size_t(2) << 20;

struct Store {
  std::mutex mutex;
  std::vector<Block> blocks;
  std::size_t bytes = 0;
};
Store& store() {
  static Store* s = new Store;  // outlives threads that end after main
  return *s;
}

}  // namespace

void advise_huge_pages(void* data, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kHuge * kHuge;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

Workspace::Workspace(std::size_t bytes) : data_(nullptr), capacity_(0) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes == 0) bytes = 64;
  {
    Store& s = store();
    const std::lock_guard<std::mutex> lock(s.mutex);
    std::size_t best = s.blocks.size();
    for (std::size_t i = 0; i < s.blocks.size(); ++i)
      if (s.blocks[i].capacity >= bytes && s.blocks[i].capacity <= 4 * bytes + (1 << 16) &&
          (best == s.blocks.size() || s.blocks[i].capacity < s.blocks[best].capacity))
        best = i;
    if (best < s.blocks.size()) {
      data_ = s.blocks[best].data;
      capacity_ = s.blocks[best].capacity;
      s.bytes -= capacity_;
      s.blocks[best] = s.blocks.back();
      s.blocks.pop_back();
      return;
    }
  }
  const std::size_t alignment = bytes >= kHuge ? kHuge : 64;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  data_ = static_cast<char*>(std::aligned_alloc(alignment, bytes));
  if (!data_) throw std::bad_alloc();
  capacity_ = bytes;
  advise_huge_pages(data_, bytes);
}

Workspace::~Workspace() {
  Store& s = store();
  {
    const std::lock_guard<std::mutex> lock(s.mutex);
    if (s.bytes + capacity_ <= kStoreLimit && s.blocks.size() < 32) {
      s.blocks.push_back({data_, capacity_});
      s.bytes += capacity_;
      return;
    }
  }
  std::free(data_);
}

}  // namespace recurra
