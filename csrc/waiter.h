// Waiting awake.
#pragma once

#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace recurra {

// Spins for a while, then lets other threads of the machine run.
class Waiter {
 public:
  void wait() {
    if (++rounds_ < 4000)
      pause_briefly();
    else
      std::this_thread::yield();
  }

  static void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#endif
  }

 private:
  int rounds_ = 0;
};

}  // namespace recurra
