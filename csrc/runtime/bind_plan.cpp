// recurra._engine.Plan: made from Python's description of a model, run on whole sequences.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <stdexcept>

#include "bind.h"
#include "calls.h"
#include "numpy_arrays.h"

namespace nb = nanobind;

namespace recurra {
namespace runtime {
namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

template <class T>
T number(nb::handle value, const std::string& what) {
  T result;
  if (!nb::try_cast(value, result)) fail(what + " must be a number");
  return result;
}

std::vector<int> tensor_numbers(nb::handle list, const std::string& what) {
  std::vector<int> numbers;
  if (!nb::isinstance<nb::sequence>(list)) fail(what + " must be a list of tensors' numbers");
  for (nb::handle item : nb::cast<nb::sequence>(list)) numbers.push_back(number<int>(item, what));
  return numbers;
}

Weights weights(nb::handle value, const std::string& what) {
  Weights w;
  if (value.is_none()) return w;
  nb::ndarray<const float, nb::c_contig, nb::device::cpu> array;
  if (!nb::try_cast(value, array)) fail(what + " must be a C-contiguous float32 array (or None)");
  for (std::size_t i = 0; i < array.ndim(); ++i) w.shape.push_back(Index(array.shape(i)));
  if (w.shape.empty()) fail(what + " must have dimensions");
  w.values.assign(array.data(), array.data() + array.size());
  return w;
}

OpSpec op_spec(nb::handle item, std::size_t i) {
  const std::string where = "ops[" + std::to_string(i) + "]";
  if (!nb::isinstance<nb::dict>(item)) fail(where + " must be a dict");
  OpSpec op;
  for (auto [key, value] : nb::cast<nb::dict>(item)) {
    std::string k;
    if (!nb::try_cast(key, k)) fail(where + ": keys must be strings");
    const std::string what = where + "['" + k + "']";
    const auto text = [&](std::string& to) {
      if (!nb::try_cast(value, to)) fail(what + " must be a string");
    };
    const auto tensor = [&](int& to) { to = value.is_none() ? -1 : number<int>(value, what); };
    const auto list = [&](std::vector<int>& to) {
      if (!value.is_none()) to = tensor_numbers(value, what);
    };
    if (k == "op")
      text(op.op);
    else if (k == "name")
      text(op.name);
    else if (k == "function")
      text(op.function);
    else if (k == "input")
      tensor(op.input);
    else if (k == "output")
      tensor(op.output);
    else if (k == "mask")
      tensor(op.mask);
    else if (k == "sequence")
      tensor(op.sequence);
    else if (k == "last_output")
      tensor(op.last_output);
    else if (k == "state_h")
      tensor(op.state_h);
    else if (k == "state_c")
      tensor(op.state_c);
    else if (k == "inputs")
      list(op.inputs);
    else if (k == "initial")
      list(op.initial);
    else if (k == "numbers") {
      for (const int n : tensor_numbers(value, what)) op.numbers.push_back(n);
    } else if (k == "units")
      op.units = number<std::int64_t>(value, what);
    else if (k == "dilation")
      op.dilation = number<std::int64_t>(value, what);
    else if (k == "groups")
      op.groups = number<std::int64_t>(value, what);
    else if (k == "value")
      op.value = number<double>(value, what);
    else if (k == "epsilon")
      op.epsilon = number<double>(value, what);
    else if (k == "centered")
      op.centered = number<bool>(value, what);
    else if (k == "kernel")
      op.kernel = weights(value, what);
    else if (k == "recurrent_kernel")
      op.recurrent_kernel = weights(value, what);
    else if (k == "bias")
      op.bias = weights(value, what);
    else if (k == "table")
      op.table = weights(value, what);
    else if (k == "shift")
      op.shift = weights(value, what);
    else if (k == "scale")
      op.scale = weights(value, what);
    else if (k == "offset")
      op.offset = weights(value, what);
    else if (k == "parameters") {
      if (nb::isinstance<nb::list>(value) || nb::isinstance<nb::tuple>(value)) {
        for (nb::handle p : value) op.parameters.values.push_back(number<float>(p, what));
        op.parameters.shape = {Index(op.parameters.values.size())};
      } else {
        op.parameters = weights(value, what);
      }
    } else
      fail(where + " has an unknown key '" + k + "'");
  }
  return op;
}

ProgramSpec program_spec(nb::sequence tensors, nb::sequence ops, nb::handle inputs,
                         nb::handle outputs) {
  ProgramSpec program;
  for (nb::handle item : tensors) {
    const std::string where = "tensors[" + std::to_string(program.tensors.size()) + "]";
    if (!nb::isinstance<nb::sequence>(item) || nb::len(item) != 2)
      fail(where + " must be (kind, width)");
    std::string name;
    if (!nb::try_cast(item[0], name)) fail(where + ": kind must be a string");
    constexpr const char* names[] = {"steps", "ids", "mask", "row", "id_row"};
    std::size_t kind = 0;
    while (kind < std::size(names) && name != names[kind]) ++kind;
    if (kind == std::size(names))
      fail(where + ": kind must be steps, ids, mask, row or id_row, got '" + name + "'");
    nb::object width = item[1];
    program.tensors.push_back(
        {Kind(kind), width.is_none() ? 1 : number<Index>(width, where + ": width")});
  }
  std::size_t i = 0;
  for (nb::handle item : ops) program.ops.push_back(op_spec(item, i++));
  program.inputs = tensor_numbers(inputs, "inputs");
  program.outputs = tensor_numbers(outputs, "outputs");
  return program;
}

nb::object run_batch(const PyPlan& self, nb::args arguments) {
  const StreamPlan& plan = *self.plan;
  Arguments arrays(plan);
  for (nb::handle argument : arguments) arrays.add(argument.ptr());
  const std::string problem = arrays.read_batch();
  if (!problem.empty()) fail("run_batch: " + problem);
  Outputs outputs(plan);
  if (!outputs.make(arrays, Leading::batch)) nb::raise_python_error();
  {
    const nb::gil_scoped_release release;
    plan.run(arrays.run(outputs));
  }
  return nb::steal(outputs.result());
}

}  // namespace

void bind_plan(nb::module_& m) {
  nb::class_<PyPlan>(m, "Plan",
                     "A model compiled for streaming: tensors, operations on them in order, and "
                     "the numbers of the tensors that go in and come out. docs/decisions/0011 "
                     "describes it.")
      .def(
          "__init__",
          [](PyPlan* self, nb::sequence tensors, nb::sequence ops, nb::object inputs,
             nb::object outputs) {
            load_numpy();
            new (self) PyPlan{
                std::make_shared<const StreamPlan>(program_spec(tensors, ops, inputs, outputs))};
          },
          nb::arg("tensors"), nb::arg("ops"), nb::arg("inputs"), nb::arg("outputs"))
      .def("run_batch", &run_batch,
           "Runs whole sequences from the zero state: an array for each input, (rows, steps, "
           "width) or (rows, width), None for a mask that keeps everything. Returns a new array, "
           "or a list of them where there are several outputs.")
      .def_prop_ro("state",
                   [](const PyPlan& self) {
                     nb::list fields;
                     for (const StateField& f : self.plan->state()) {
                       nb::list shape;
                       for (const Index d : f.shape) shape.append(d);
                       fields.append(nb::make_tuple(f.name, f.offset, nb::tuple(shape), f.dtype));
                     }
                     return fields;
                   })
      .def_prop_ro("state_bytes", [](const PyPlan& self) { return self.plan->state_bytes(); })
      .def_prop_ro("isa", [](const PyPlan& self) { return std::string(self.plan->isa()); });
}

}  // namespace runtime
}  // namespace recurra
