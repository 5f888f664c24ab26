// The arrays of one call from Python: checked, sized, and made.
#pragma once

#include <string>

#include "numpy_arrays.h"
#include "stream_plan.h"

namespace recurra {
namespace runtime {

// The first axes of a call's arrays: a session of one row takes them without an axis for it.
enum class Leading { none, one, batch };

class Outputs;

class Arguments {
 public:
  static constexpr std::size_t kMost = StreamPlan::kMostArrays;

  explicit Arguments(const StreamPlan& plan) : plan_(plan) {}
  void add(PyObject* array) {
    if (count_ < kMost) given_[count_] = array;
    ++count_;
  }

  // All three read the arrays' sizes; what does not fit is said in words, empty if nothing.
  std::string read_batch();                         // (rows, steps, width), any rows
  bool read_step(Index rows);                       // (width), (1, width) or (rows, width)
  bool read_run(Index rows);                        // (steps, width), ...
  std::string problem(Index rows, bool run) const;  // why read_step or read_run said no

  Leading leading() const { return leading_; }
  Index rows() const { return run_.rows; }
  Index steps() const { return run_.steps; }
  bool overlaps(const void* data, std::size_t bytes) const;
  Run run(const Outputs& outputs) const;

 private:
  bool read(Index rows, bool with_steps);

  const StreamPlan& plan_;
  std::size_t count_ = 0;
  PyObject* given_[kMost];
  const void* data_[kMost];
  Leading leading_ = Leading::batch;
  Run run_;
};

class Outputs {
 public:
  explicit Outputs(const StreamPlan& plan) : plan_(plan) {}
  ~Outputs();
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;

  // New arrays; `with_steps`: outputs of every step have an axis for them.  False with Python's
  // error set.
  bool make(const Arguments& arguments, Leading leading, bool with_steps = true);
  // The caller's, an array or a sequence of them.
  bool take(PyObject* out, const Arguments& arguments, Leading leading, bool with_steps);
  PyObject* result();  // a new reference
  float* const* data() const { return data_; }

 private:
  bool take_each(PyObject* const* given, std::size_t n, const Arguments& arguments, Leading leading,
                 bool with_steps);
  bool overlaps(PyArrayObject* array) const;
  int shape_of(std::size_t i, const Arguments& arguments, Leading leading, bool with_steps,
               npy_intp* shape) const;

  const StreamPlan& plan_;
  std::size_t count_ = 0;
  PyObject* arrays_[Arguments::kMost];
  float* data_[Arguments::kMost];
};

}  // namespace runtime
}  // namespace recurra
