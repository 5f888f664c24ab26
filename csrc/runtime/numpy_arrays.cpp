#define RECURRA_DEFINES_NUMPY_API
#include "numpy_arrays.h"

#include <nanobind/nanobind.h>

namespace recurra {
namespace runtime {

void load_numpy() {
  // Without a GIL two threads may come here at once.
  static nanobind::ft_mutex mutex;
  const nanobind::ft_lock_guard lock(mutex);
  if (PyArray_ImportNumPyAPI() < 0) nanobind::raise_python_error();
}

}  // namespace runtime
}  // namespace recurra
