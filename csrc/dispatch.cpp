// Chooses the kernels for the processor at run time.
#include <atomic>
#include <cstring>

#include "engine.h"

namespace recurra {

#if defined(RECURRA_HAVE_X86_KERNELS)
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace generic {
extern const Kernels kernels;
}

int runnable_isas(const Kernels** out) {
  int n = 0;
#if defined(RECURRA_HAVE_X86_KERNELS)
  __builtin_cpu_init();
  const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(RECURRA_EMULATE_AVX512)
  if (fma) out[n++] = &avx2::kernels;
  if (fma) out[n++] = &avx512::kernels;
#else
  if (fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    out[n++] = &avx512::kernels;
  if (fma) out[n++] = &avx2::kernels;
#endif
#endif
  out[n++] = &generic::kernels;
  return n;
}

namespace {
std::atomic<const Kernels*>& active() {
  static std::atomic<const Kernels*> k{[] {
    const Kernels* all[3];
    runnable_isas(all);
    return all[0];
  }()};
  return k;
}
}  // namespace

const Kernels& active_kernels() { return *active().load(std::memory_order_relaxed); }

bool select_isa(const char* name) {
  const Kernels* all[3];
  const int n = runnable_isas(all);
  for (int i = 0; i < n; ++i)
    if (std::strcmp(all[i]->name, name) == 0) {
      active().store(all[i]);
      return true;
    }
  return false;
}

}  // namespace recurra
