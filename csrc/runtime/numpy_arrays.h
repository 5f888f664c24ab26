// NumPy arrays through NumPy's C interface: a stream's step has a fraction of a microsecond for
// reading an array and making one.  The interface is loaded with the first plan, so that importing
// the module does not import NumPy.
#pragma once

#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL recurra_numpy_api
#if !defined(RECURRA_DEFINES_NUMPY_API)
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "program.h"

namespace recurra {
namespace runtime {

void load_numpy();  // throws nanobind::python_error

inline bool is_values(Kind k) { return k == Kind::steps || k == Kind::row; }

// An argument as an array that a plan can read as it is: of the type that its kind has, exactly a
// numpy.ndarray, C-contiguous, aligned; null if it is not.
inline PyArrayObject* readable(PyObject* object, Kind kind) {
  if (!PyArray_CheckExact(object)) return nullptr;
  PyArrayObject* const a = reinterpret_cast<PyArrayObject*>(object);
  const int type = is_values(kind) ? NPY_FLOAT32 : kind == Kind::mask ? NPY_BOOL : NPY_INT32;
  return PyArray_TYPE(a) == type && PyArray_ISCARRAY_RO(a) ? a : nullptr;
}

}  // namespace runtime
}  // namespace recurra
