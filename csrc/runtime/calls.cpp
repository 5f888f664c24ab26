#include "calls.h"

namespace recurra {
namespace runtime {
namespace {

std::string show(const npy_intp* shape, int rank) {
  std::string s = "(";
  for (int i = 0; i < rank; ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (rank == 1 ? ",)" : ")");
}

const char* type_name(Kind k) {
  return is_values(k) ? "float32" : k == Kind::mask ? "bool" : "int32";
}

}  // namespace

// With rows == 1 the first axis may be missing: what the first array does, all do.
bool Arguments::read(Index rows, bool with_steps) {
  if (count_ != plan_.inputs()) return false;
  run_.rows = rows;
  run_.steps = with_steps ? -1 : 1;
  for (std::size_t i = 0; i < count_; ++i) {
    const TensorSpec& spec = plan_.input(i);
    PyArrayObject* const a = readable(given_[i], spec.kind);
    if (!a) return false;
    const int rank = PyArray_NDIM(a);
    const npy_intp* d = PyArray_DIMS(a);
    const bool steps = with_steps && per_step(spec.kind), values = is_values(spec.kind);
    const int whole = 1 + steps + values;
    if (rank == whole) {
      if (d[0] != rows) return false;
      if (i == 0) leading_ = rows == 1 ? Leading::one : Leading::batch;
      ++d;
    } else if (rank == whole - 1 && rows == 1) {
      if (i == 0) leading_ = Leading::none;
    } else {
      return false;
    }
    if (steps) {
      if (run_.steps >= 0 && run_.steps != *d) return false;
      run_.steps = *d++;
    }
    if (values && *d != spec.width) return false;
    data_[i] = PyArray_DATA(a);
  }
  if (run_.steps < 0) run_.steps = 1;
  return true;
}

bool Arguments::read_step(Index rows) { return read(rows, false); }

bool Arguments::read_run(Index rows) {
  if (!read(rows, true)) return false;
  // The last value of no steps does not exist.
  if (run_.steps == 0)
    for (std::size_t i = 0; i < plan_.outputs(); ++i)
      if (plan_.output(i).kind == Kind::row) return false;
  return true;
}

std::string Arguments::problem(Index rows, bool run) const {
  if (count_ != plan_.inputs())
    return "expected " + std::to_string(plan_.inputs()) + " arrays, got " + std::to_string(count_);
  std::string s = "expected C-contiguous arrays:";
  for (std::size_t i = 0; i < count_; ++i) {
    const TensorSpec& spec = plan_.input(i);
    s += std::string(i ? "; " : " ") + type_name(spec.kind) + " (";
    s += rows == 1 ? "[1, ]" : std::to_string(rows) + ", ";
    if (run && per_step(spec.kind)) s += "time_steps, ";
    if (is_values(spec.kind)) s += std::to_string(spec.width);
    s += "), got ";
    if (PyArray_Check(given_[i])) {
      PyArrayObject* const a = reinterpret_cast<PyArrayObject*>(given_[i]);
      s += std::string(PyArray_DESCR(a)->typeobj->tp_name) + " " +
           show(PyArray_DIMS(a), PyArray_NDIM(a));
    } else {
      s += Py_TYPE(given_[i])->tp_name;
    }
  }
  if (run) s += "; time_steps must be equal, and not 0 where an output is a last value";
  return s;
}

std::string Arguments::read_batch() {
  if (count_ != plan_.inputs())
    return "expected " + std::to_string(plan_.inputs()) + " arrays, got " + std::to_string(count_);
  run_.rows = run_.steps = -1;
  const auto agree = [](Index& known, Index here) {
    if (known < 0) known = here;
    return known == here;
  };
  for (std::size_t i = 0; i < count_; ++i) {
    const TensorSpec& spec = plan_.input(i);
    if (spec.kind == Kind::mask && given_[i] == Py_None) {
      data_[i] = nullptr;
      continue;
    }
    const std::string name = "input " + std::to_string(i);
    PyArrayObject* const a = readable(given_[i], spec.kind);
    if (!a) return name + " must be a C-contiguous " + type_name(spec.kind) + " array";
    const bool steps = per_step(spec.kind), values = is_values(spec.kind);
    const npy_intp* d = PyArray_DIMS(a);
    const int rank = PyArray_NDIM(a);
    const bool fits = rank == 1 + steps + values && agree(run_.rows, d[0]) &&
                      (!steps || agree(run_.steps, d[1])) && (!values || d[rank - 1] == spec.width);
    if (!fits)
      return name + " must have shape (rows" + (steps ? ", time_steps" : "") +
             (values ? ", " + std::to_string(spec.width) : "") + "), the same for all, got " +
             show(d, rank);
    data_[i] = PyArray_DATA(a);
  }
  if (run_.rows < 0) return "one array at least must be given";
  if (run_.steps < 0) run_.steps = 1;
  return "";
}

bool Arguments::overlaps(const void* data, std::size_t bytes) const {
  const char* const begin = static_cast<const char*>(data);
  for (std::size_t i = 0; i < count_; ++i) {
    if (!data_[i]) continue;
    const char* const other = static_cast<const char*>(data_[i]);
    PyArrayObject* const a = reinterpret_cast<PyArrayObject*>(given_[i]);
    if (begin < other + PyArray_NBYTES(a) && other < begin + bytes) return true;
  }
  return false;
}

Run Arguments::run(const Outputs& outputs) const {
  Run run = run_;
  run.inputs = data_;
  run.outputs = outputs.data();
  return run;
}

Outputs::~Outputs() {
  for (std::size_t i = 0; i < count_; ++i) Py_DECREF(arrays_[i]);
}

int Outputs::shape_of(std::size_t i, const Arguments& arguments, Leading leading, bool with_steps,
                      npy_intp* shape) const {
  const TensorSpec& spec = plan_.output(i);
  int rank = 0;
  if (leading != Leading::none) shape[rank++] = arguments.rows();
  if (with_steps && per_step(spec.kind)) shape[rank++] = arguments.steps();
  shape[rank++] = spec.width;
  return rank;
}

bool Outputs::make(const Arguments& arguments, Leading leading, bool with_steps) {
  for (std::size_t i = 0; i < plan_.outputs(); ++i) {
    npy_intp shape[3];
    const int rank = shape_of(i, arguments, leading, with_steps, shape);
    PyObject* const array = PyArray_SimpleNew(rank, shape, NPY_FLOAT32);
    if (!array) return false;
    arrays_[count_] = array;
    data_[count_++] = static_cast<float*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)));
  }
  return true;
}

