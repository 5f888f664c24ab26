// Memory of the runtime: blocks that live with a plan or a session, and each thread's scratch.
#pragma once

#include <cstddef>

namespace recurra {
namespace runtime {

// Zeroed memory, aligned to 64 bytes.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  char* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// This thread's scratch memory, at least so many bytes, aligned to 64.  The next call may move it.
char* thread_scratch(std::size_t bytes);

}  // namespace runtime
}  // namespace recurra
