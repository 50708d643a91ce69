#include "first_conv.h"

#include "simd.h"

namespace nsdbench::cpu {
namespace {

// Address of vector `v` of a group of blocks, relative to the first block.
template <typename T, int64_t kWidth>
NSDBENCH_INLINE int64_t vector_offset(int64_t v, int64_t plane) {
  constexpr int64_t kParts = kBlock<T> / kWidth;
  return v / kParts * plane + v % kParts * kWidth;
}

// kPixels neighbours in a row times kVectors of channels, accumulators in registers.
template <typename T, int kBytes, int kPixels, int kVectors>
NSDBENCH_INLINE void conv_tile(const FirstConvSizes& sizes, bool accumulate, const T* x,
                               const T* w, T* z, int64_t vector_step) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  V sum[kPixels][kVectors];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[p][v] = accumulate ? load<V>(z + p * kBlock<T> + v * vector_step) : V{};
    }
  }
  for (int64_t ci = 0; ci < sizes.in_channels; ++ci) {
    for (int64_t kh = 0; kh < 3; ++kh) {
      const T* row = x + ci * sizes.input_plane() + kh * sizes.input_row();
      const T* taps = w + (ci * 3 + kh) * 3 * sizes.channels;
#pragma GCC unroll 3
      for (int64_t kw = 0; kw < 3; ++kw) {
        V tap[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          tap[v] = load<V>(taps + kw * sizes.channels + v * kWidth);
        }
#pragma GCC unroll 8
        for (int p = 0; p < kPixels; ++p) {
          const T pixel = row[kw + p];
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sum[p][v] += pixel * tap[v];
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      store<V>(z + p * kBlock<T> + v * vector_step, sum[p][v]);
    }
  }
}

template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void conv_vectors(const FirstConvSizes& sizes, bool accumulate, const T* x,
                                  const T* w, T* z, int64_t vector_step) {
  constexpr int kPixels = kBytes == 64 ? 8 : 4;
  for (int64_t h = 0; h < sizes.height; ++h) {
    const T* input = x + h * sizes.input_row();
    T* output = z + h * sizes.row;
    int64_t n = 0;
    for (; n + kPixels <= sizes.width; n += kPixels) {
      conv_tile<T, kBytes, kPixels, kVectors>(sizes, accumulate, input + n, w,
                                              output + n * kBlock<T>, vector_step);
    }
    for (; n < sizes.width; ++n) {
      conv_tile<T, kBytes, 1, kVectors>(sizes, accumulate, input + n, w, output + n * kBlock<T>,
                                        vector_step);
    }
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void conv_body(const FirstConvSizes& sizes, bool accumulate, const T* x,
                               const T* w, int64_t first_block, int64_t blocks, T* z) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  const int64_t vectors = blocks * kBlock<T> / kWidth;
  w += first_block * kBlock<T>;
  int64_t v = 0;
  for (; v + 2 <= vectors; v += 2) {
    const int64_t from = vector_offset<T, kWidth>(v, sizes.plane);
    const int64_t step = vector_offset<T, kWidth>(v + 1, sizes.plane) - from;
    conv_vectors<T, kBytes, 2>(sizes, accumulate, x, w + v * kWidth, z + from, step);
  }
  if (v < vectors) {
    conv_vectors<T, kBytes, 1>(sizes, accumulate, x, w + v * kWidth,
                               z + vector_offset<T, kWidth>(v, sizes.plane), 0);
  }
}

// The nine taps of one input channel for kVectors of channels. A row's sums join dw at its end,
// which keeps sums short and so accurate.
template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void weight_vectors(const FirstConvSizes& sizes, const T* x, const T* dz,
                                    int64_t vector_step, T* dw) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  for (int64_t h = 0; h < sizes.height; ++h) {
    const T* input = x + h * sizes.input_row();
    const T* grad = dz + h * sizes.row;
    V sum[9][kVectors] = {};
    for (int64_t n = 0; n < sizes.width; ++n) {
      V g[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) g[v] = load<V>(grad + n * kBlock<T> + v * vector_step);
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) {
        const T pixel = input[k / 3 * sizes.input_row() + n + k % 3];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[k][v] += pixel * g[v];
      }
    }
#pragma GCC unroll 9
    for (int k = 0; k < 9; ++k) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        T* target = dw + k * sizes.channels + v * kWidth;
        store<V>(target, load<V>(target) + sum[k][v]);
      }
    }
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void weight_body(const FirstConvSizes& sizes, const T* x, const T* dz,
                                 int64_t first_block, int64_t blocks, T* dw) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  constexpr int kVectors = kBytes == 64 ? 2 : 1;  // 18 accumulators with 32 registers, 9 with 16
  const int64_t vectors = blocks * kBlock<T> / kWidth;
  for (int64_t ci = 0; ci < sizes.in_channels; ++ci) {
    const T* input = x + ci * sizes.input_plane();
    T* target = dw + ci * 9 * sizes.channels + first_block * kBlock<T>;
    int64_t v = 0;
    for (; v + kVectors <= vectors; v += kVectors) {
      const int64_t from = vector_offset<T, kWidth>(v, sizes.plane);
      const int64_t step = vector_offset<T, kWidth>(v + 1, sizes.plane) - from;
      weight_vectors<T, kBytes, kVectors>(sizes, input, dz + from, step, target + v * kWidth);
    }
    if (v < vectors) {
      weight_vectors<T, kBytes, 1>(sizes, input, dz + vector_offset<T, kWidth>(v, sizes.plane), 0,
                                   target + v * kWidth);
    }
  }
}