bool Outputs::take(PyObject* out, const Arguments& arguments, Leading leading, bool with_steps) {
  if (PyList_Check(out) || PyTuple_Check(out)) {
    PyObject* const items = PySequence_Tuple(out);  // a list may change meanwhile
    if (!items) return false;
    const bool taken = take_each(&PyTuple_GET_ITEM(items, 0), std::size_t(PyTuple_GET_SIZE(items)),
                                 arguments, leading, with_steps);
    Py_DECREF(items);
    return taken;
  }
  return take_each(&out, 1, arguments, leading, with_steps);
}

bool Outputs::take_each(PyObject* const* given, std::size_t n, const Arguments& arguments,
                        Leading leading, bool with_steps) {
  if (n != plan_.outputs()) {
    PyErr_Format(PyExc_ValueError, "out must be %zu arrays, got %zu", plan_.outputs(), n);
    return false;
  }
  for (std::size_t i = 0; i < n; ++i) {
    npy_intp shape[3];
    const int rank = shape_of(i, arguments, leading, with_steps, shape);
    PyArrayObject* const a = readable(given[i], Kind::steps);
    if (!a || !PyArray_ISWRITEABLE(a) || PyArray_NDIM(a) != rank ||
        !PyArray_CompareLists(PyArray_DIMS(a), shape, rank)) {
      PyErr_Format(PyExc_ValueError,
                   "out[%zu] must be a writable C-contiguous float32 array of shape %s", i,
                   show(shape, rank).c_str());
      return false;
    }
    if (arguments.overlaps(PyArray_DATA(a), std::size_t(PyArray_NBYTES(a))) || overlaps(a)) {
      PyErr_SetString(PyExc_ValueError, "out must not share memory with the inputs or itself");
      return false;
    }
    arrays_[count_] = Py_NewRef(given[i]);
    data_[count_++] = static_cast<float*>(PyArray_DATA(a));
  }
  return true;
}

bool Outputs::overlaps(PyArrayObject* array) const {
  const char* const begin = static_cast<const char*>(PyArray_DATA(array));
  for (std::size_t i = 0; i < count_; ++i) {
    PyArrayObject* const other = reinterpret_cast<PyArrayObject*>(arrays_[i]);
    const char* const there = reinterpret_cast<const char*>(data_[i]);
    if (begin < there + PyArray_NBYTES(other) && there < begin + PyArray_NBYTES(array)) return true;
  }
  return false;
}

PyObject* Outputs::result() {
  if (count_ == 1) return Py_NewRef(arrays_[0]);
  PyObject* const list = PyList_New(Py_ssize_t(count_));
  if (!list) return nullptr;
  for (std::size_t i = 0; i < count_; ++i)
    PyList_SET_ITEM(list, Py_ssize_t(i), Py_NewRef(arrays_[i]));
  return list;
}

}  // namespace runtime
}  // namespace recurra
