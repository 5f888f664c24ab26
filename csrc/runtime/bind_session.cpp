// recurra._engine.StreamSession and step_many.  step() and run() are methods of Python's own fast
// calling convention: what they cost beside the computation is counted in tens of nanoseconds.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "bind.h"
#include "calls.h"
#include "session.h"

namespace nb = nanobind;

namespace recurra {
namespace runtime {
namespace {

void set_error(const std::exception& e) {
  PyErr_SetString(dynamic_cast<const std::bad_alloc*>(&e) ? PyExc_MemoryError : PyExc_ValueError,
                  e.what());
}

// Runs f without the GIL; false with Python's error set.
template <class F>
bool run_released(F&& f) {
  try {
    const nb::gil_scoped_release release;
    f();
    return true;
  } catch (const std::exception& e) {
    set_error(e);
    return false;
  }
}

PyObject* kNames_out = nullptr;
PyObject* kNames_prepare = nullptr;

// The array of one output is computed into `out`, if that is given.
PyObject* compute(StreamSession& session, const Arguments& arguments, PyObject* out, bool run) {
  Outputs outputs(session.plan());
  const bool made = out && out != Py_None ? outputs.take(out, arguments, arguments.leading(), run)
                                          : outputs.make(arguments, arguments.leading(), run);
  if (!made) return nullptr;
  const Run r = arguments.run(outputs);
  if (!run_released([&] { session.run(r.steps, r.inputs, r.outputs); })) return nullptr;
  return outputs.result();
}

// What is not yet as the plan needs it, Python converts.
PyObject* prepared(PyObject* self, StreamSession& session, PyObject* const* args, Py_ssize_t n,
                   PyObject* out, bool run) {
  nb::object given = nb::steal(PyTuple_New(n));
  if (!given.is_valid()) return nullptr;
  for (Py_ssize_t i = 0; i < n; ++i) PyTuple_SET_ITEM(given.ptr(), i, Py_NewRef(args[i]));
  nb::object arrays = given;
  if (PyObject_HasAttr(self, kNames_prepare)) {
    PyObject* const vector[] = {self, given.ptr(), run ? Py_True : Py_False};
    arrays = nb::steal(PyObject_VectorcallMethod(kNames_prepare, vector, 3, nullptr));
    if (!arrays.is_valid()) return nullptr;
    arrays = nb::steal(PySequence_Tuple(arrays.ptr()));
    if (!arrays.is_valid()) return nullptr;
  }
  Arguments arguments(session.plan());
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(arrays.ptr()); ++i)
    arguments.add(PyTuple_GET_ITEM(arrays.ptr(), i));
  const bool fits =
      run ? arguments.read_run(session.batch()) : arguments.read_step(session.batch());
  if (!fits) {
    const std::string problem = arguments.problem(session.batch(), run);
    PyErr_Format(PyExc_ValueError, "%s: %s", run ? "run" : "step", problem.c_str());
    return nullptr;
  }
  return compute(session, arguments, out, run);
}

template <bool run>
PyObject* advance(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* names) {
  if (!nb::inst_ready(self)) {
    PyErr_SetString(PyExc_RuntimeError, "the session's __init__ has not been called");
    return nullptr;
  }
  PyObject* out = nullptr;
  if (names && PyTuple_GET_SIZE(names)) {
    PyObject* const name = PyTuple_GET_ITEM(names, 0);
    if (PyTuple_GET_SIZE(names) != 1 ||
        (name != kNames_out && PyUnicode_CompareWithASCIIString(name, "out") != 0)) {
      PyErr_SetString(PyExc_TypeError, "the only keyword argument is 'out'");
      return nullptr;
    }
    out = args[n];
  }
  StreamSession& session = *nb::inst_ptr<StreamSession>(self);
  try {
    Arguments arguments(session.plan());
    for (Py_ssize_t i = 0; i < n; ++i) arguments.add(args[i]);
    if (run ? arguments.read_run(session.batch()) : arguments.read_step(session.batch()))
      return compute(session, arguments, out, run);
    return prepared(self, session, args, n, out, run);
  } catch (const std::exception& e) {
    set_error(e);
    return nullptr;
  }
}

PyMethodDef methods[] = {
    {"step", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&advance<false>)),
     METH_FASTCALL | METH_KEYWORDS,
     "step($self, /, *inputs, out=None)\n--\n\nOne time step: an array for each input, (width,) or "
     "(1, width) for one row, else (batch, width)."},
    {"run", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&advance<true>)),
     METH_FASTCALL | METH_KEYWORDS,
     "run($self, /, *inputs, out=None)\n--\n\nA stretch: (time_steps, width) or (1, time_steps, "
     "width) for one row, else (batch, time_steps, width)."},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {{Py_tp_methods, methods}, {0, nullptr}};

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Rows = std::optional<nb::ndarray<const bool, nb::ndim<1>, nb::c_contig, nb::device::cpu>>;

