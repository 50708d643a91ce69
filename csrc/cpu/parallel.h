// Threads for the CPU code: torch's own pool, so that two thread pools never compete for the cores.
// NSDBENCH_SERIAL leaves torch out (the sanitizer executable is built that way).

#pragma once

#include <cstdint>

#ifdef NSDBENCH_SERIAL
namespace nsdbench::cpu {
template <typename F>
void parallel_for(int64_t begin, int64_t end, int64_t /*grain*/, const F& body) {
  if (begin < end) body(begin, end);
}
}  // namespace nsdbench::cpu
#else
#include <torch/csrc/stable/ops.h>
namespace nsdbench::cpu {
// Calls body(begin, end) on disjoint ranges. Inside another parallel_for it runs in the calling
// thread. The body must not throw: the type of an exception is lost on the way out.
template <typename F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& body) {
  if (begin < end) torch::stable::parallel_for(begin, end, grain, body);
}
}  // namespace nsdbench::cpu
#endif
