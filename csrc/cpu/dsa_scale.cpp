// Scale one image, forward and transposed; see dsa_windows.h.

#include <algorithm>
#include <type_traits>

#include "dsa.h"
#include "dsa_windows.h"
#include "simd.h"

namespace nsdbench::cpu {
namespace {

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
NSDBENCH_INLINE void scale_body(const DsaProblem& problem, const ResampleMap& map,
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

}  // namespace

NSDBENCH_MULTIVERSION(scale,
                      (const DsaProblem& problem, const ResampleMap& map, bool is_transposed,
                       const T* x, T* out),
                      (problem, map, is_transposed, x, out))

template void scale<float>(const DsaProblem&, const ResampleMap&, bool, const float*, float*);
template void scale<double>(const DsaProblem&, const ResampleMap&, bool, const double*, double*);

}  // namespace nsdbench::cpu
