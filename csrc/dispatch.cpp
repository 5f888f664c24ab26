// Chooses the kernels for the processor at run time: the best that it runs, or those that the
// environment variable RECURRA_ISA names.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "engine.h"

namespace recurra {

#if defined(RECURRA_HAVE_X86_KERNELS)
namespace avx512_bf16 {
extern const Kernels kernels;
}
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
  if (fma) out[n++] = &avx512_bf16::kernels;
#else
  const bool avx512 = fma && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) out[n++] = &avx512_bf16::kernels;
  if (avx512) out[n++] = &avx512::kernels;
  if (fma) out[n++] = &avx2::kernels;
#endif
#endif
  out[n++] = &generic::kernels;
  return n;
}

namespace {

const Kernels* find(const char* name) {
  const Kernels* all[kIsas];
  const int n = runnable_isas(all);
  for (int i = 0; i < n; ++i)
    if (std::strcmp(name, all[i]->name) == 0) return all[i];
  return nullptr;
}

const Kernels* first_choice() {
  const Kernels* all[kIsas];
  const int n = runnable_isas(all);
  const char* const asked = std::getenv("RECURRA_ISA");
  if (!asked || !*asked) return all[0];
  if (const Kernels* found = find(asked)) return found;
  std::string known;
  for (int i = 0; i < n; ++i) known += std::string(i ? ", " : "") + all[i]->name;
  throw std::invalid_argument("RECURRA_ISA must be one this processor runs (" + known + "), got '" +
                              asked + "'");
}

// A first choice that fails is made anew, and fails, at every use.
std::atomic<const Kernels*>& active() {
  static std::atomic<const Kernels*> k{first_choice()};
  return k;
}

}  // namespace

const Kernels& active_kernels() { return *active().load(std::memory_order_relaxed); }

bool select_isa(const char* name) {
  std::atomic<const Kernels*>& chosen = active();
  const Kernels* found = find(name);
  if (found) chosen.store(found);
  return found != nullptr;
}

}  // namespace recurra
