#include "c_api.h"

#include <exception>
#include <stdexcept>
#include <string>

#include "call.h"

namespace recurra {
namespace {

using Schedule = void (*)(void* pool, void (*task)(void*), void* context);

class CallersPool : public Executor {
 public:
  CallersPool(int threads, Schedule schedule, void* pool)
      : threads_(threads > 0 ? threads : num_threads()), schedule_(schedule), pool_(pool) {}
  int threads() const override { return threads_; }
  void schedule(void (*task)(void*), void* context) override { schedule_(pool_, task, context); }

 private:
  const int threads_;
  const Schedule schedule_;
  void* const pool_;
};

const char* run(int backward, int float64, std::int64_t n, const std::int64_t* problems,
                void* const* addresses, int threads, Schedule schedule, void* pool) {
  static_assert(kProblemNumbers == RECURRA_PROBLEM_NUMBERS, "recurra_api.h says how many");
  static_assert(kProblemOptions == RECURRA_PROBLEM_OPTIONS, "recurra_api.h says how many");
  thread_local std::string error;
  try {
    if (n < 0) throw std::invalid_argument("n must be 0 or more, got " + std::to_string(n));
    const Dtype dtype = float64 ? Dtype::float64 : Dtype::float32;
    if (schedule) {
      CallersPool executor(threads, schedule, pool);
      call_addresses(backward != 0, dtype, std::size_t(n), problems, addresses, executor);
    } else {
      Limited executor(own_executor(), threads);
      call_addresses(backward != 0, dtype, std::size_t(n), problems, addresses, executor);
    }
    return nullptr;
  } catch (const std::exception& e) {
    error = e.what();
    return error.c_str();
  }
}

const RecurraApi api = {RECURRA_API_VERSION, run};

}  // namespace

const RecurraApi* c_api() { return &api; }

}  // namespace recurra
