#include "plan.h"

#include <algorithm>
#include <numeric>

namespace recurra {
namespace {

double gate_units(const Problem& p) { return double(p.gates()) * double(p.units); }

// What a problem takes, in multiplications and additions.  A gate's activation and what surrounds
// it take as long as about a hundred of them.
double work(const Problem& p, bool backward) {
  const double gates = double(p.batch) * double(p.time_steps) * gate_units(p);
  const double passes = !backward ? 1.0 : p.checkpoint_every ? 3.0 : 2.0;
  return passes * gates * (2.0 * double(p.features + p.units) + 100.0);
}

// Time on `threads` threads, in units that only comparisons know.  Rows share the reading of the
// weights, so few rows on each of several threads take longer than their share: a step costs as
// much as these many rows more.
constexpr double kRowsOfReading = 3;
// The same where the weights come from further away than a processor's own caches.
constexpr double kRowsOfReadingFar = 7;
constexpr double kNearBytes = 1 << 20;

double step_by_rows(const Problem& p, int threads) {
  const double bytes = gate_units(p) * double(p.units) * (p.dtype == Dtype::float32 ? 4 : 8);
  const Index most_rows = (p.batch + threads - 1) / threads;
  if (most_rows == 0) return 0;
  return double(most_rows) + (bytes > kNearBytes ? kRowsOfReadingFar : kRowsOfReading);
}
// Handing out a step's shares to threads that wait awake, and waiting for them: 0.3 us between
// neighbouring processors, 2 us where a virtual machine's are far from each other; the latter, in
// multiplications and additions.
constexpr double kRound = 1e5;
// In rows as well.
double step_by_units(const Problem& p, int threads) {
  const double rounds = p.cell == Cell::gru && !p.reset_after ? 2 : 1;
  return step_by_rows(p, 1) / threads + rounds * kRound / (gate_units(p) * double(p.units));
}

double cost(const Problem& p, bool backward, int threads) {
  double rows = step_by_rows(p, threads);
  const double steps = double(p.time_steps) * gate_units(p);
  if (!backward) {
    if (splits_units(p, threads)) rows = step_by_units(p, threads);
    return steps * rows * double(p.features + p.units);
  }
  // The weights' gradients and dx are shared out whatever the batch is.
  const double shared = double(p.batch) / threads * double(2 * p.features + p.units);
  return steps * (rows * double(p.units) + shared);
}

int threads_for(double work, int available, double worth_a_thread) {
  const double share = work / worth_a_thread;
  const int n = share < double(available) ? int(share) : available;
  return n < 1 ? 1 : n;
}

}  // namespace

bool splits_units(const Problem& p, int threads) {
  constexpr double worth_it = 0.87;  // waiting for each other at every step has its risks
  return threads > 1 && p.units >= 2 * threads * 16 &&
         step_by_units(p, threads) < worth_it * step_by_rows(p, threads);
}

int useful_threads(const Problem& p, bool backward, int available, double worth_a_thread) {
  return threads_for(work(p, backward), available, worth_a_thread);
}

Plan make_plan(const std::vector<Problem>& problems, bool backward, int available,
               double worth_a_thread) {
  const int n = int(problems.size());
  Plan plan;
  plan.threads.resize(problems.size());
  plan.order.resize(problems.size());
  std::iota(plan.order.begin(), plan.order.end(), Index(0));
  double all = 0, one_by_one = 0;
  for (int i = 0; i < n; ++i) {
    const Problem& p = problems[i];
    all += work(p, backward);
    plan.threads[i] = useful_threads(p, backward, available, worth_a_thread);
    one_by_one += cost(p, backward, plan.threads[i]);
  }
  const int workers = threads_for(all, std::min(n, available), worth_a_thread);
  if (workers < 2) return plan;

  const int each = available / workers;
  std::vector<double> costs(problems.size());
  for (int i = 0; i < n; ++i)
    costs[i] = cost(problems[i], backward, std::min(each, plan.threads[i]));
  std::stable_sort(plan.order.begin(), plan.order.end(),
                   [&](Index a, Index b) { return costs[a] > costs[b]; });
  std::vector<double> busy(std::size_t(workers), 0.0);
  for (const Index i : plan.order) *std::min_element(busy.begin(), busy.end()) += costs[i];
  if (*std::max_element(busy.begin(), busy.end()) > one_by_one) return plan;
  plan.side_by_side = workers;
  for (int& threads : plan.threads) threads = std::min(each, threads);
  return plan;
}

}  // namespace recurra