const bool* chosen(const StreamSession& session, const Rows& rows) {
  if (!rows) return nullptr;
  if (Index(rows->shape(0)) != session.batch())
    throw nb::value_error(("rows must be " + std::to_string(session.batch()) + " flags, got " +
                           std::to_string(rows->shape(0)))
                              .c_str());
  return rows->data();
}

nb::object read_state(StreamSession& session, Index offset, Index bytes) {
  npy_intp shape[] = {session.batch(), bytes};
  if (bytes < 0 || bytes > session.plan().state_bytes()) shape[1] = 0;  // refused below
  nb::object array = nb::steal(PyArray_SimpleNew(2, shape, NPY_UINT8));
  if (!array.is_valid()) nb::raise_python_error();
  char* const to = static_cast<char*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array.ptr())));
  const nb::gil_scoped_release release;
  session.read(offset, bytes, to);
  return array;
}

void write_state(StreamSession& session, Index offset, const Bytes& from, const Rows& rows) {
  const bool* const which = chosen(session, rows);
  if (Index(from.shape(0)) != session.batch())
    throw nb::value_error(("array must have " + std::to_string(session.batch()) + " rows, got " +
                           std::to_string(from.shape(0)))
                              .c_str());
  const nb::gil_scoped_release release;
  session.write(offset, Index(from.shape(1)), reinterpret_cast<const char*>(from.data()), which);
}

void clear_state(StreamSession& session, const Rows& rows) {
  const bool* const which = chosen(session, rows);
  const nb::gil_scoped_release release;
  session.clear(which);
}

nb::object step_sessions(nb::sequence list, nb::object arrays) {
  // Tuples of our own: the caller's lists may change while the GIL is released.
  const nb::tuple items(list);
  std::vector<StreamSession*> sessions;
  sessions.reserve(items.size());
  for (nb::handle item : items) {
    StreamSession* session = nullptr;
    if (!nb::try_cast(item, session) || !session)
      throw nb::type_error("step_many: sessions must be StreamSession objects");
    sessions.push_back(session);
  }
  const Index n = Index(sessions.size());
  if (sessions.empty()) throw nb::value_error("step_many: no sessions");
  const StreamPlan& plan = sessions[0]->plan();
  Arguments arguments(plan);
  const bool several = PyList_Check(arrays.ptr()) || PyTuple_Check(arrays.ptr());
  const nb::tuple given = several ? nb::tuple(arrays) : nb::make_tuple(arrays);
  for (nb::handle array : given) arguments.add(array.ptr());
  if (!arguments.read_step(n) || arguments.leading() == Leading::none)
    throw nb::value_error(("step_many: " + arguments.problem(n, false)).c_str());
  Outputs outputs(plan);
  if (!outputs.make(arguments, Leading::batch, false)) nb::raise_python_error();
  const Run run = arguments.run(outputs);
  {
    const nb::gil_scoped_release release;
    step_many(sessions.data(), n, run.inputs, run.outputs);
  }
  return nb::steal(outputs.result());
}

}  // namespace

void bind_session(nb::module_& m) {
  kNames_out = PyUnicode_InternFromString("out");
  kNames_prepare = PyUnicode_InternFromString("_prepare");
  nb::class_<StreamSession>(m, "StreamSession", nb::type_slots(slots),
                            "The carried state of some rows of a plan.")
      .def(
          "__init__",
          [](StreamSession* self, const PyPlan& plan, Index batch) {
            new (self) StreamSession(plan.plan, batch);
          },
          nb::arg("plan"), nb::arg("batch") = 1)
      .def_prop_ro("batch", &StreamSession::batch)
      .def("state_buffer",
           [](nb::handle_t<StreamSession> self) {
             StreamSession& s = *nb::inst_ptr<StreamSession>(self);
             const std::size_t shape[] = {std::size_t(s.batch()),
                                          std::size_t(s.plan().state_bytes())};
             return nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<2>>(s.state(), 2, shape, self);
           })
      .def("read_state", &read_state, nb::arg("offset"), nb::arg("bytes"),
           "Some bytes of every row's state, a copy: uint8 (batch, bytes).")
      .def("write_state", &write_state, nb::arg("offset"), nb::arg("array"),
           nb::arg("rows") = nb::none(), "Sets what read_state reads, of the rows that are True.")
      .def("clear", &clear_state, nb::arg("rows") = nb::none(),
           "Sets the state of the rows that are True (None: all) to zero.")
      .def_prop_ro("plan", [](const StreamSession& self) { return PyPlan{self.shared_plan()}; })
      .def("copy_from", &StreamSession::copy_from, nb::arg("session"),
           nb::call_guard<nb::gil_scoped_release>());
  m.def("allocations", &allocations,
        "How often this module has taken memory from the heap; -1 where that is not counted.");
  m.def("step_many", &step_sessions, nb::arg("sessions"), nb::arg("arrays"),
        "One step of sessions of one row each and one plan: (sessions, width) for each input.");
}

}  // namespace runtime
}  // namespace recurra
