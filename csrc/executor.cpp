#include "executor.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "waiter.h"

namespace recurra {
namespace {

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
    waiting_.store(int(tasks_.size()), std::memory_order_release);
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
      if (tasks_.empty()) {
        lock.unlock();
        stay_awake();
        lock.lock();
      }
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      --idle_;
      const Task task = tasks_.front();
      tasks_.pop_front();
      waiting_.store(int(tasks_.size()), std::memory_order_release);
      lock.unlock();
      task.run(task.context);
      lock.lock();
    }
  }

  // A call often follows another within a fraction of a millisecond, and a thread that sleeps may
  // wake up when it is over. Other threads of the machine go first.
  void stay_awake() const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
    while (std::chrono::steady_clock::now() < end)
      for (int i = 0; i < 20; ++i) {
        if (waiting_.load(std::memory_order_acquire) > 0) return;
        i % 4 ? Waiter::pause_briefly() : std::this_thread::yield();
      }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  std::atomic<int> waiting_{0};
  int started_ = 0, idle_ = 0;
};

// Never destroyed: its threads may still be waiting when the process ends.  A forked child has
// none of its parent's threads and gets a pool of its own.
std::atomic<Pool*> pool{nullptr};

std::atomic<GompParallel> openmp{nullptr};
// A forked child that enters a parallel region waits forever for its parent's threads, whoever used
// them there.
std::atomic<bool> openmp_lost{false};

}  // namespace

void prepare_for_forks() {
  pool.store(new Pool);
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] {
    pool.store(new Pool);
    openmp_lost.store(true);
  });
#endif
}

Executor& own_executor() { return *pool.load(); }

void set_num_threads(int n) { requested_threads.store(n < 0 ? 0 : n); }
bool num_threads_is_set() { return requested_threads.load() > 0; }
int num_threads() {
  const int n = requested_threads.load();
  return n > 0 ? n : allowed_cpus();
}

void set_openmp(GompParallel parallel) { openmp.store(parallel); }

OpenMpExecutor::OpenMpExecutor(int threads)
    : parallel_(openmp.load()),
      threads_(threads > 0 ? threads : num_threads()),
      forks_(!openmp_lost.load()) {
  if (!parallel_)
    throw std::invalid_argument(
        "openmp=True needs the OpenMP runtime's address: call set_openmp first");
}

void OpenMpExecutor::schedule(void (*task)(void*), void* context) {
  own_executor().schedule(task, context);
}

namespace {

// The threads of one parallel region, as an executor: one of them, the region's caller, runs
// `body`, and the others do what it schedules.
class Region : public Executor {
 public:
  Region(int threads, void (*body)(Executor&, void*), void* context)
      : threads_(threads), body_(body), context_(context) {}
  int threads() const override { return threads_; }
  double worth_a_thread() const override { return 1e6; }

  void schedule(void (*task)(void*), void* context) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back({task, context});
    waiting_.store(int(tasks_.size()), std::memory_order_release);
  }

  static void enter(void* handle) {
    Region& r = *static_cast<Region*>(handle);
    if (std::this_thread::get_id() != r.caller_) return r.serve();
    try {
      r.body_(r, r.context_);
    } catch (...) {
      r.error_ = std::current_exception();  // none may leave the region
    }
    r.over_.store(true, std::memory_order_release);
    while (r.run_one()) {  // tasks that nobody took find that their team has gone
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve() {
    Waiter waiter;
    while (!over_.load(std::memory_order_acquire)) {
      if (waiting_.load(std::memory_order_acquire) > 0 && run_one())
        waiter = Waiter();
      else
        waiter.wait();
    }
  }

  bool run_one() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (tasks_.empty()) return false;
    const Task task = tasks_.front();
    tasks_.pop_front();
    waiting_.store(int(tasks_.size()), std::memory_order_release);
    lock.unlock();
    task.run(task.context);
    return true;
  }

  const int threads_;
  void (*const body_)(Executor&, void*);
  void* const context_;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::exception_ptr error_;
  std::mutex mutex_;
  std::deque<Task> tasks_;
  std::atomic<int> waiting_{0};
  std::atomic<bool> over_{false};
};

}  // namespace

void OpenMpExecutor::run(void (*body)(Executor& executor, void* context), void* context) {
  if (!forks_) return body(*this, context);
  Region region(threads_, body, context);
  // Always as many as the host asks for: the runtime ends the threads that a smaller region does
  // not need, and the host's next region would start them anew.
  parallel_(&Region::enter, &region, unsigned(threads_), 0);
  region.rethrow();
}

}  // namespace recurra
