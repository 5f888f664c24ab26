// Where the threads of a call come from.
#pragma once

namespace recurra {

class Executor {
 public:
  virtual ~Executor() = default;
  virtual int threads() const = 0;  // the caller included

  // Has another thread run task(context), at any time; the caller does not wait for it.
  virtual void schedule(void (*task)(void*), void* context) = 0;

  // Runs body(executor, context) once, on the calling thread; `executor` is where its helpers come
  // from.
  virtual void run(void (*body)(Executor& executor, void* context), void* context) {
    body(*this, context);
  }

  // Multiplications and additions that pay for calling one more thread: some 50 to 100 us of work.
  virtual double worth_a_thread() const { return 5e6; }
};

// Limits another executor to `threads`.
class Limited : public Executor {
 public:
  Limited(Executor& other, int threads) : other_(other), threads_(threads) {}
  int threads() const override {
    const int most = other_.threads();
    return threads_ > 0 && threads_ < most ? threads_ : most;
  }
  void schedule(void (*task)(void*), void* context) override { other_.schedule(task, context); }
  double worth_a_thread() const override { return other_.worth_a_thread(); }

 private:
  Executor& other_;
  const int threads_;
};

// The engine's own pool; its size follows set_num_threads.
Executor& own_executor();
void set_num_threads(int n);  // 0: as many as the process may run on
int num_threads();            // what set_num_threads asked for, else that default
bool num_threads_is_set();

// The OpenMP runtime of the host.  Its threads wait for work awake for a while, so a call between
// two operations of the host joins them within microseconds, where threads of our own would
// compete with them for the processors.
//
// The runtime is known by one function, the entry point that compilers emit for a parallel region:
// nothing is compiled with OpenMP or linked to it.
using GompParallel = void (*)(void (*body)(void*), void* data, unsigned num_threads,
                              unsigned flags);
void set_openmp(GompParallel parallel);  // null: forget it

class OpenMpExecutor : public Executor {
 public:
  // Throws std::invalid_argument if set_openmp was not called.
  explicit OpenMpExecutor(int threads);
  int threads() const override { return threads_; }
  void schedule(void (*task)(void*), void* context) override;
  // One parallel region; `body` runs on its caller's thread, the others are the helpers.
  void run(void (*body)(Executor& executor, void* context), void* context) override;
  double worth_a_thread() const override { return forks_ ? 1e6 : Executor::worth_a_thread(); }

 private:
  const GompParallel parallel_;
  const int threads_;
  const bool forks_;
};

// Has a forked child start with a pool of its own.  Called once, when the module is loaded.
void prepare_for_forks();

}  // namespace recurra
