#include "simd.h"

#include <cstdlib>
#include <cstring>

namespace nsdbench::cpu {
namespace {

Simd widest_level() {
  Simd level = Simd::kBaseline;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = Simd::kAvx2;
  if (level == Simd::kAvx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw")) {
    level = Simd::kAvx512;
  }
#endif
  const char* wish = std::getenv("NSDBENCH_SIMD");
  if (wish != nullptr && std::strcmp(wish, "baseline") == 0) return Simd::kBaseline;
  if (wish != nullptr && std::strcmp(wish, "avx2") == 0 && level > Simd::kAvx2) return Simd::kAvx2;
  return level;
}

}  // namespace

Simd simd_level() {
  static const Simd level = widest_level();
  return level;
}

}  // namespace nsdbench::cpu
