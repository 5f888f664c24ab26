#include "executor.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

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

std::atomic<GompParallel> openmp{nullptr};
// A forked child that enters a parallel region waits forever for its parent's threads.
std::atomic<bool> openmp_used{false}, openmp_lost{false};

}  // namespace

void prepare_for_forks() {
  pool.store(new Pool);
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] {
    pool.store(new Pool);
    if (openmp_used.load()) openmp_lost.store(true);
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

void OpenMpExecutor::fork(void (*body)(void*), void* context) {
  openmp_used.store(true, std::memory_order_relaxed);
  // Always as many as the host asks for: the runtime ends the threads that a smaller region does
  // not need, and the host's next region would start them anew.
  parallel_(body, context, unsigned(threads_), 0);
}

}  // namespace recurra
