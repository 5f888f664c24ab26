// The Python module recurra._engine: calls on NumPy arrays, and the addresses that the hosts
// register.  recurra.engine.cpu wraps it; nobody else should need it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "call.h"
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
using Direction = void (*)(Problem, const std::vector<Array>&, const std::vector<Array>&,
                           Executor&);

template <Direction direction>
void call(std::int64_t cell, bool reset_after, std::int64_t activation,
          std::int64_t recurrent_activation, bool go_backwards, bool zero_output_for_mask,
          nb::list inputs, nb::list outputs) {
  const Problem p = make_problem(cell, reset_after, activation, recurrent_activation, go_backwards,
                                 zero_output_for_mask);
  std::vector<Input> keep_in;
  std::vector<Output> keep_out;
  const std::vector<Array> in = arrays_of(inputs, "inputs", keep_in);
  const std::vector<Array> out = arrays_of(outputs, "outputs", keep_out);
  const nb::gil_scoped_release release;
  direction(p, in, out, own_executor());
}

}  // namespace
}  // namespace recurra

NB_MODULE(_engine, m) {
  using namespace recurra;
  m.doc() = "Recurra's compiled kernels. Use recurra.engine.cpu.";

  const auto add_call = [&m](const char* name, auto* function, const char* doc) {
    m.def(name, function, nb::arg("cell"), nb::arg("reset_after"), nb::arg("activation"),
          nb::arg("recurrent_activation"), nb::arg("go_backwards"), nb::arg("zero_output_for_mask"),
          nb::arg("inputs"), nb::arg("outputs"), doc);
  };
  add_call("forward", &call<call_forward>,
           "Runs the forward scan on arrays in canonical order, writing `outputs` in place.");
  add_call("backward", &call<call_backward>,
           "Runs the backward scan on arrays in canonical order, writing `outputs` in place.");
  m.def("slot_names", [](std::int64_t cell, bool reset_after, std::int64_t activation,
                         std::int64_t recurrent_activation) {
    return slot_names(
        make_problem(cell, reset_after, activation, recurrent_activation, false, false));
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
        const Kernels* all[3];
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
        const Kernels* all[3];
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
      "xla_targets",
      [] {
        nb::dict targets;
        targets["recurra_forward"] = nb::capsule(xla_forward_handler());
        targets["recurra_backward"] = nb::capsule(xla_backward_handler());
        return targets;
      },
      "XLA FFI handlers by target name, for jax.ffi.register_ffi_target.");
}
