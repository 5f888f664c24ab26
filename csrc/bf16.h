// bfloat16, the upper half of a float32: rounding to it, and products of such numbers summed up in
// float32.
//
// Two values of k lie in one 32-bit lane, the earlier one in the upper half: VDPBF16PS adds the
// product of the upper halves first, so that a sum is a chain in ascending k, as everywhere else.
#pragma once

#include "vec.h"

namespace recurra {
namespace RECURRA_ISA {

// Each lane to the nearest bfloat16, ties to even; what is beyond the largest becomes infinite, a
// NaN stays one.
RECURRA_INLINE VecF round_bf16(VecF v) {
  const VecI32 i = bits<float>(v);
  const VecI32 rounded = i + 0x7fff + ((i >> 16) & 1);
  const VecI32 quiet = i | 0x400000;
  return from_bits<float>((v == v ? rounded : quiet) & ~0xffff);
}
RECURRA_INLINE float round_bf16(float v) {
  std::uint32_t i;
  std::memcpy(&i, &v, sizeof i);
  i = (v == v ? i + 0x7fff + ((i >> 16) & 1) : i | 0x400000) & ~std::uint32_t(0xffff);
  std::memcpy(&v, &i, sizeof v);
  return v;
}

// Two bfloat16 numbers, the earlier in the upper half.
struct Bf16Pair {
  std::uint32_t bits;
};
template <>
struct VecTraits<Bf16Pair> {
  using Vec = VecI32;
  using Sum = float;
};

// Lane by lane the pairs of two rows, which hold bfloat16 numbers already.
RECURRA_INLINE VecI32 pair_bf16(VecF earlier, VecF later) {
  return bits<float>(earlier) | ((bits<float>(later) >> 16) & 0xffff);
}
RECURRA_INLINE Bf16Pair pair_bf16(float earlier, float later) {
  std::uint32_t upper, lower;
  std::memcpy(&upper, &earlier, sizeof upper);
  std::memcpy(&lower, &later, sizeof lower);
  return {upper | lower >> 16};
}

// Stores one half of each pair and leaves the others, which another thread may be writing.
RECURRA_INLINE void store_halves(Bf16Pair* to, VecF v, bool later) {
#if defined(RECURRA_AVX512_INTRINSICS)
  const VecI32 i = later ? bits<float>(v) >> 16 : bits<float>(v);
  _mm512_mask_storeu_epi16(to, later ? 0x55555555 : 0xaaaaaaaa, __m512i(i));
#else
  char* at = reinterpret_cast<char*>(to) + (later ? 0 : 2);
  for (int j = 0; j < kLanes<float>; ++j) {
    const float value = v[j];
    std::memcpy(at + 4 * j, reinterpret_cast<const char*>(&value) + 2, 2);
  }
#endif
}

#if defined(RECURRA_ISA_AVX512_BF16)
#if defined(RECURRA_AVX512_INTRINSICS)

RECURRA_INLINE VecI32 splat(Bf16Pair s) { return VecI32(_mm512_set1_epi32(int(s.bits))); }
// c plus the products of the upper halves, then of the lower ones.
RECURRA_INLINE VecF fma(VecI32 a, VecI32 b, VecF c) {
  return _mm512_dpbf16_ps(c, __m512bh(a), __m512bh(b));
}

#else

RECURRA_INLINE VecI32 splat(Bf16Pair s) { return VecI32{} + std::int32_t(s.bits); }
// VDPBF16PS as its manual describes it: the products of the upper halves first; each addition
// fused and rounded to nearest even; denormal numbers count as zeros, results that are denormal
// become zeros.
RECURRA_INLINE VecF flush_denormals(VecF v) {
  const VecI32 i = bits<float>(v);
  return from_bits<float>((i & 0x7f800000) == 0 ? i & std::int32_t(0x80000000) : i);
}
RECURRA_INLINE VecF fma(VecI32 a, VecI32 b, VecF c) {
  const auto upper = [](VecI32 v) { return flush_denormals(from_bits<float>(v & ~0xffff)); };
  const auto lower = [](VecI32 v) { return flush_denormals(from_bits<float>(v << 16)); };
  c = flush_denormals(fma(upper(a), upper(b), flush_denormals(c)));
  return flush_denormals(fma(lower(a), lower(b), c));
}

#endif
#endif

}  // namespace RECURRA_ISA
}  // namespace recurra
