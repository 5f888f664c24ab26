// The Python module recurra._engine: calls on NumPy arrays, and the addresses that the hosts
// register.  recurra.engine.cpu wraps it; nobody else should need it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "call.h"
#include "c_api.h"
#include "runtime/bind.h"
#include "xla_ffi.h"

namespace nb = nanobind;

namespace recurra {
namespace {

Element element_of(nb::dlpack::dtype d) {
  if (d == nb::dtype<float>()) return Element::float32;
  if (d == nb::dtype<double>()) return Element::float64;
  if (d.code == std::uint8_t(nb::dlpack::dtype_code::Bool) && d.bits == 8) return Element::boolean;
  return Element::other;
}

// `keep` owns the arrays for as long as the call needs their memory.
template <class NdArray>
std::vector<Array> arrays_of(nb::list list, const char* what, std::vector<NdArray>& keep) {
  std::vector<Array> arrays;
  for (nb::handle item : list) {
    Array a;
    if (!item.is_none()) {
      NdArray nd;
      if (!nb::try_cast(item, nd)) {
        const std::string message = std::string(what) + "[" + std::to_string(arrays.size()) +
                                    "] must be a C-contiguous array in main memory (or None)";
        throw nb::type_error(message.c_str());
      }
      a.data = const_cast<void*>(static_cast<const void*>(nd.data()));
      a.element = element_of(nd.dtype());
      for (std::size_t i = 0; i < nd.ndim(); ++i) a.shape.push_back(Index(nd.shape(i)));
      a.present = true;
      keep.push_back(nd);
    }
    arrays.push_back(a);
  }
  return arrays;
}

using Input = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::c_contig, nb::device::cpu>;

template <bool backward>
void call_arrays(const std::vector<std::vector<std::int64_t>>& options, nb::list inputs,
                 nb::list outputs) {
  std::vector<Problem> problems;
  for (const std::vector<std::int64_t>& numbers : options) {
    if (numbers.size() != kProblemOptions)
      throw std::invalid_argument("a problem must have " + std::to_string(kProblemOptions) +
                                  " numbers, got " + std::to_string(numbers.size()));
    problems.push_back(problem_of_options(numbers.data()));
  }
  std::vector<Input> keep_in;
  std::vector<Output> keep_out;
  const std::vector<Array> in = arrays_of(inputs, "inputs", keep_in);
  const std::vector<Array> out = arrays_of(outputs, "outputs", keep_out);
  const nb::gil_scoped_release release;
  call(backward, std::move(problems), in, out, own_executor());
}

void run(bool backward, bool float64, const std::vector<std::int64_t>& problems,
         const std::vector<std::uint64_t>& addresses, bool openmp, int threads) {
  const std::size_t n = problems.size() / kProblemNumbers;
  if (problems.size() % kProblemNumbers != 0)
    throw std::invalid_argument("problems must have " + std::to_string(kProblemNumbers) +
                                " numbers each, got " + std::to_string(problems.size()) +
                                " in all");
  const std::size_t expected = address_count(backward, n, problems.data());
  if (addresses.size() != expected)
    throw std::invalid_argument("addresses: expected " + std::to_string(expected) + ", got " +
                                std::to_string(addresses.size()));
  std::vector<void*> pointers;
  pointers.reserve(addresses.size());
  for (const std::uint64_t a : addresses)
    pointers.push_back(reinterpret_cast<void*>(std::uintptr_t(a)));
  const Dtype dtype = float64 ? Dtype::float64 : Dtype::float32;
  const nb::gil_scoped_release release;
  if (openmp) {
    OpenMpExecutor executor(threads);
    call_addresses(backward, dtype, n, problems.data(), pointers.data(), executor);
  } else {
    Limited executor(own_executor(), threads);
    call_addresses(backward, dtype, n, problems.data(), pointers.data(), executor);
  }
}

}  // namespace
}  // namespace recurra

