// Memory: scratch that outlives calls, and large pages for large arrays.
#pragma once

#include <cstddef>

#include "engine.h"

namespace recurra {

// Scratch memory, aligned to 64 bytes, taken from and returned to a small store so that a
// training loop does not fault its pages in anew at every step.
class Workspace {
 public:
  explicit Workspace(std::size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  RECURRA_INLINE char* data() const { return data_; }

 private:
  char* data_;
  std::size_t capacity_;
};

// Asks the kernel for huge pages under a large array that is about to be written in full.
void advise_huge_pages(void* data, std::size_t bytes);

// The same for several arrays, of which neighbours count as one.
class HugePages {
 public:
  void add(void* data, std::size_t bytes);  // null: nothing
  void advise();

 private:
  static constexpr int kMost = 24;
  struct Range {
    char *begin, *end;
  };
  Range ranges_[kMost];
  int count_ = 0;
};

// Hands out consecutive aligned pieces; with a null base it only measures.
class Arena {
 public:
  RECURRA_INLINE explicit Arena(char* base) : base_(base) {}
  template <class T>
  RECURRA_INLINE T* take(Index count) {
    const std::size_t at = used_;
    used_ += (std::size_t(count) * sizeof(T) + 63) / 64 * 64;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  RECURRA_INLINE std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

}  // namespace recurra
