// Memory that is kept between calls. Fresh pages cost as much as the arithmetic done on them, and
// the C library maps large blocks afresh every time.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nsdbench::cpu {

inline constexpr uintptr_t kHugePage = uintptr_t{1} << 21;

// Asks for huge pages in memory that was just allocated: a fault for every 2 MiB instead of every 4
// KiB. Only a hint.
inline void prefer_huge_pages(void* memory, size_t bytes) {
#if defined(__linux__)
  const uintptr_t first = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + bytes) & ~(kHugePage - 1);
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

// Has the operating system take pages whose contents are no longer needed, which the C library keeps
// when they are freed: its threshold for that rises with every large block it sees.
inline void give_back(void* memory, size_t bytes) {
#if defined(__linux__)
  if (memory != nullptr) madvise(memory, bytes, MADV_DONTNEED);
#else
  (void)memory, (void)bytes;
#endif
}

// One block that grows to the largest size asked for and lives as long as its thread.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() { std::free(memory_); }

  // Uninitialised memory, aligned to a page. What the block held before is lost if it grows.
  template <typename T>
  T* get(int64_t count) {
    const size_t bytes =
        (static_cast<size_t>(count) * sizeof(T) + kHugePage - 1) & ~(kHugePage - 1);
    if (bytes > bytes_) {
      give_back(memory_, bytes_);
      std::free(memory_);
      memory_ = nullptr;
      bytes_ = 0;
      memory_ = std::aligned_alloc(kHugePage, bytes);
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
      prefer_huge_pages(memory_, bytes);
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// Hands out consecutive pieces of a block, each on its own cache lines. With no memory it only
// counts, so the code that hands out pieces also says how much they need.
template <typename T>
class Pieces {
 public:
  explicit Pieces(T* memory = nullptr) : memory_(memory) {}

  T* take(int64_t count) {
    T* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    used_ += (count + kLine - 1) / kLine * kLine;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  T* memory_;
  int64_t used_ = 0;
};

}  // namespace nsdbench::cpu
