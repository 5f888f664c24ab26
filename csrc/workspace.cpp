#include "workspace.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace recurra {
namespace {

struct Block {
  char* data;
  std::size_t capacity;
};
constexpr std::size_t kStoreLimit = std::size_t(256) << 20;
constexpr std::size_t kHuge = std::size_t(2) << 20;

struct Store {
  std::mutex mutex;
  std::vector<Block> blocks;
  std::size_t bytes = 0;
};
Store& store() {
  static Store* s = new Store;  // outlives threads that end after main
  return *s;
}

}  // namespace

void advise_huge_pages(void* data, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kHuge * kHuge;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

void HugePages::add(void* data, std::size_t bytes) {
  if (!data || count_ == kMost) return;
  char* const begin = static_cast<char*>(data);
  int at = count_++;
  for (; at > 0 && ranges_[at - 1].begin > begin; --at) ranges_[at] = ranges_[at - 1];
  ranges_[at] = {begin, begin + bytes};
}

void HugePages::advise() {
  constexpr std::size_t worth_it = std::size_t(4) << 20, gap = 4096;
  for (int first = 0, next; first < count_; first = next) {
    char* end = ranges_[first].end;
    for (next = first + 1; next < count_ && ranges_[next].begin <= end + gap; ++next)
      if (ranges_[next].end > end) end = ranges_[next].end;
    const std::size_t bytes = std::size_t(end - ranges_[first].begin);
    if (bytes >= worth_it) advise_huge_pages(ranges_[first].begin, bytes);
  }
}

Workspace::Workspace(std::size_t bytes) : data_(nullptr), capacity_(0) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes == 0) bytes = 64;
  {
    Store& s = store();
    const std::lock_guard<std::mutex> lock(s.mutex);
    std::size_t best = s.blocks.size();
    for (std::size_t i = 0; i < s.blocks.size(); ++i)
      if (s.blocks[i].capacity >= bytes && s.blocks[i].capacity <= 4 * bytes + (1 << 16) &&
          (best == s.blocks.size() || s.blocks[i].capacity < s.blocks[best].capacity))
        best = i;
    if (best < s.blocks.size()) {
      data_ = s.blocks[best].data;
      capacity_ = s.blocks[best].capacity;
      s.bytes -= capacity_;
      s.blocks[best] = s.blocks.back();
      s.blocks.pop_back();
      return;
    }
  }
  const std::size_t alignment = bytes >= kHuge ? kHuge : 64;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  data_ = static_cast<char*>(std::aligned_alloc(alignment, bytes));
  if (!data_) throw std::bad_alloc();
  capacity_ = bytes;
  advise_huge_pages(data_, bytes);
}

Workspace::~Workspace() {
  Store& s = store();
  {
    const std::lock_guard<std::mutex> lock(s.mutex);
    if (s.bytes + capacity_ <= kStoreLimit && s.blocks.size() < 32) {
      s.blocks.push_back({data_, capacity_});
      s.bytes += capacity_;
      return;
    }
  }
  std::free(data_);
}

}  // namespace recurra
