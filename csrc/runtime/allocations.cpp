// Counts what the module takes from the heap, the binding included: the linker leads every call of
// an allocation function from its objects here (CMakeLists.txt), where it can.
#include <atomic>
#include <cstddef>

#include "bind.h"

namespace {

std::atomic<long long> count{0};

void count_one() { count.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

#if defined(RECURRA_COUNTS_ALLOCATIONS)
#define RECURRA_COUNTED(name, parameters, arguments) \
  extern "C" void* __real_##name parameters;         \
  extern "C" void* __wrap_##name parameters {        \
    count_one();                                     \
    return __real_##name arguments;                  \
  }
RECURRA_COUNTED(malloc, (std::size_t n), (n))
RECURRA_COUNTED(calloc, (std::size_t n, std::size_t size), (n, size))
RECURRA_COUNTED(realloc, (void* p, std::size_t n), (p, n))
RECURRA_COUNTED(aligned_alloc, (std::size_t alignment, std::size_t n), (alignment, n))
// operator new, new[], and those that take an alignment.
RECURRA_COUNTED(_Znwm, (std::size_t n), (n))
RECURRA_COUNTED(_Znam, (std::size_t n), (n))
RECURRA_COUNTED(_ZnwmSt11align_val_t, (std::size_t n, std::size_t alignment), (n, alignment))
RECURRA_COUNTED(_ZnamSt11align_val_t, (std::size_t n, std::size_t alignment), (n, alignment))
#endif

namespace recurra {
namespace runtime {

long long allocations() {
#if defined(RECURRA_COUNTS_ALLOCATIONS)
  return count.load();
#else
  (void)&count_one;
  return -1;
#endif
}

}  // namespace runtime
}  // namespace recurra
