#include "scratch.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "../workspace.h"

namespace recurra {
namespace runtime {

Memory::Memory(std::size_t bytes) : bytes_(bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  constexpr std::size_t huge = std::size_t(2) << 20;
  const std::size_t alignment = bytes >= huge ? huge : 64;
  const std::size_t whole = bytes ? (bytes + alignment - 1) / alignment * alignment : alignment;
  data_ = static_cast<char*>(std::aligned_alloc(alignment, whole));
  if (!data_) throw std::bad_alloc();
  advise_huge_pages(data_, whole);
  std::memset(data_, 0, whole);
}
Memory::~Memory() { std::free(data_); }
Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

char* thread_scratch(std::size_t bytes) {
  thread_local Memory memory;
  constexpr std::size_t large = std::size_t(1) << 26;  // not kept for much smaller calls
  if (memory.bytes() < bytes || (memory.bytes() > large && bytes < memory.bytes() / 8)) {
    memory = Memory();  // not both at once
    memory = Memory(bytes + bytes / 4);
  }
  return memory.data();
}

}  // namespace runtime
}  // namespace recurra
