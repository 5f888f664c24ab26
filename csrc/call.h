// A call as the bindings receive it: lists of arrays in canonical order, absent ones null.  Checks
// every shape and runs the kernels.
//
// Canonical order, "?" = may be absent, S = number of slots (see slot_names):
//   forward inputs    x kernel recurrent_kernel bias? h0? c0? mask? dropout_x? dropout_h?
//   forward outputs   last_output? state_h state_c? sequence? then S slots, each nullable
//   backward inputs   x kernel recurrent_kernel h0? c0? mask? dropout_x? dropout_h? sequence?
//                     then S slots (hidden_state? where sequence stands in for it), d_last_output?
//                     d_state_h? d_state_c? d_sequence? then S slot cotangents, each nullable
//   backward outputs  dx? dkernel? drecurrent_kernel? dbias? dh0? dc0?
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "engine.h"
#include "team.h"

namespace recurra {

enum class Element : int { float32, float64, boolean, other };

// An array's dimensions, without an allocation: a call of a few microseconds checks dozens.
class Shape {
 public:
  static constexpr int kMost = 4;  // no array of ours has more; those of others are only counted

  Shape() = default;
  Shape(std::initializer_list<Index> dimensions) {
    for (const Index d : dimensions) push_back(d);
  }
  void push_back(Index d) {
    if (rank_ < kMost) dimensions_[rank_] = d;
    ++rank_;
  }
  int size() const { return rank_; }
  Index operator[](int i) const { return dimensions_[i]; }
  bool operator==(const Shape& other) const {
    bool same = rank_ == other.rank_ && rank_ <= kMost;
    for (int i = 0; same && i < rank_; ++i) same = dimensions_[i] == other.dimensions_[i];
    return same;
  }

 private:
  int rank_ = 0;
  Index dimensions_[kMost] = {};
};

struct Array {
  void* data = nullptr;
  Element element = Element::other;
  Shape shape;
  bool present = false;  // an empty array may have null data
};

// The names of the per-step arrays, in canonical order: the trace, then what only the backward
// pass needs.
std::vector<std::string> slot_names(const Problem& p);
std::size_t slot_count(const Problem& p);

// Both throw std::invalid_argument naming the array, what was got and what was expected.
void call_forward(Problem p, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
                  Executor& executor);
void call_backward(Problem p, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
                   Executor& executor);

// Checks the enumerations' ranges.
Problem make_problem(std::int64_t cell, bool reset_after, std::int64_t activation,
                     std::int64_t recurrent_activation, bool go_backwards,
                     bool zero_output_for_mask);

}  // namespace recurra
