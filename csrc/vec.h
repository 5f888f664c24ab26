// One vector of T on the instruction set this file is compiled for, and the few operations the
// kernels need.  RECURRA_ISA_{AVX512_BF16,AVX512,AVX2,GENERIC} picks the width; everything lives in
// a namespace of that name so that the linker never mixes code for different processors.
#pragma once

#include <cstdint>
#include <cstring>

#include "engine.h"

#if defined(RECURRA_ISA_AVX512_BF16)
#define RECURRA_ISA_AVX512
#define RECURRA_ISA avx512_bf16
#define RECURRA_ISA_NAME "avx512_bf16"
#elif defined(RECURRA_ISA_AVX512)
#define RECURRA_ISA avx512
#define RECURRA_ISA_NAME "avx512"
#endif

#if defined(RECURRA_ISA_AVX512)
#include <immintrin.h>
#define RECURRA_VECTOR_BYTES 64
#if !defined(RECURRA_EMULATE_AVX512)
#define RECURRA_AVX512_INTRINSICS
#endif
#elif defined(RECURRA_ISA_AVX2)
#include <immintrin.h>
#define RECURRA_ISA avx2
#define RECURRA_ISA_NAME "avx2"
#define RECURRA_VECTOR_BYTES 32
#else
#define RECURRA_ISA generic
#define RECURRA_ISA_NAME "generic"
#define RECURRA_VECTOR_BYTES 16
#endif

namespace recurra {
namespace RECURRA_ISA {

typedef float VecF __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
typedef double VecD __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
typedef std::int32_t VecI32 __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
typedef std::int64_t VecI64 __attribute__((vector_size(RECURRA_VECTOR_BYTES)));

template <class T>
struct VecTraits;
template <>
struct VecTraits<float> {
  using Vec = VecF;
  using Sum = float;  // what sums of products of these are
  using Int = VecI32;
  using IntScalar = std::int32_t;
};
template <>
struct VecTraits<double> {
  using Vec = VecD;
  using Sum = double;
  using Int = VecI64;
  using IntScalar = std::int64_t;
};
template <class T>
using Vec = typename VecTraits<T>::Vec;
template <class T>
using Sum = typename VecTraits<T>::Sum;
template <class T>
inline constexpr int kLanes = RECURRA_VECTOR_BYTES / sizeof(T);

RECURRA_INLINE VecF splat(float s) {
#if defined(RECURRA_AVX512_INTRINSICS)
  return _mm512_set1_ps(s);
#elif defined(RECURRA_ISA_AVX2)
  return _mm256_set1_ps(s);
#else
  VecF v;
  for (int i = 0; i < kLanes<float>; ++i) v[i] = s;
  return v;
#endif
}
RECURRA_INLINE VecD splat(double s) {
#if defined(RECURRA_AVX512_INTRINSICS)
  return _mm512_set1_pd(s);
#elif defined(RECURRA_ISA_AVX2)
  return _mm256_set1_pd(s);
#else
  VecD v;
  for (int i = 0; i < kLanes<double>; ++i) v[i] = s;
  return v;
#endif
}

// a*b + c, rounded once where the processor can.  Which of the two it is never varies within an
// instruction set (the files are compiled with -ffp-contract=off), so results don't either.
RECURRA_INLINE VecF fma(VecF a, VecF b, VecF c) {
#if defined(RECURRA_AVX512_INTRINSICS)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(RECURRA_ISA_AVX2)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(RECURRA_EMULATE_AVX512)
  for (int i = 0; i < kLanes<float>; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#else
  return a * b + c;
#endif
}
RECURRA_INLINE VecD fma(VecD a, VecD b, VecD c) {
#if defined(RECURRA_AVX512_INTRINSICS)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(RECURRA_ISA_AVX2)
  return _mm256_fmadd_pd(a, b, c);
#elif defined(RECURRA_EMULATE_AVX512)
  for (int i = 0; i < kLanes<double>; ++i) c[i] = __builtin_fma(a[i], b[i], c[i]);
  return c;
#else
  return a * b + c;
#endif
}

// The larger and the smaller of two; b where either is NaN.
RECURRA_INLINE VecF max_of(VecF a, VecF b) {
#if defined(RECURRA_AVX512_INTRINSICS)
  return _mm512_maskz_max_ps(__mmask16(-1), a, b);  // GCC warns of its own _mm512_max_ps
#elif defined(RECURRA_ISA_AVX2)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
RECURRA_INLINE VecF min_of(VecF a, VecF b) {
#if defined(RECURRA_AVX512_INTRINSICS)
  return _mm512_maskz_min_ps(__mmask16(-1), a, b);
#elif defined(RECURRA_ISA_AVX2)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
RECURRA_INLINE VecD max_of(VecD a, VecD b) { return a > b ? a : b; }
RECURRA_INLINE VecD min_of(VecD a, VecD b) { return a < b ? a : b; }
// x within low..high; NaN stays NaN.
template <class T>
RECURRA_INLINE typename VecTraits<T>::Vec clamp(typename VecTraits<T>::Vec x, T low, T high) {
  return min_of(splat(high), max_of(splat(low), x));
}

template <class T>
RECURRA_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
RECURRA_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// The first n lanes of a row's last, partial vector; the others read as zero and are not written.
template <class T>
RECURRA_INLINE Vec<T> load_n(const T* p, int n) {
  if (__builtin_expect(n == kLanes<T>, 1)) return load(p);
  T buffer[kLanes<T>] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
template <class T>
RECURRA_INLINE void store_n(T* p, Vec<T> v, int n) {
  if (__builtin_expect(n == kLanes<T>, 1)) {
    store(p, v);
    return;
  }
  T buffer[kLanes<T>];
  store(buffer, v);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
}
// v with the lanes from n on set to zero.
template <class T>
RECURRA_INLINE Vec<T> keep_n(Vec<T> v, int n) {
  if (__builtin_expect(n == kLanes<T>, 1)) return v;
  T buffer[kLanes<T>];
  store(buffer, v);
  return load_n(buffer, n);
}

template <class T>
RECURRA_INLINE typename VecTraits<T>::Int bits(Vec<T> v) {
  typename VecTraits<T>::Int i;
  std::memcpy(&i, &v, sizeof i);
  return i;
}
template <class T>
RECURRA_INLINE Vec<T> from_bits(typename VecTraits<T>::Int i) {
  Vec<T> v;
  std::memcpy(&v, &i, sizeof v);
  return v;
}

}  // namespace RECURRA_ISA
}  // namespace recurra
