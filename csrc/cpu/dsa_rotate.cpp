// Rotate one image, forward and transposed; see dsa_windows.h.

#include <algorithm>

#include "dsa.h"
#include "dsa_windows.h"
#include "simd.h"

namespace nsdbench::cpu {
namespace {

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
NSDBENCH_INLINE void rotate_body(const DsaProblem& problem, const ResampleMap& map,
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

}  // namespace

NSDBENCH_MULTIVERSION(rotate,
                      (const DsaProblem& problem, const ResampleMap& map, bool is_transposed,
                       const T* x, T* out),
                      (problem, map, is_transposed, x, out))

template void rotate<float>(const DsaProblem&, const ResampleMap&, bool, const float*, float*);
template void rotate<double>(const DsaProblem&, const ResampleMap&, bool, const double*, double*);

}  // namespace nsdbench::cpu
