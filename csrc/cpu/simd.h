// Vectors of the native width, and one copy of a function per instruction set.
//
// A kernel is an always-inlined template `name_body<T, kBytes>`, with kBytes the width of a vector.
// NSDBENCH_MULTIVERSION(name, parameters, arguments) makes the function `name<T>` that runs the
// copy compiled for the instruction set in use.

#pragma once

#include <cstdint>

#define NSDBENCH_INLINE [[gnu::always_inline]] inline
#define NSDBENCH_INLINE_LAMBDA __attribute__((always_inline))

namespace nsdbench::cpu {

enum class Simd : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The level in use: the widest the processor has, or less if NSDBENCH_SIMD (baseline, avx2, avx512)
// asks for less. Decided once per process.
Simd simd_level();

// A vector of kBytes that may lie anywhere in memory.
template <typename T, int kBytes>
struct NativeVector {
  typedef T type __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
  static constexpr int64_t kWidth = kBytes / static_cast<int>(sizeof(T));
};

// U is a vector of T, or T itself in the remainder of a loop.
template <typename U, typename T>
NSDBENCH_INLINE U load(const T* p) {
  return *reinterpret_cast<const U*>(p);
}

template <typename U, typename T>
NSDBENCH_INLINE void store(T* p, U value) {
  *reinterpret_cast<U*>(p) = value;
}

// A vector that is used several times: GCC would otherwise read it from memory for every use, and
// reading would be the limit.
template <typename V>
NSDBENCH_INLINE V in_register(V value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#endif
  return value;
}

// `value` where y is positive, else 0. A NaN in y counts as positive: divergence must stay visible.
template <typename U>
NSDBENCH_INLINE U where_positive(U y, U value) {
  return y <= 0 ? U{} : value;
}

// Calls body<U>(i) for i from 0 to count, with the widest vectors that still fit, then scalars.
template <typename T, int kBytes, typename Body>
NSDBENCH_INLINE void for_lanes(int64_t i, int64_t count, const Body& body) {
  using V = NativeVector<T, kBytes>;
  for (; i + V::kWidth <= count; i += V::kWidth) body.template operator()<typename V::type>(i);
  if constexpr (kBytes > 16) {
    for_lanes<T, kBytes / 2>(i, count, body);
  } else {
    for (; i < count; ++i) body.template operator()<T>(i);
  }
}

#if defined(__x86_64__)
#define NSDBENCH_MULTIVERSION(name, parameters, arguments)                             \
  template <typename T>                                                                \
  void name##_baseline parameters {                                                    \
    name##_body<T, 16> arguments;                                                      \
  }                                                                                    \
  template <typename T>                                                                \
  __attribute__((target("avx2,fma"))) void name##_avx2 parameters {                    \
    name##_body<T, 32> arguments;                                                      \
  }                                                                                    \
  template <typename T>                                                                \
  __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))) void name##_avx512 \
      parameters {                                                                     \
    name##_body<T, 64> arguments;                                                      \
  }                                                                                    \
  template <typename T>                                                                \
  void name parameters {                                                               \
    switch (simd_level()) {                                                            \
      case Simd::kAvx512:                                                              \
        return name##_avx512<T> arguments;                                             \
      case Simd::kAvx2:                                                                \
        return name##_avx2<T> arguments;                                               \
      default:                                                                         \
        return name##_baseline<T> arguments;                                           \
    }                                                                                  \
  }
#else
#define NSDBENCH_MULTIVERSION(name, parameters, arguments) \
  template <typename T>                                    \
  void name parameters {                                   \
    name##_body<T, 16> arguments;                          \
  }
#endif

}  // namespace nsdbench::cpu
