// Scale and rotate one image, forward and transposed, without gathers: neighbouring outputs read
// neighbouring inputs, so a vector of outputs is a short sum of shifted rows, weighted by hats that
// differ a little from lane to lane:
//
//   out[h, w] = sum over r, k of hat(v_w) hat(v_h) in[h + r, w + k]
//
// Forward, v is the place (h, w) reads minus (h + r, w + k); transposed, it is the place (h + r, w + k)
// reads minus (h, w). In lane l of a vector of outputs, with the coefficients of struct Taps,
//
//   v_w = s_w + (xx - 1) l + kw k + rw r,   v_h = s_h + yx l + kh k + rh r
//
// The windows of k and r are as long as any vector of the image needs and are moved inside the image, so
// that no loop ends unpredictably; where they reach too far the hats are zero. Deterministic: fixed
// order, no two threads on one image.

#pragma once

#include <algorithm>

#include "dsa.h"
#include "simd.h"
#include "workspace.h"

namespace nsdbench::cpu {

// Memory of one thread, kept between calls.
template <typename T>
T* workspace(int64_t count) {
  thread_local Workspace memory;
  return memory.get<T>(count);
}

struct Taps {
  double kw, rw, kh, rh;
};

inline Taps taps_of(const ResampleMap& map, bool is_transposed) {
  if (is_transposed) return {map.xx, map.xy, map.yx, map.yy};
  return {-1, 0, 0, -1};
}

NSDBENCH_INLINE double magnitude(double value) { return __builtin_fabs(value); }

// A window over the n with |base + slope n| < 1 for any base between `start` and start + drift begins at
// the first n beyond -window_edge / slope.
NSDBENCH_INLINE double window_edge(double start, double drift, double slope) {
  return slope < 0 ? (drift < 0 ? start + drift : start) - 1
                   : (drift > 0 ? start + drift : start) + 1;
}

NSDBENCH_INLINE double window_start(double start, double drift, double slope) {
  return __builtin_floor(-window_edge(start, drift, slope) / slope) + 1;
}

// Numbers in an open interval of this length, at most `limit`.
inline int64_t window_length(double length, int64_t limit) {
  return std::max<int64_t>(1, limited(__builtin_ceil(length), 0, limit));
}

// hat(v) = 1 - distance(v) with distance(v) = min(|v|, 1) in every lane. `one` comes from opaque_one: next
// to a constant the compiler prefers a comparison and a blend to the minimum instruction.
template <typename V>
NSDBENCH_INLINE V distance(V v, V one) {
  using Bits = decltype(v < v);
  V size;
  if constexpr (sizeof(v[0]) == 4) {
    size = reinterpret_cast<V>(reinterpret_cast<Bits>(v) & 0x7fffffff);
  } else {
    size = reinterpret_cast<V>(reinterpret_cast<Bits>(v) & 0x7fffffffffffffff);
  }
  return size < one ? size : one;
}

template <typename V, typename T>
NSDBENCH_INLINE V opaque_one() {
  volatile T one = 1;
  return V{} + one;
}

template <typename T, int kBytes>
NSDBENCH_INLINE typename NativeVector<T, kBytes>::type lane_numbers() {
  T lane[NativeVector<T, kBytes>::kWidth];
  for (int l = 0; l < NativeVector<T, kBytes>::kWidth; ++l) lane[l] = static_cast<T>(l);
  return load<typename NativeVector<T, kBytes>::type>(lane);
}

// Added and taken away again it rounds to a whole number (ties to even), and leaves that in the low bits.
constexpr double kWhole = 6755399441055744;  // 1.5 * 2^52

template <typename Rows>
NSDBENCH_INLINE Rows whole(Rows value) {
  return (value + kWhole) - kWhole;
}

template <typename Rows>
NSDBENCH_INLINE Rows limited_lanes(Rows value, Rows lowest, Rows highest) {
  value = value > lowest ? value : lowest;
  return value < highest ? value : highest;
}

template <typename Rows>
NSDBENCH_INLINE void store_whole(int64_t* out, Rows value) {
  using Bits = decltype(value < value);
  const Bits bits = reinterpret_cast<Bits>(value + kWhole) -
                    reinterpret_cast<Bits>(Rows{} + kWhole);
  __builtin_memcpy(out, &bits, sizeof(bits));
}

template <typename T, typename Rows>
NSDBENCH_INLINE void store_as(T* out, Rows value) {
  typedef T Converted __attribute__((vector_size(sizeof(Rows) / sizeof(double) * sizeof(T))));
  const Converted converted = __builtin_convertvector(value, Converted);
  __builtin_memcpy(out, &converted, sizeof(converted));
}

// Rows of an image with a vector of zeros between them, so that shifted loads need no bounds: row(n)
// may be read from -kLanes to width + kLanes - 1.
template <typename T, int kBytes>
struct Padded {
  static constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  int64_t rows, width;
  T* memory;

  int64_t pitch() const { return width + kLanes; }
  int64_t size() const { return kLanes + rows * pitch(); }
  T* row(int64_t n) const { return memory + kLanes + n * pitch(); }

  NSDBENCH_INLINE void clear_borders() const {
    using V = typename NativeVector<T, kBytes>::type;
    store(memory, V{});
    for (int64_t n = 0; n < rows; ++n) store(row(n) + width, V{});
  }
};

// Where a vector of outputs starts: every kLanes, the last one as far right as it fits.
NSDBENCH_INLINE int64_t chunk_start(int64_t chunk, int64_t lanes, int64_t width) {
  return std::max<int64_t>(std::min(chunk * lanes, width - lanes), 0);
}

template <typename T, typename V>
NSDBENCH_INLINE void store_chunk(V value, int64_t width, T* out) {
  if (width * static_cast<int64_t>(sizeof(T)) >= static_cast<int64_t>(sizeof(V))) {
    store(out, value);
  } else {
    __builtin_memcpy(out, &value, width * sizeof(T));
  }
}

}  // namespace nsdbench::cpu
