// What the matrix products of a scan multiply.  A policy P says so:
//   Operand    the element of a product's rows and panels: one value of k, or two
//   converts   whether operands are other numbers than the arrays': the scan then makes copies of
//              all rows that a product multiplies; otherwise rows are the arrays' own
//   steps(n)   how many operands n values of k take
//   operand(step, n, row)      a panel's vector for one step, from the rows row(k) of a matrix
//   put(panel, k, width, j, v)  one value of a panel of `width` columns
//   row(from, n, columns, to)   n values of k, each of `columns` numbers, as a row of operands
//   shared     whether two values of k share an operand
//   step_of(k), first_of(step)   the operand of a value of k, and the first k of an operand
//   add_row(from, n, k, count, to)   for products that sum over rows: row k of `count`
//              becomes (with a neighbour, if shared) the n operands of step_of(k), at to
// Whatever is not an operand (sums, states, gates, gradients) is of the arrays' type.
#pragma once

#include "bf16.h"

namespace recurra {
namespace RECURRA_ISA {

template <class T>
struct Exact {
  using Operand = T;
  static constexpr bool converts = false;
  static RECURRA_INLINE constexpr Index steps(Index n) { return n; }
  static RECURRA_INLINE constexpr Index step_of(Index k) { return k; }
  static RECURRA_INLINE constexpr Index first_of(Index step) { return step; }
  template <class F>
  static RECURRA_INLINE Vec<T> operand(Index step, Index, F&& row) {
    return row(step);
  }
  static RECURRA_INLINE void put(T* panel, Index k, Index width, Index j, T value) {
    panel[k * width + j] = value;
  }
};

// Numbers rounded to bfloat16 in float32's clothes: the same products and sums as of bfloat16
// pairs, on any processor.
struct RoundedToBf16 {
  using Operand = float;
  static constexpr bool converts = true;
  static RECURRA_INLINE constexpr Index steps(Index n) { return n; }
  static RECURRA_INLINE constexpr Index step_of(Index k) { return k; }
  static RECURRA_INLINE constexpr Index first_of(Index step) { return step; }
  template <class F>
  static RECURRA_INLINE VecF operand(Index step, Index, F&& row) {
    return round_bf16(row(step));
  }
  static RECURRA_INLINE void put(float* panel, Index k, Index width, Index j, float value) {
    panel[k * width + j] = round_bf16(value);
  }
  static RECURRA_INLINE void row(const float* from, Index n, Index columns, float* to) {
    const Index size = n * columns;
    constexpr int L = kLanes<float>;
    Index i = 0;
    for (; i + L <= size; i += L) store(to + i, round_bf16(load(from + i)));
    for (; i < size; ++i) to[i] = round_bf16(from[i]);
  }
  static RECURRA_INLINE void add_row(const float* from, Index n, Index, Index, float* to) {
    row(from, n, 1, to);
  }
};

#if defined(RECURRA_ISA_AVX512_BF16)

struct Bf16Pairs {
  using Operand = Bf16Pair;
  static constexpr bool converts = true;
  static RECURRA_INLINE constexpr Index steps(Index n) { return (n + 1) / 2; }
  static RECURRA_INLINE constexpr Index step_of(Index k) { return k / 2; }
  static RECURRA_INLINE constexpr Index first_of(Index step) { return 2 * step; }
  template <class F>
  static RECURRA_INLINE VecI32 operand(Index step, Index n, F&& row) {
    const VecF earlier = round_bf16(row(2 * step));
    return pair_bf16(earlier, 2 * step + 1 < n ? round_bf16(row(2 * step + 1)) : splat(0.0f));
  }
  static RECURRA_INLINE void put(Bf16Pair* panel, Index k, Index width, Index j, float value) {
    put_half(panel[(k / 2) * width + j], k % 2, value);
  }
  static RECURRA_INLINE void row(const float* from, Index n, Index columns, Bf16Pair* to) {
    if (columns == 1) {
      Index k = 0;
      for (; k + 1 < n; k += 2) to[k / 2] = rounded_pair(from[k], from[k + 1]);
      if (k < n) to[k / 2] = rounded_pair(from[k], kNothing);
      return;
    }
    for (Index step = 0; step < steps(n); ++step, to += columns)
      for (Index c = 0; c < columns; ++c) {
        const float* at = from + 2 * step * columns + c;
        to[c] = rounded_pair(*at, 2 * step + 1 < n ? at[columns] : kNothing);
      }
  }
  static RECURRA_INLINE void add_row(const float* from, Index n, Index k, Index count,
                                     Bf16Pair* to) {
    constexpr int L = kLanes<float>;
    Index j = 0;
    if (k + 1 == count && k % 2 == 0) {
      for (; j + L <= n; j += L)
        store(to + j, pair_bf16(round_bf16(load(from + j)), splat(kNothing)));
      for (; j < n; ++j) to[j] = rounded_pair(from[j], kNothing);
      return;
    }
    for (; j + L <= n; j += L) store_halves(to + j, round_bf16(load(from + j)), k % 2);
    for (; j < n; ++j) put_half(to[j], k % 2, from[j]);
  }

 private:
  // Stands in for the value after an odd last one: its product with a panel's zero is -0, which
  // changes no sum.
  static constexpr float kNothing = -0.0f;

  static RECURRA_INLINE Bf16Pair rounded_pair(float earlier, float later) {
    return pair_bf16(round_bf16(earlier), round_bf16(later));
  }
  // The other half may be written by another thread.
  static RECURRA_INLINE void put_half(Bf16Pair& pair, Index later, float value) {
    value = round_bf16(value);
    std::memcpy(reinterpret_cast<char*>(&pair) + (later ? 0 : 2),
                reinterpret_cast<const char*>(&value) + 2, 2);
  }
};
using Bfloat16 = Bf16Pairs;

#else
using Bfloat16 = RoundedToBf16;
#endif

}  // namespace RECURRA_ISA
}  // namespace recurra
