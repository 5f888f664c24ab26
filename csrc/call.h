// A call as the bindings receive it: lists of arrays in canonical order, absent ones null.  Checks
// every shape and runs the kernels.
//
// Canonical order, "?" = may be absent, S = number of slots (see slot_names).  With
// checkpoint_every the slots are checkpoint_h and, where the cell has that state, checkpoint_c.
//   forward inputs    x kernel recurrent_kernel bias? h0? c0? mask? dropout_x? dropout_h?
//   forward outputs   last_output? state_h state_c? sequence? then S slots, each nullable
//   backward inputs   x kernel recurrent_kernel bias? h0? c0? mask? dropout_x? dropout_h?
//                     sequence? then S slots (hidden_state? where sequence stands in for it),
//                     d_last_output? d_state_h? d_state_c? d_sequence? then S slot cotangents, each
//                     nullable
//   backward outputs  dx? dkernel? drecurrent_kernel? dbias? dh0? dc0?
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "engine.h"
#include "executor.h"

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
  bool present = false;   // an empty array may have null data
  bool described = true;  // false: only an address; it is taken to be what the problem asks for
};

// A problem as hosts write it down.
constexpr int kProblemOptions = 8;   // cell, reset_after, activation, recurrent_activation,
                                     // go_backwards, zero_output_for_mask, checkpoint_every,
                                     // products
constexpr int kProblemNumbers = 14;  // and batch, time_steps, features, units, dropout_x masks,
                                     // dropout_h masks
// Both throw std::invalid_argument for numbers out of range.
Problem problem_of_options(const std::int64_t* options);
Problem problem_of_numbers(const std::int64_t* numbers, Dtype dtype);

// The names of the per-step arrays, in canonical order: the trace, then what only the backward
// pass needs.
std::vector<std::string> slot_names(const Problem& p);

// How many arrays, absent ones included, a problem has in each list.
std::size_t input_count(const Problem& p, bool backward);
std::size_t output_count(const Problem& p, bool backward);

// Runs independent problems.  The lists hold the first problem's arrays, then the second's, and so
// on.  Where arrays are described, the problems' sizes and dtype come from them.  Throws
// std::invalid_argument naming the array, what was got and what was expected.
void call(bool backward, std::vector<Problem> problems, const std::vector<Array>& inputs,
          const std::vector<Array>& outputs, Executor& executor);

// The same from addresses (null = absent) of arrays that fit: each problem's inputs, then its
// outputs.  `numbers` holds kProblemNumbers for each of the n problems.
void call_addresses(bool backward, Dtype dtype, std::size_t n, const std::int64_t* numbers,
                    void* const* addresses, Executor& executor);
// How many addresses such a call takes.
std::size_t address_count(bool backward, std::size_t n, const std::int64_t* numbers);

}  // namespace recurra
