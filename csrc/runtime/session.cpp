#include "session.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace recurra {
namespace runtime {
namespace {

Index checked_batch(const StreamPlan& plan, Index batch) {
  constexpr Index most = Index(1) << 40;  // bytes
  if (batch < 1 || batch > most || batch > most / std::max(plan.state_bytes(), Index(1)))
    throw std::invalid_argument("batch must be 1 or more (and its state fit in memory), got " +
                                std::to_string(batch));
  return batch;
}

}  // namespace

StreamSession::StreamSession(std::shared_ptr<const StreamPlan> plan, Index batch)
    : plan_(std::move(plan)),
      batch_(checked_batch(*plan_, batch)),
      memory_(std::size_t(batch_ * plan_->state_bytes())) {}

void StreamSession::run(Index steps, const void* const* inputs, float* const* outputs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Run run;
  run.rows = batch_;
  run.steps = steps;
  run.inputs = inputs;
  run.outputs = outputs;
  run.state = state();
  plan_->run(run);
}

void StreamSession::copy_from(StreamSession& other) {
  if (&other == this) return;
  if (other.plan_ != plan_ || other.batch_ != batch_)
    throw std::invalid_argument("copy_from: the sessions must be of one plan and batch size");
  const std::scoped_lock lock(mutex_, other.mutex_);
  std::memcpy(state(), other.state(), bytes());
}

void StreamSession::check_part(Index offset, Index bytes) const {
  const Index all = plan_->state_bytes();
  if (offset < 0 || bytes < 0 || offset > all || bytes > all - offset)
    throw std::invalid_argument("a row's state has " + std::to_string(all) + " bytes, got offset " +
                                std::to_string(offset) + " and " + std::to_string(bytes) +
                                " bytes");
}

void StreamSession::read(Index offset, Index bytes, char* to) {
  check_part(offset, bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Index r = 0; r < batch_; ++r)
    std::memcpy(to + r * bytes, state() + r * plan_->state_bytes() + offset, std::size_t(bytes));
}

void StreamSession::write(Index offset, Index bytes, const char* from, const bool* chosen) {
  check_part(offset, bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Index r = 0; r < batch_; ++r)
    if (!chosen || chosen[r])
      std::memcpy(state() + r * plan_->state_bytes() + offset, from + r * bytes,
                  std::size_t(bytes));
}

void StreamSession::clear(const bool* chosen) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Index r = 0; r < batch_; ++r)
    if (!chosen || chosen[r])
      std::memset(state() + r * plan_->state_bytes(), 0, std::size_t(plan_->state_bytes()));
}

namespace {

// Locks sessions in the order of their addresses: two threads with the same ones wait for each
// other in turn.
class LockAll {
 public:
  LockAll(StreamSession* const* sessions, Index n) {
    ordered_.assign(sessions, sessions + n);
    std::sort(ordered_.begin(), ordered_.end());
    if (std::adjacent_find(ordered_.begin(), ordered_.end()) != ordered_.end())
      throw std::invalid_argument("step_many: a session is there twice");
    for (StreamSession* s : ordered_) s->mutex().lock();
  }
  ~LockAll() {
    for (StreamSession* s : ordered_) s->mutex().unlock();
  }

 private:
  std::vector<StreamSession*> ordered_;
};

}  // namespace

void step_many(StreamSession* const* sessions, Index n, const void* const* inputs,
               float* const* outputs) {
  if (n == 0) return;
  const StreamPlan& plan = sessions[0]->plan();
  for (Index i = 0; i < n; ++i) {
    if (&sessions[i]->plan() != &plan)
      throw std::invalid_argument("step_many: session " + std::to_string(i) +
                                  " is of another plan than the first");
    if (sessions[i]->batch() != 1)
      throw std::invalid_argument("step_many: session " + std::to_string(i) + " has " +
                                  std::to_string(sessions[i]->batch()) + " rows, 1 is needed");
  }
  std::vector<char*> states(std::size_t(n), nullptr);
  for (Index i = 0; i < n; ++i) states[std::size_t(i)] = sessions[i]->state();
  const LockAll lock(sessions, n);
  Run run;
  run.rows = n;
  run.inputs = inputs;
  run.outputs = outputs;
  run.states = states.data();
  plan.run(run);
}

}  // namespace runtime
}  // namespace recurra
