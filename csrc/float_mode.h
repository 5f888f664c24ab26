// Hosts may run their threads with denormals flushed to zero.  Results must not depend on the
// thread that computes them, so every thread computes with IEEE defaults.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace recurra {

class IeeeMode {
 public:
#if defined(__x86_64__)
  IeeeMode() : saved_(_mm_getcsr()) {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(kDefault);
  }
  ~IeeeMode() {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(saved_);
  }
#endif
  IeeeMode(const IeeeMode&) = delete;
  IeeeMode& operator=(const IeeeMode&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr std::uint32_t kDefault = 0x1f80;
  static constexpr std::uint32_t kFlags = 0x3f;  // of exceptions that have occurred
  std::uint32_t saved_;
#else
 public:
  IeeeMode() {}
#endif
};

}  // namespace recurra
