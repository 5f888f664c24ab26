// What the module's parts add to it.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "stream_plan.h"

namespace recurra {
namespace runtime {

// recurra._engine.Plan
struct PyPlan {
  std::shared_ptr<const StreamPlan> plan;
};

// How often the module has taken memory from the heap; -1 where that is not counted.
long long allocations();

void bind_plan(nanobind::module_& m);
void bind_session(nanobind::module_& m);

}  // namespace runtime
}  // namespace recurra