NB_MODULE(_engine, m) {
  // Models that a program's caches hold until Python ends are no leaks; nanobind cannot tell.
  nb::set_leak_warnings(false);
  using namespace recurra;
  prepare_for_forks();
  m.doc() = "Recurra's compiled kernels. Use recurra.engine.cpu.";

  m.def(
      "forward", &call_arrays<false>, nb::arg("problems"), nb::arg("inputs"), nb::arg("outputs"),
      "Runs forward scans. Each problem is (cell, reset_after, activation, recurrent_activation, "
      "go_backwards, zero_output_for_mask, checkpoint_every, products); the lists hold the arrays "
      "of the first problem in canonical order (None = absent), then those of the second, and so "
      "on. Writes `outputs` in place.");
  m.def("backward", &call_arrays<true>, nb::arg("problems"), nb::arg("inputs"), nb::arg("outputs"),
        "Runs backward scans; arguments as for `forward`.");
  m.def("run", &run, nb::arg("backward"), nb::arg("float64"), nb::arg("problems"),
        nb::arg("addresses"), nb::arg("openmp") = false, nb::arg("threads") = 0,
        "Runs scans on addresses. `problems` holds 14 numbers for each problem (those of `forward` "
        "and batch, time_steps, features, units, dropout_x masks, dropout_h masks), `addresses` "
        "each problem's inputs and outputs in canonical order, 0 = absent (an array without "
        "elements: any other number). Arrays must be C-contiguous and of the sizes given; nothing "
        "checks that. With `openmp` the threads are those of the runtime that set_openmp named. "
        "`threads` limits how many are used, 0 = the pool's number.");
  m.def(
      "set_openmp",
      [](std::uint64_t address) {
        set_openmp(reinterpret_cast<GompParallel>(std::uintptr_t(address)));
      },
      nb::arg("address"), "Names the OpenMP runtime: the address of its GOMP_parallel, 0 = none.");
  m.def(
      "c_api", [] { return std::uint64_t(reinterpret_cast<std::uintptr_t>(c_api())); },
      "Address of the engine's C interface, see include/recurra_api.h.");
  m.def("slot_names", [](std::int64_t cell, bool reset_after, std::int64_t activation,
                         std::int64_t recurrent_activation) {
    const std::int64_t options[] = {cell, reset_after, activation, recurrent_activation,
                                    0,    0,           0,          0};
    return slot_names(problem_of_options(options));
  });
  m.def("cell_names", [] {
    nb::list l;
    for (const CellFacts& cell : kCells) l.append(nb::str(cell.name));
    return l;
  });
  m.def("activation_names", [] {
    nb::list l;
    for (const char* name : kActivationNames) l.append(nb::str(name));
    return l;
  });

  m.def(
      "isas",
      [] {
        const Kernels* all[kIsas];
        nb::list l;
        for (int i = 0, n = runnable_isas(all); i < n; ++i) l.append(nb::str(all[i]->name));
        return l;
      },
      "The instruction sets this processor can run, best first.");
  m.def("isa", [] { return std::string(active_kernels().name); });
  m.def(
      "set_isa",
      [](const std::string& name) {
        if (select_isa(name.c_str())) return;
        const Kernels* all[kIsas];
        std::string known;
        for (int i = 0, n = runnable_isas(all); i < n; ++i)
          known += std::string(i ? ", " : "") + all[i]->name;
        throw nb::value_error(
            ("isa must be one this processor runs (" + known + "), got '" + name + "'").c_str());
      },
      nb::arg("name"));

  m.def(
      "set_num_threads",
      [](int n) {
        if (n < 0)
          throw nb::value_error(("num_threads must be 0 (as many as the process may use) or more, "
                                 "got " +
                                 std::to_string(n))
                                    .c_str());
        set_num_threads(n);
      },
      nb::arg("n"));
  m.def("num_threads", &num_threads);
  m.def(
      "requested_threads", [] { return num_threads_is_set() ? num_threads() : 0; },
      "What set_num_threads asked for, 0 = nothing.");

  runtime::bind_plan(m);
  runtime::bind_session(m);

  m.def(
      "xla_targets",
      [] {
        nb::dict targets;
        targets["recurra_forward"] = nb::capsule(xla_forward_handler());
        targets["recurra_backward"] = nb::capsule(xla_backward_handler());
        return targets;
      },
      "XLA FFI handlers by target name, for jax.ffi.register_ffi_target.");
}
