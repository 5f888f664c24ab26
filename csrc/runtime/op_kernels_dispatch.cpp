// The plan's operations that go with the kernels in use.
#include <cstring>
#include <stdexcept>
#include <string>

#include "op_kernels.h"

namespace recurra {

#if defined(RECURRA_HAVE_X86_KERNELS)
namespace avx512 {
extern const runtime::OpKernels op_kernels;
}
namespace avx2 {
extern const runtime::OpKernels op_kernels;
}
#endif
namespace generic {
extern const runtime::OpKernels op_kernels;
}

namespace runtime {

const OpKernels& active_op_kernels() {
  const char* name = active_kernels().name;
#if defined(RECURRA_HAVE_X86_KERNELS)
  // Plans compute in float32: what sets this one apart is not used.
  if (std::strcmp(name, "avx512_bf16") == 0) name = "avx512";
  if (std::strcmp(name, avx512::op_kernels.name) == 0) return avx512::op_kernels;
  if (std::strcmp(name, avx2::op_kernels.name) == 0) return avx2::op_kernels;
#endif
  if (std::strcmp(name, generic::op_kernels.name) == 0) return generic::op_kernels;
  throw std::invalid_argument(std::string("no plan operations for ") + name);
}

}  // namespace runtime
}  // namespace recurra
