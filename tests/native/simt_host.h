// Runs kernels written for simt.h on the CPU. Each thread of a block is a fibre (ucontext) that runs
// until it reaches a barrier, a shuffle or its end; the scheduler below then picks the next one, in
// natural, reversed or shuffled order. A missing barrier is invisible in natural order and shows in the
// other two. Shared memory starts as 0xff bytes (NaN) in every block and is a heap block of its exact
// size, so that the address sanitizer sees reads beyond it.
//
// A wait that cannot end - a thread has returned or waits elsewhere - is a std::logic_error that says
// which thread waits where; nothing ever hangs. This is stricter than hardware since Volta, which lets
// a barrier pass without threads that have returned: kernels here must not rely on that.

#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define SIMT_KERNEL [[maybe_unused]] static
#define SIMT_DEVICE [[maybe_unused]] static inline
#define SIMT_UNROLL
#define SIMT_SHARED(type, name, count)                                                      \
  static char name##_tag;                                                                   \
  type* const name =                                                                        \
      static_cast<type*>(simt::host::block().shared(&name##_tag, sizeof(type) * (count)))
#define SIMT_SHARED_DYNAMIC(type, name) \
  type* const name = static_cast<type*>(simt::host::block().dynamic_shared())

namespace simt {
namespace host {

enum class Order { kNatural, kReversed, kShuffled };

struct Settings {
  Order order = Order::kNatural;
  uint32_t seed = 0;  // of the shuffled order
};

inline Settings& settings() {
  static thread_local Settings current;
  return current;
}

// Puts items in the order that the settings ask for; shuffled draws anew at every call.
inline void arrange(std::vector<int64_t>& items, std::mt19937& random) {
  std::iota(items.begin(), items.end(), int64_t{0});
  if (settings().order == Order::kReversed) std::reverse(items.begin(), items.end());
  if (settings().order == Order::kShuffled) std::shuffle(items.begin(), items.end(), random);
}

class Block {
 public:
  Block(Extent grid, Extent size, size_t dynamic_bytes)
      : grid_(grid), size_(size), threads_(static_cast<size_t>(size.x * size.y * size.z)),
        stacks_(new unsigned char[threads_.size() * kStackBytes]), dynamic_(dynamic_bytes),
        random_(settings().seed) {}

  // Run `body` once per thread for the block at `index`.
  void run(Extent index, const std::function<void()>& body) {
    index_ = index;
    body_ = &body;
    shared_.clear();
    std::fill(dynamic_.begin(), dynamic_.end(), static_cast<unsigned char>(0xff));
    for (size_t t = 0; t < threads_.size(); ++t) prepare(t);
    std::vector<int64_t> order(threads_.size());
    while (true) {
      arrange(order, random_);
      for (const int64_t t : order) {
        if (threads_[t].state == State::kReady) run_on(t);
        run_ahead(static_cast<size_t>(t) / kWarpSize);
      }
      const bool is_done = std::all_of(threads_.begin(), threads_.end(), [](const Thread& thread) {
        return thread.state == State::kDone;
      });
      if (is_done) return;
      if (!release_barrier()) throw std::logic_error(describe_deadlock());
    }
  }

  Extent index() const { return index_; }
  Extent grid() const { return grid_; }
  Extent size() const { return size_; }
  int64_t thread() const { return current_; }

  // One allocation per block for every declaration, which `tag` stands for.
  void* shared(const void* tag, size_t bytes) {
    auto& memory = shared_[tag];
    if (!memory) {
      memory = std::make_unique<unsigned char[]>(bytes);
      std::memset(memory.get(), 0xff, bytes);
    }
    return memory.get();
  }

  void* dynamic_shared() { return dynamic_.data(); }

  void wait_at_barrier(const char* file, int line) { wait(State::kBarrier, file, line); }

  // Exchange 8 bytes within the warp: every lane leaves its value, then reads that of `source`.
  uint64_t shuffle(uint64_t value, int source, const char* file, int line) {
    if (threads_.size() % kWarpSize != 0) {
      throw std::logic_error("simt: a shuffle needs a block of whole warps");
    }
    threads_[current_].sent = value;
    wait(State::kShuffle, file, line);
    // Lanes resume one by one, and one may send again before another has read: read the copy.
    return warp_copy_[current_ / kWarpSize * kWarpSize + source];
  }

 private:
  static constexpr size_t kStackBytes = 128 * 1024;
  enum class State { kReady, kBarrier, kShuffle, kDone };
  struct Thread {
    ucontext_t context;
    State state;
    const char* file;
    int line;
    uint64_t sent;
    void* fake_stack;
  };

  static Block*& running() {
    static thread_local Block* block = nullptr;
    return block;
  }
  friend Block& block();

  unsigned char* stack(size_t t) { return stacks_.get() + t * kStackBytes; }

  void prepare(size_t t) {
    Thread& thread = threads_[t];
    thread.state = State::kReady;
    thread.fake_stack = nullptr;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(stack(t), kStackBytes);
#endif
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = stack(t);
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, &Block::enter, 0);
  }

  static void enter() {
    Block& self = *running();
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &self.scheduler_stack_, &self.scheduler_stack_bytes_);
#endif
    try {
      (*self.body_)();
    } catch (...) {
      self.failure_ = std::current_exception();
    }
    self.threads_[self.current_].state = State::kDone;
    self.leave(true);
  }

  void resume(int64_t t) {
    current_ = t;
    running() = this;
#ifdef __SANITIZE_ADDRESS__
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, stack(t), kStackBytes);
#endif
    swapcontext(&scheduler_, &threads_[t].context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    running() = nullptr;
  }

  void leave(bool is_last) {
    Thread& thread = threads_[current_];
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(is_last ? nullptr : &thread.fake_stack, scheduler_stack_,
                                   scheduler_stack_bytes_);
#else
    (void)is_last;
#endif
    swapcontext(&thread.context, &scheduler_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(thread.fake_stack, nullptr, nullptr);
#endif
  }

  void wait(State state, const char* file, int line) {
    Thread& thread = threads_[current_];
    thread.state = state;
    thread.file = file;
    thread.line = line;
    leave(false);
  }

  // Whether threads [first, last) all wait in `state` at one place; if so, let them go on.
  bool release(State state, size_t first, size_t last) {
    const Thread& reference = threads_[first];
    for (size_t t = first; t < last; ++t) {
      if (threads_[t].state != state || threads_[t].line != reference.line ||
          std::strcmp(threads_[t].file, reference.file) != 0) {
        return false;
      }
    }
    for (size_t t = first; t < last; ++t) threads_[t].state = State::kReady;
    return true;
  }

  bool release_barrier() { return release(State::kBarrier, 0, threads_.size()); }

  void run_on(int64_t t) {
    resume(t);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  // Lets a warp exchange and go on, again and again, as soon as all its lanes wait at one shuffle: warps
  // meet at barriers alone, so that a barrier between two shuffles is missed when it is missing.
  void run_ahead(size_t warp) {
    const size_t first = warp * kWarpSize;
    if (first + kWarpSize > threads_.size()) return;
    warp_copy_.resize(threads_.size());
    std::vector<int64_t> order(kWarpSize);
    while (release(State::kShuffle, first, first + kWarpSize)) {
      for (size_t t = first; t < first + kWarpSize; ++t) warp_copy_[t] = threads_[t].sent;
      arrange(order, random_);
      for (const int64_t lane : order) run_on(static_cast<int64_t>(first) + lane);
    }
  }

  std::string describe(size_t t) const {
    const Thread& thread = threads_[t];
    const std::string place = std::string(thread.file ? thread.file : "") + ":" +
                              std::to_string(thread.line);
    switch (thread.state) {
      case State::kBarrier:
        return "thread " + std::to_string(t) + " waits at the barrier of " + place;
      case State::kShuffle:
        return "thread " + std::to_string(t) + " waits at the shuffle of " + place;
      default:
        return "thread " + std::to_string(t) + " has returned";
    }
  }

  std::string describe_deadlock() const {
    size_t waiting = 0;
    while (threads_[waiting].state == State::kDone) ++waiting;
    size_t other = 0;
    while (other + 1 < threads_.size() && threads_[other].state == threads_[waiting].state &&
           threads_[other].line == threads_[waiting].line) {
      ++other;
    }
    return "simt: not all threads reach the same barrier or shuffle: " + describe(waiting) +
           ", but " + describe(other);
  }

  Extent grid_, size_, index_;
  std::vector<Thread> threads_;
  std::unique_ptr<unsigned char[]> stacks_;  // pages are touched as fibres need them
  std::vector<unsigned char> dynamic_;
  std::map<const void*, std::unique_ptr<unsigned char[]>> shared_;
  std::vector<uint64_t> warp_copy_;
  std::mt19937 random_;
  ucontext_t scheduler_{};
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
  const std::function<void()>* body_ = nullptr;
  std::exception_ptr failure_;
  int64_t current_ = 0;
};

// The block whose thread is running.
inline Block& block() { return *Block::running(); }

}  // namespace host

inline int thread_x() { return static_cast<int>(host::block().thread() % host::block().size().x); }
inline int thread_y() {
  const Extent size = host::block().size();
  return static_cast<int>(host::block().thread() / size.x % size.y);
}
inline int thread_z() {
  const Extent size = host::block().size();
  return static_cast<int>(host::block().thread() / (size.x * size.y));
}
inline int block_size_x() { return static_cast<int>(host::block().size().x); }
inline int block_size_y() { return static_cast<int>(host::block().size().y); }
inline int block_size_z() { return static_cast<int>(host::block().size().z); }
inline int64_t block_x() { return host::block().index().x; }
inline int64_t block_y() { return host::block().index().y; }
inline int64_t block_z() { return host::block().index().z; }
inline int64_t grid_size_x() { return host::block().grid().x; }
inline int64_t grid_size_y() { return host::block().grid().y; }
inline int64_t grid_size_z() { return host::block().grid().z; }

inline void barrier(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  host::block().wait_at_barrier(file, line);
}

template <typename T>
T shuffle_from(T value, int source, const char* file, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = host::block().shuffle(bits, source, file, line);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename T>
T shuffle_down(T value, int delta, const char* file = __builtin_FILE(),
               int line = __builtin_LINE()) {
  const int lane = static_cast<int>(host::block().thread() % kWarpSize);
  return shuffle_from(value, lane + delta < kWarpSize ? lane + delta : lane, file, line);
}

template <typename T>
T shuffle_xor(T value, int mask, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = static_cast<int>(host::block().thread() % kWarpSize);
  return shuffle_from(value, lane ^ mask, file, line);
}

// Blocks run one after another, in the order that the settings ask for.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), Extent grid, Extent block, size_t shared_bytes,
            void* /*stream*/, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (grid.y > kMaxGridYZ || grid.z > kMaxGridYZ || block.x * block.y * block.z > 1024) {
    throw std::logic_error("simt: the launch exceeds CUDA's limits");
  }
  host::Block runner(grid, block, shared_bytes);
  std::vector<int64_t> order(static_cast<size_t>(grid.x * grid.y * grid.z));
  std::mt19937 random(host::settings().seed);
  host::arrange(order, random);
  const std::function<void()> body = [&] { kernel(arguments...); };
  for (const int64_t b : order) {
    runner.run({b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)}, body);
  }
}

inline const char* last_error() { return nullptr; }  // failures are exceptions here

}  // namespace simt