NSDBENCH_MULTIVERSION(conv,
                      (const FirstConvSizes& sizes, bool accumulate, const T* x, const T* w,
                       int64_t first_block, int64_t blocks, T* z),
                      (sizes, accumulate, x, w, first_block, blocks, z))
NSDBENCH_MULTIVERSION(weight,
                      (const FirstConvSizes& sizes, const T* x, const T* dz, int64_t first_block,
                       int64_t blocks, T* dw),
                      (sizes, x, dz, first_block, blocks, dw))

}  // namespace

template <typename T>
void first_conv(const FirstConvSizes& sizes, bool accumulate, const T* x, const T* w,
                int64_t first_block, int64_t blocks, T* z) {
  conv<T>(sizes, accumulate, x, w, first_block, blocks, z);
}

template <typename T>
void first_conv_weight_gradient(const FirstConvSizes& sizes, const T* x, const T* dz,
                                int64_t first_block, int64_t blocks, T* dw) {
  weight<T>(sizes, x, dz, first_block, blocks, dw);
}

template <typename T>
void first_conv_input_columns(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                              int64_t count, const T* dz, int64_t first_block, int64_t blocks,
                              const T* w, int64_t padded_taps, T* columns) {
  for (int64_t block = 0; block < blocks; ++block) {
    tile_product<T>(accumulate || block > 0, count, padded_taps, kBlock<T>,
                    dz + block * sizes.plane + pixel * kBlock<T>, kBlock<T>, 1,
                    w + (first_block + block) * kBlock<T> * padded_taps, padded_taps, columns,
                    padded_taps);
  }
}

template <typename T>
void first_conv_scatter(const FirstConvSizes& sizes, const T* columns, int64_t padded_taps,
                        T* dx) {
  const int64_t pixels_in_row = sizes.row / kBlock<T>;
  for (int64_t h = 0; h < sizes.height; ++h) {
    for (int64_t n = 0; n < sizes.width; ++n) {
      const T* taps = columns + (h * pixels_in_row + n) * padded_taps;
      for (int64_t ci = 0; ci < sizes.in_channels; ++ci) {
        for (int64_t kh = 0; kh < 3; ++kh) {
          T* target = dx + ci * sizes.input_plane() + (h + kh) * sizes.input_row() + n;
          for (int64_t kw = 0; kw < 3; ++kw) target[kw] += *taps++;
        }
      }
    }
  }
}

#define NSDBENCH_INSTANTIATE(T)                                                                  \
  template void first_conv<T>(const FirstConvSizes&, bool, const T*, const T*, int64_t, int64_t, \
                              T*);                                                               \
  template void first_conv_weight_gradient<T>(const FirstConvSizes&, const T*, const T*,         \
                                              int64_t, int64_t, T*);                             \
  template void first_conv_input_columns<T>(const FirstConvSizes&, bool, int64_t, int64_t,       \
                                            const T*, int64_t, int64_t, const T*, int64_t, T*);  \
  template void first_conv_scatter<T>(const FirstConvSizes&, const T*, int64_t, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
