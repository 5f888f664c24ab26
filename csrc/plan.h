// Who computes what when one call holds several problems.  Results do not depend on it: a problem
// gives the same bits on one thread and on many.
#pragma once

#include <vector>

#include "engine.h"

namespace recurra {

// How many threads a problem deserves: one below the size at which a second one pays for its
// wake-up.
int useful_threads(const Problem& p, bool backward, int available, double worth_a_thread);

// Whether the threads of a forward pass share out the units of every step rather than the rows of
// the batch: with few rows, or weights that one processor's cache does not hold.
bool splits_units(const Problem& p, int threads);

struct Plan {
  int side_by_side = 1;      // so many problems run at a time; 1 = one after the other
  std::vector<int> threads;  // for each problem
  std::vector<Index> order;  // costly problems first
};
Plan make_plan(const std::vector<Problem>& problems, bool backward, int available,
               double worth_a_thread);

}  // namespace recurra
