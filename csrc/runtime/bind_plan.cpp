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
  T result{};
  if (!nb::try_cast(value, result)) fail(what + " must be a number");
  return result;
}

std::string text(nb::handle value, const std::string& what) {
  std::string result;
  if (!nb::try_cast(value, result)) fail(what + " must be a string");
  return result;
}

std::vector<int> numbers(nb::handle list, const std::string& what) {
  if (!nb::isinstance<nb::sequence>(list)) fail(what + " must be a list of integers");
  std::vector<int> result;
  for (nb::handle item : nb::cast<nb::sequence>(list)) result.push_back(number<int>(item, what));
  return result;
}

// An array, or a list of numbers.
Weights weights(nb::handle value, const std::string& what) {
  Weights w;
  if (value.is_none()) return w;
  if (nb::isinstance<nb::list>(value) || nb::isinstance<nb::tuple>(value)) {
    for (nb::handle item : value) w.values.push_back(number<float>(item, what));
    w.shape = {Index(w.values.size())};
    return w;
  }
  nb::ndarray<const float, nb::c_contig, nb::device::cpu> array;
  if (!nb::try_cast(value, array)) fail(what + " must be a C-contiguous float32 array (or None)");
  for (std::size_t i = 0; i < array.ndim(); ++i) w.shape.push_back(Index(array.shape(i)));
  if (w.shape.empty()) fail(what + " must have dimensions");
  w.values.assign(array.data(), array.data() + array.size());
  return w;
}

template <class Field>
struct Key {
  const char* name;
  Field OpSpec::* field;
};
constexpr Key<std::string> kTexts[] = {
    {"op", &OpSpec::op}, {"name", &OpSpec::name}, {"function", &OpSpec::function}};
constexpr Key<int> kTensors[] = {
    {"input", &OpSpec::input},       {"other", &OpSpec::other},
    {"output", &OpSpec::output},     {"mask", &OpSpec::mask},
    {"sequence", &OpSpec::sequence}, {"last_output", &OpSpec::last_output},
    {"state_h", &OpSpec::state_h},   {"state_c", &OpSpec::state_c}};
constexpr Key<std::vector<int>> kLists[] = {
    {"inputs", &OpSpec::inputs}, {"initial", &OpSpec::initial}, {"numbers", &OpSpec::numbers}};
constexpr Key<std::int64_t> kIntegers[] = {
    {"units", &OpSpec::units}, {"dilation", &OpSpec::dilation}, {"groups", &OpSpec::groups}};
constexpr Key<double> kReals[] = {{"value", &OpSpec::value}, {"epsilon", &OpSpec::epsilon}};
constexpr Key<bool> kFlags[] = {{"centered", &OpSpec::centered}};
constexpr Key<Weights> kWeights[] = {
    {"kernel", &OpSpec::kernel}, {"recurrent_kernel", &OpSpec::recurrent_kernel},
    {"bias", &OpSpec::bias},     {"table", &OpSpec::table},
    {"shift", &OpSpec::shift},   {"scale", &OpSpec::scale},
    {"offset", &OpSpec::offset}, {"parameters", &OpSpec::parameters}};

// Reads a value into the field that the key names in a table; false if it names none.
template <class Field, std::size_t n, class Read>
bool read_key(const Key<Field> (&keys)[n], const std::string& key, OpSpec& op, Read&& read) {
  for (const Key<Field>& k : keys)
    if (key == k.name) {
      op.*k.field = read();
      return true;
    }
  return false;
}

OpSpec op_spec(nb::handle item, std::size_t i) {
  const std::string where = "ops[" + std::to_string(i) + "]";
  if (!nb::isinstance<nb::dict>(item)) fail(where + " must be a dict");
  OpSpec op;
  for (auto [key, v] : nb::cast<nb::dict>(item)) {
    const nb::handle value = v;
    const std::string k = text(key, where + ": a key"), what = where + "['" + k + "']";
    const bool absent = value.is_none();
    const bool known =
        read_key(kTexts, k, op, [&] { return text(value, what); }) ||
        read_key(kTensors, k, op, [&] { return absent ? -1 : number<int>(value, what); }) ||
        read_key(kLists, k, op,
                 [&] { return absent ? std::vector<int>() : numbers(value, what); }) ||
        read_key(kIntegers, k, op, [&] { return number<std::int64_t>(value, what); }) ||
        read_key(kReals, k, op, [&] { return number<double>(value, what); }) ||
        read_key(kFlags, k, op, [&] { return number<bool>(value, what); }) ||
        read_key(kWeights, k, op, [&] { return weights(value, what); });
    if (!known) fail(where + " has an unknown key '" + k + "'");
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
    const std::string name = text(item[0], where + ": kind");
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
  program.inputs = numbers(inputs, "inputs");
  program.outputs = numbers(outputs, "outputs");
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
