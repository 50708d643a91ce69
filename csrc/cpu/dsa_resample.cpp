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

#include <algorithm>
#include <type_traits>

#include "dsa.h"
#include "simd.h"
#include "workspace.h"

namespace nsdbench::cpu {
namespace {

// Memory of one thread, kept between calls.
template <typename T>
T* workspace(int64_t count) {
  thread_local Workspace memory;
  return memory.get<T>(count);
}

struct Taps {
  double kw, rw, kh, rh;
};

Taps taps_of(const ResampleMap& map, bool is_transposed) {
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
int64_t window_length(double length, int64_t limit) {
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

// Windows of one image and everything about it that does not change from vector to vector.
struct Rotation {
  ResampleMap map;
  Taps taps;
  double cx, cy;
  double row_of_w, row_of_h;       // r where v is zero, from v at k = r = 0
  double reach;                    // |v| < 1 no further from there
  double row_drift, column_drift;  // over the lanes of a vector
  double inverse_kw;
  int64_t rows, columns;           // lengths of the windows
};

Rotation rotation_of(const DsaProblem& problem, const ResampleMap& map, bool is_transposed,
                     int64_t lanes) {
  Rotation rotation{};
  const Taps taps = rotation.taps = taps_of(map, is_transposed);
  rotation.map = map;
  rotation.cx = static_cast<double>(problem.width - 1) / 2;
  rotation.cy = static_cast<double>(problem.height - 1) / 2;
  const double last = static_cast<double>(lanes - 1);
  rotation.column_drift = (map.xx - 1) * last;
  const double determinant = taps.kw * taps.rh - taps.rw * taps.kh;
  const int64_t widest = problem.width + lanes - 1;
  // A map that folds the image onto a line may reach anywhere: 1e-3 is beyond any drawn angle.
  if (magnitude(determinant) > 1e-3 && magnitude(taps.kw) > 1e-3) {
    rotation.row_of_w = taps.kh / determinant;
    rotation.row_of_h = -taps.kw / determinant;
    rotation.reach = magnitude(rotation.row_of_w) + magnitude(rotation.row_of_h);
    rotation.row_drift = rotation.row_of_w * rotation.column_drift +
                         rotation.row_of_h * map.yx * last;
    rotation.inverse_kw = 1 / taps.kw;
    rotation.rows = window_length(2 * rotation.reach + magnitude(rotation.row_drift),
                                  problem.height);
    rotation.columns = window_length((2 + magnitude(rotation.column_drift)) *
                                     magnitude(rotation.inverse_kw), widest);
  } else {
    rotation.rows = problem.height;
    rotation.columns = widest;
  }
  return rotation;
}

// Where the windows of a block of output rows begin, and v in lane 0 there; all [rows, kBlock].
template <typename T>
struct Windows {
  int64_t* offset;  // of the first pixel read from row(0) of a plane
  T *v_w, *v_h;
};

// Find them for the outputs at column w of rows h0 .. h0 + kBlock - 1. kColumns: see rotate_planes.
template <typename T, int kBytes, int kColumns>
NSDBENCH_INLINE void find_windows(const DsaProblem& problem, const Rotation& rotation,
                                  int64_t pitch, int64_t w, int64_t h0,
                                  const Windows<T>& windows) {
  using Rows = typename NativeVector<double, kBytes>::type;
  constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  constexpr int64_t kBlock = NativeVector<double, kBytes>::kWidth;
  const ResampleMap& map = rotation.map;
  const Taps& taps = rotation.taps;
  const double right = static_cast<double>(w) - rotation.cx;
  const Rows h = lane_numbers<double, kBytes>() + static_cast<double>(h0);
  const Rows down = h - rotation.cy;
  const Rows s_w = (map.xx - 1) * right + map.xy * down;
  const Rows s_h = map.yx * right + (map.yy - 1) * down;
  const double row_edge = std::min(rotation.row_drift, 0.0) - rotation.reach + 0.5;
  const Rows first = limited_lanes(
      whole(rotation.row_of_w * s_w + rotation.row_of_h * s_h + row_edge), -h,
      static_cast<double>(problem.height - rotation.rows) - h);
  const Rows edge = 0.5 - (s_w + window_edge(0, rotation.column_drift, taps.kw)) *
                              rotation.inverse_kw;
  const int64_t columns = kColumns > 0 ? kColumns : rotation.columns;
  const Rows lowest = Rows{} + static_cast<double>((kColumns > 0 ? 0 : 1) - kLanes - w);
  const Rows highest = Rows{} + static_cast<double>(problem.width - columns - w);
  for (int64_t n = 0; n < rotation.rows; ++n) {
    const Rows r = first + static_cast<double>(n);
    const Rows k = limited_lanes(whole(edge - taps.rw * rotation.inverse_kw * r), lowest, highest);
    const Rows offset = (h + r) * static_cast<double>(pitch) + k + static_cast<double>(w);
    store_whole(windows.offset + n * kBlock, offset);
    store_as(windows.v_w + n * kBlock, s_w + taps.rw * r + taps.kw * k);
    store_as(windows.v_h + n * kBlock, s_h + taps.rh * r + taps.kh * k);
  }
}

// kColumns: length of the window of k where it is known (three for every drawn angle), else 0.
template <typename T, int kBytes, int kChannels, int kColumns, bool kTransposed>
NSDBENCH_INLINE void rotate_planes(const DsaProblem& problem, const Rotation& rotation,
                                   const Padded<T, kBytes>& in, const Windows<T>& windows,
                                   int64_t channel, T* out) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  constexpr int64_t kBlock = NativeVector<double, kBytes>::kWidth;
  constexpr bool kSeparable = !kTransposed && kColumns > 0;  // v_w knows no r, v_h no k
  const int64_t height = problem.height, width = problem.width, rows = rotation.rows;
  const int64_t plane = height * in.pitch();
  const int64_t columns = kColumns > 0 ? kColumns : rotation.columns;
  const T* source = in.row(channel * height);
  const V lane = lane_numbers<T, kBytes>(), one = opaque_one<V, T>();
  const V w_slope = lane * static_cast<T>(rotation.map.xx - 1);
  const V h_slope = lane * static_cast<T>(rotation.map.yx);
  const V kw = V{} + static_cast<T>(rotation.taps.kw), kh = V{} + static_cast<T>(rotation.taps.kh);

  for (int64_t w0 = 0, chunk = 0; w0 < width; w0 = ++chunk * kLanes) {
    const int64_t w = chunk_start(chunk, kLanes, width);
    for (int64_t h0 = 0; h0 < height; h0 += kBlock) {
      find_windows<T, kBytes, kColumns>(problem, rotation, in.pitch(), w, h0, windows);
      const int64_t block = std::min(kBlock, height - h0);
      for (int64_t i = 0; i < block; ++i) {
        V sum[kChannels] = {};
        const auto add = [&](const T* pixel, V weight) NSDBENCH_INLINE_LAMBDA {
#pragma GCC unroll 3
          for (int c = 0; c < kChannels; ++c) sum[c] += weight * load<V>(pixel + c * plane);
        };
        if constexpr (kSeparable) {
          V w_hat[kColumns];
#pragma GCC unroll 3
          for (int n = 0; n < kColumns; ++n) {
            w_hat[n] = 1 - distance(w_slope + (windows.v_w[i] - static_cast<T>(n)), one);
          }
          V v_h = h_slope + windows.v_h[i];
          const T* pixel = source + windows.offset[i];
          for (int64_t n = 0; n < rows; ++n, v_h -= 1, pixel += in.pitch()) {
            const V far = distance(v_h, one);
#pragma GCC unroll 3
            for (int k = 0; k < kColumns; ++k) add(pixel + k, w_hat[k] - far * w_hat[k]);
          }
        } else {
          for (int64_t n = i; n < rows * kBlock; n += kBlock) {
            const V v_w = w_slope + windows.v_w[n], v_h = h_slope + windows.v_h[n];
            const T* pixel = source + windows.offset[n];
            const auto add_tap = [&](int64_t k) NSDBENCH_INLINE_LAMBDA {
              const T tap = static_cast<T>(k);
              const V near = 1 - distance(v_w + kw * tap, one);
              add(pixel + k, near - distance(v_h + kh * tap, one) * near);
            };
            if constexpr (kColumns > 0) {
#pragma GCC unroll 3
              for (int k = 0; k < kColumns; ++k) add_tap(k);
            } else {
              for (int64_t k = 0; k < columns; ++k) add_tap(k);
            }
          }
        }
#pragma GCC unroll 3
        for (int c = 0; c < kChannels; ++c) {
          store_chunk(sum[c], width, out + ((channel + c) * height + h0 + i) * width + w);
        }
      }
    }
  }
}

template <typename T, int kBytes, int kColumns, bool kTransposed>
NSDBENCH_INLINE void rotate_channels(const DsaProblem& problem, const Rotation& rotation,
                                     const Padded<T, kBytes>& in, const Windows<T>& windows,
                                     T* out) {
  int64_t channel = 0;
  for (; channel + 3 <= problem.channels; channel += 3) {
    rotate_planes<T, kBytes, 3, kColumns, kTransposed>(problem, rotation, in, windows, channel,
                                                       out);
  }
  for (; channel < problem.channels; ++channel) {
    rotate_planes<T, kBytes, 1, kColumns, kTransposed>(problem, rotation, in, windows, channel,
                                                       out);
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void rotate_image_body(const DsaProblem& problem, const ResampleMap& map,
                                       bool is_transposed, const T* x, T* out) {
  constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  constexpr int64_t kBlock = NativeVector<double, kBytes>::kWidth;
  const Rotation rotation = rotation_of(problem, map, is_transposed, kLanes);
  Padded<T, kBytes> in{problem.channels * problem.height, problem.width, nullptr};
  const int64_t count = rotation.rows * kBlock;
  in.memory = workspace<T>(in.size() + 2 * count);
  const Windows<T> windows{workspace<int64_t>(count), in.memory + in.size(),
                           in.memory + in.size() + count};
  in.clear_borders();
  for (int64_t n = 0; n < in.rows; ++n) {
    T* target = in.row(n);
    const T* source = x + n * in.width;
    for_lanes<T, kBytes>(0, in.width, [&]<typename U>(int64_t w) NSDBENCH_INLINE_LAMBDA {
      store(target + w, load<U>(source + w));
    });
  }
  if (rotation.columns > 3) {
    rotate_channels<T, kBytes, 0, true>(problem, rotation, in, windows, out);
  } else if (is_transposed) {
    rotate_channels<T, kBytes, 3, true>(problem, rotation, in, windows, out);
  } else {
    rotate_channels<T, kBytes, 3, false>(problem, rotation, in, windows, out);
  }
}

// The window of rows of every output row: first[h] is where it begins, weights[n * pitch + h] belongs to
// row first[h] + n. Written in whole vectors: pitch is the height rounded up.
template <typename T, int kBytes>
NSDBENCH_INLINE void find_rows(int64_t height, double slope, const Taps& taps, int64_t rows,
                               int64_t pitch, int64_t* first, T* weights) {
  using Rows = typename NativeVector<double, kBytes>::type;
  const double middle = static_cast<double>(height - 1) / 2, inverse = 1 / taps.rh;
  const double edge = window_edge(0, 0, taps.rh);
  const Rows one = opaque_one<Rows, double>();
  for (int64_t h0 = 0; h0 < height; h0 += NativeVector<double, kBytes>::kWidth) {
    const Rows h = lane_numbers<double, kBytes>() + static_cast<double>(h0);
    const Rows s_h = (slope - 1) * (h - middle);
    const Rows start = limited_lanes(whole(0.5 - (s_h + edge) * inverse), -h,
                                     static_cast<double>(height - rows) - h);
    store_whole(first + h0, h + start);
    for (int64_t n = 0; n < rows; ++n) {
      const Rows v_h = s_h + taps.rh * (start + static_cast<double>(n));
      store_as(weights + n * pitch + h0, 1 - distance(v_h, one));
    }
  }
}

// out[w] = sum over n of weights[n * pitch] in[n * width + w]; kRows: their number where it is known.
template <typename T, int kBytes, int kRows>
NSDBENCH_INLINE void combine_rows(int64_t width, int64_t rows, const T* weights, int64_t pitch,
                                  const T* in, T* out) {
  const auto combine = [&]<typename U>(int64_t w) NSDBENCH_INLINE_LAMBDA {
    U sum = {};
    if constexpr (kRows > 0) {
#pragma GCC unroll 3
      for (int n = 0; n < kRows; ++n) sum += weights[n * pitch] * load<U>(in + n * width + w);
    } else {
      for (int64_t n = 0; n < rows; ++n) sum += weights[n * pitch] * load<U>(in + n * width + w);
    }
    store(out + w, sum);
  };
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  if (width < kLanes) return for_lanes<T, kBytes>(0, width, combine);
  for (int64_t w0 = 0, chunk = 0; w0 < width; w0 = ++chunk * kLanes) {
    combine.template operator()<V>(chunk_start(chunk, kLanes, width));
  }
}

// Rows first, then columns: a product of two sparse matrices instead of their outer product.
template <typename T, int kBytes>
NSDBENCH_INLINE void scale_image_body(const DsaProblem& problem, const ResampleMap& map,
                                      bool is_transposed, const T* x, T* out) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  const Taps taps = taps_of(map, is_transposed);
  const int64_t height = problem.height, width = problem.width;
  const int64_t pitch = (height + kLanes - 1) / kLanes * kLanes;
  const double cx = static_cast<double>(width - 1) / 2;
  const double drift = (map.xx - 1) * static_cast<double>(kLanes - 1);
  const int64_t rows = window_length(2 / magnitude(taps.rh), height);
  const int64_t columns = window_length((2 + magnitude(drift)) / magnitude(taps.kw),
                                        width + kLanes - 1);
  Padded<T, kBytes> tall{problem.channels * height, width, nullptr};
  tall.memory = workspace<T>(tall.size() + columns * kLanes + rows * pitch);
  T* weights = tall.memory + tall.size();
  T* row_weights = weights + columns * kLanes;
  int64_t* first_row = workspace<int64_t>(pitch);
  tall.clear_borders();

  find_rows<T, kBytes>(height, map.yy, taps, rows, pitch, first_row, row_weights);
  const auto combine_all = [&]<int kRows>(std::integral_constant<int, kRows>)
      NSDBENCH_INLINE_LAMBDA {
    for (int64_t c = 0; c < problem.channels; ++c) {
      for (int64_t h = 0; h < height; ++h) {
        combine_rows<T, kBytes, kRows>(width, rows, row_weights + h, pitch,
                                       x + (c * height + first_row[h]) * width,
                                       tall.row(c * height + h));
      }
    }
  };
  if (rows == 2) {
    combine_all(std::integral_constant<int, 2>{});
  } else if (rows == 3) {
    combine_all(std::integral_constant<int, 3>{});
  } else {
    combine_all(std::integral_constant<int, 0>{});
  }

  const V w_slope = lane_numbers<T, kBytes>() * static_cast<T>(map.xx - 1);
  const V one = opaque_one<V, T>();
  for (int64_t w0 = 0, chunk = 0; w0 < width; w0 = ++chunk * kLanes) {
    const int64_t w = chunk_start(chunk, kLanes, width);
    const double s_w = (map.xx - 1) * (static_cast<double>(w) - cx);
    const int64_t first = limited(window_start(s_w, drift, taps.kw), 1 - kLanes - w,
                                  width - columns - w);
    for (int64_t n = 0; n < columns; ++n) {
      const double v_w = s_w + taps.kw * static_cast<double>(first + n);
      store(weights + n * kLanes, 1 - distance(w_slope + static_cast<T>(v_w), one));
    }
    int64_t row = 0;
    const auto widen = [&]<int kRows>(std::integral_constant<int, kRows>) NSDBENCH_INLINE_LAMBDA {
      for (; row + kRows <= tall.rows; row += kRows) {
        V sum[kRows] = {};
        const T* source = tall.row(row) + w + first;
        for (int64_t n = 0; n < columns; ++n) {
          const V weight = load<V>(weights + n * kLanes);
#pragma GCC unroll 4
          for (int i = 0; i < kRows; ++i) {
            sum[i] += weight * load<V>(source + i * tall.pitch() + n);
          }
        }
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) store_chunk(sum[i], width, out + (row + i) * width + w);
      }
    };
    widen(std::integral_constant<int, 4>{});
    widen(std::integral_constant<int, 1>{});
  }
}

NSDBENCH_MULTIVERSION(rotate_image,
                      (const DsaProblem& problem, const ResampleMap& map, bool is_transposed,
                       const T* x, T* out),
                      (problem, map, is_transposed, x, out))
NSDBENCH_MULTIVERSION(scale_image,
                      (const DsaProblem& problem, const ResampleMap& map, bool is_transposed,
                       const T* x, T* out),
                      (problem, map, is_transposed, x, out))

}  // namespace

template <typename T>
void resample(const DsaProblem& problem, const ResampleMap& map, bool is_transposed, const T* x,
              T* out) {
  if (problem.operation == Dsa::kScale) {
    scale_image<T>(problem, map, is_transposed, x, out);
  } else {
    rotate_image<T>(problem, map, is_transposed, x, out);
  }
}

template void resample<float>(const DsaProblem&, const ResampleMap&, bool, const float*, float*);
template void resample<double>(const DsaProblem&, const ResampleMap&, bool, const double*, double*);

}  // namespace nsdbench::cpu
