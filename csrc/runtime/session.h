// A stream's carried state, and steps of many streams at once.
#pragma once

#include <memory>
#include <mutex>

#include "scratch.h"
#include "stream_plan.h"

namespace recurra {
namespace runtime {

class StreamSession {
 public:
  StreamSession(std::shared_ptr<const StreamPlan> plan, Index batch);

  const StreamPlan& plan() const { return *plan_; }
  std::shared_ptr<const StreamPlan> shared_plan() const { return plan_; }
  Index batch() const { return batch_; }
  char* state() { return memory_.data(); }
  std::size_t bytes() const { return std::size_t(batch_ * plan_->state_bytes()); }

  // Continues all rows by some steps; a second thread waits for the first.
  void run(Index steps, const void* const* inputs, float* const* outputs);
  void copy_from(StreamSession& other);  // of the same plan and batch
  // Some bytes of every row's state from and to a dense array, and zeros; only the rows that
  // `chosen` (null: all) names.  Throws std::invalid_argument beyond the state.
  void read(Index offset, Index bytes, char* to);
  void write(Index offset, Index bytes, const char* from, const bool* chosen);
  void clear(const bool* chosen);

  std::mutex& mutex() { return mutex_; }

 private:
  void check_part(Index offset, Index bytes) const;
  std::shared_ptr<const StreamPlan> plan_;
  Index batch_;
  Memory memory_;
  std::mutex mutex_;
};

// One step of n sessions of one row each and one plan: row i of the arrays is session i's.  Throws
// std::invalid_argument if a session is there twice or does not fit.
void step_many(StreamSession* const* sessions, Index n, const void* const* inputs,
               float* const* outputs);

}  // namespace runtime
}  // namespace recurra
