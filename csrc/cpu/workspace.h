// Memory that is kept between calls. Fresh pages cost as much as the arithmetic done on them, and the C
// library maps large blocks afresh every time.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nsdbench::cpu {

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
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + kPage - 1) / kPage * kPage;
    if (bytes > bytes_) {
      std::free(memory_);
      memory_ = nullptr;
      bytes_ = 0;
      memory_ = std::aligned_alloc(kPage, bytes);
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
#if defined(__linux__)
      madvise(memory_, bytes, MADV_HUGEPAGE);  // a hint: failure does no harm
#endif
    }
    return static_cast<T*>(memory_);
  }

 private:
  static constexpr size_t kPage = size_t{1} << 21;
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// Hands out consecutive pieces of a block, each on its own cache lines. With no memory it only counts,
// so the code that hands out pieces also says how much they need.
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
