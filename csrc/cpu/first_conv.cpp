#include "first_conv.h"

#include "simd.h"
#include "winograd_maps.h"

namespace nsdbench::cpu {
namespace {

// Address of vector `v` of a group of blocks, relative to the first block.
template <typename T, int64_t kWidth>
NSDBENCH_INLINE int64_t vector_offset(int64_t v, int64_t plane) {
  constexpr int64_t kParts = kBlock<T> / kWidth;
  return v / kParts * plane + v % kParts * kWidth;
}

// Elements between the blocks of U.
template <typename T>
NSDBENCH_INLINE int64_t transformed_block(const FirstConvSizes& sizes) {
  return sizes.transformed_taps() * kBlock<T>;
}

// kPixels neighbours in a row times kVectors of channels, directly.
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

// kLines neighbours in a row times kVectors of channels, accumulators in registers.
//   v: of the first line    u: of the first vector
template <typename T, int kBytes, int kLines, int kVectors>
NSDBENCH_INLINE void conv_lines(const FirstConvSizes& sizes, bool accumulate, const T* v,
                                const T* u, int64_t tap_step, T* z, int64_t vector_step) {
  using V = typename NativeVector<T, kBytes>::type;
  V sum[kLines][kVectors][kLinePositions] = {};
  for (int64_t ci = 0; ci < sizes.in_channels; ++ci) {
    const T* row = v + ci * sizes.transformed_plane();
#pragma GCC unroll 1
    for (int64_t kh = 0; kh < 3; ++kh) {
#pragma GCC unroll 6
      for (int p = 0; p < kLinePositions; ++p) {
        V tap[kVectors];
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c) {
          tap[c] = in_register(load<V>(u + p * kBlock<T> + c * tap_step));
        }
#pragma GCC unroll 2
        for (int n = 0; n < kLines; ++n) {
          const T factor = row[n * kLinePositions + p];
#pragma GCC unroll 2
          for (int c = 0; c < kVectors; ++c) sum[n][c][p] += factor * tap[c];
        }
      }
      row += sizes.transformed_row();
      u += kLinePositions * kBlock<T>;
    }
  }
#pragma GCC unroll 2
  for (int n = 0; n < kLines; ++n) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) {
      V whole[kLine];
      FourByFour::output<T>(sum[n][c], whole);
#pragma GCC unroll 4
      for (int i = 0; i < kLine; ++i) {
        T* target = z + (kLine * n + i) * kBlock<T> + c * vector_step;
        store<V>(target, accumulate ? load<V>(target) + whole[i] : whole[i]);
      }
    }
  }
}

template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void conv_vectors(const FirstConvSizes& sizes, bool accumulate,
                                  const FirstInput<T>& input, const T* w, const T* u,
                                  int64_t tap_step, T* z, int64_t vector_step) {
  constexpr int kLines = kBytes == 64 ? 2 : 1, kPixels = kBytes == 64 ? 8 : 4;
  for (int64_t h = 0; h < sizes.height; ++h) {
    const T* v = input.v + h * sizes.transformed_row();
    const T* x = input.x + h * sizes.input_row();
    T* output = z + h * sizes.row;
    int64_t line = 0;
    for (; line + kLines <= sizes.lines; line += kLines) {
      conv_lines<T, kBytes, kLines, kVectors>(sizes, accumulate, v + line * kLinePositions, u,
                                              tap_step, output + line * kLine * kBlock<T>,
                                              vector_step);
    }
    for (; line < sizes.lines; ++line) {
      conv_lines<T, kBytes, 1, kVectors>(sizes, accumulate, v + line * kLinePositions, u,
                                         tap_step, output + line * kLine * kBlock<T>,
                                         vector_step);
    }
    int64_t n = line * kLine;
    for (; n + kPixels <= sizes.width; n += kPixels) {
      conv_tile<T, kBytes, kPixels, kVectors>(sizes, accumulate, x + n, w,
                                              output + n * kBlock<T>, vector_step);
    }
    for (; n < sizes.width; ++n) {
      conv_tile<T, kBytes, 1, kVectors>(sizes, accumulate, x + n, w, output + n * kBlock<T>,
                                        vector_step);
    }
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void conv_body(const FirstConvSizes& sizes, bool accumulate,
                               const FirstInput<T>& input, const FirstWeights<T>& weights,
                               int64_t first_block, int64_t blocks, T* z) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  const int64_t vectors = blocks * kBlock<T> / kWidth;
  const T* w = weights.w + first_block * kBlock<T>;
  const T* u = weights.u + first_block * transformed_block<T>(sizes);
  int64_t c = 0;
  for (; c + 2 <= vectors; c += 2) {
    const int64_t from = vector_offset<T, kWidth>(c, sizes.plane);
    const int64_t step = vector_offset<T, kWidth>(c + 1, sizes.plane) - from;
    const int64_t tap = vector_offset<T, kWidth>(c, transformed_block<T>(sizes));
    const int64_t tap_step = vector_offset<T, kWidth>(c + 1, transformed_block<T>(sizes)) - tap;
    conv_vectors<T, kBytes, 2>(sizes, accumulate, input, w + c * kWidth, u + tap, tap_step,
                               z + from, step);
  }
  if (c < vectors) {
    conv_vectors<T, kBytes, 1>(sizes, accumulate, input, w + c * kWidth,
                               u + vector_offset<T, kWidth>(c, transformed_block<T>(sizes)), 0,
                               z + vector_offset<T, kWidth>(c, sizes.plane), 0);
  }
}

// dU += V dM of the lines of a row, for one input channel, one vector of channels and kCount
// positions from kFirst on. Sums stay in registers along the row, and are short and so accurate.
//   v: of the first line, kh = 0    dz: of the first pixel    du: [3, kLinePositions]
template <typename T, typename V, int kFirst, int kCount>
NSDBENCH_INLINE void add_lines(const FirstConvSizes& sizes, const T* v, const T* dz, V* du) {
  V sum[3][kCount] = {};
  for (int64_t n = 0; n < sizes.lines; ++n) {
    V line[kLine], m[kLinePositions];
#pragma GCC unroll 4
    for (int i = 0; i < kLine; ++i) line[i] = load<V>(dz + (kLine * n + i) * kBlock<T>);
    FourByFour::output_transposed<T>(line, m);
#pragma GCC unroll 3
    for (int kh = 0; kh < 3; ++kh) {
      const T* factor = v + kh * sizes.transformed_row() + n * kLinePositions + kFirst;
#pragma GCC unroll 6
      for (int p = 0; p < kCount; ++p) sum[kh][p] += factor[p] * m[kFirst + p];
    }
  }
#pragma GCC unroll 3
  for (int kh = 0; kh < 3; ++kh) {
#pragma GCC unroll 6
    for (int p = 0; p < kCount; ++p) du[kh * kLinePositions + kFirst + p] += sum[kh][p];
  }
}

// dg = G^T dU of all lines, for one vector of channels.
template <typename T, int kBytes>
NSDBENCH_INLINE void lines_gradient(const FirstConvSizes& sizes, const T* v, const T* dz, T* dw) {
  using V = typename NativeVector<T, kBytes>::type;
  for (int64_t ci = 0; ci < sizes.in_channels; ++ci, v += sizes.transformed_plane()) {
    V du[3 * kLinePositions] = {};
    for (int64_t h = 0; h < sizes.height; ++h) {
      const T* row = v + h * sizes.transformed_row();
      if constexpr (kBytes == 64) {  // 18 sums with 32 registers, 9 with 16
        add_lines<T, V, 0, 6>(sizes, row, dz + h * sizes.row, du);
      } else {
        add_lines<T, V, 0, 3>(sizes, row, dz + h * sizes.row, du);
        add_lines<T, V, 3, 3>(sizes, row, dz + h * sizes.row, du);
      }
    }
    for (int kh = 0; kh < 3; ++kh) {
      V whole[3];
      FourByFour::weight_transposed<T>(du + kh * kLinePositions, whole);
      for (int kw = 0; kw < 3; ++kw) {
        T* target = dw + ((ci * 3 + kh) * 3 + kw) * sizes.channels;
        store<V>(target, load<V>(target) + whole[kw]);
      }
    }
  }
}

// The nine taps of one input channel for kVectors of channels, directly, from the pixels of a row
// that are in no line. A row's sums join dw at its end, which keeps sums short and so accurate.
template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void weight_vectors(const FirstConvSizes& sizes, const T* x, const T* dz,
                                    int64_t vector_step, T* dw) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  for (int64_t h = 0; h < sizes.height; ++h) {
    const T* input = x + h * sizes.input_row();
    const T* grad = dz + h * sizes.row;
    V sum[9][kVectors] = {};
    for (int64_t n = sizes.lines * kLine; n < sizes.width; ++n) {
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
NSDBENCH_INLINE void weight_body(const FirstConvSizes& sizes, const FirstInput<T>& input,
                                 const T* dz, int64_t first_block, int64_t blocks, T* dw) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  constexpr int kVectors = kBytes == 64 ? 2 : 1;  // 18 accumulators with 32 registers, 9 with 16
  const int64_t vectors = blocks * kBlock<T> / kWidth;
  dw += first_block * kBlock<T>;
  for (int64_t v = 0; v < vectors && sizes.lines > 0; ++v) {
    lines_gradient<T, kBytes>(sizes, input.v, dz + vector_offset<T, kWidth>(v, sizes.plane),
                              dw + v * kWidth);
  }
  if (sizes.lines * kLine == sizes.width) return;
  for (int64_t ci = 0; ci < sizes.in_channels; ++ci) {
    const T* x = input.x + ci * sizes.input_plane();
    T* target = dw + ci * 9 * sizes.channels;
    int64_t v = 0;
    for (; v + kVectors <= vectors; v += kVectors) {
      const int64_t from = vector_offset<T, kWidth>(v, sizes.plane);
      const int64_t step = vector_offset<T, kWidth>(v + 1, sizes.plane) - from;
      weight_vectors<T, kBytes, kVectors>(sizes, x, dz + from, step, target + v * kWidth);
    }
    if (v < vectors) {
      weight_vectors<T, kBytes, 1>(sizes, x, dz + vector_offset<T, kWidth>(v, sizes.plane), 0,
                                   target + v * kWidth);
    }
  }
}

// kPixels of columns times kVectors of taps, accumulators in registers.
template <typename T, int kBytes, int kPixels, int kVectors>
NSDBENCH_INLINE void column_tile(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                                 const ColumnTerm<T>* terms, int64_t num_terms,
                                 int64_t first_block, int64_t blocks, int64_t padded_taps,
                                 int64_t tap, T* columns) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  V sum[kPixels][kVectors];
#pragma GCC unroll 8
  for (int n = 0; n < kPixels; ++n) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) {
      sum[n][c] = accumulate ? load<V>(columns + n * padded_taps + c * kWidth) : V{};
    }
  }
  for (const ColumnTerm<T>* term = terms; term < terms + num_terms; ++term) {
    for (int64_t block = 0; block < blocks; ++block) {
      const T* grad = term->dz + block * sizes.plane + pixel * kBlock<T>;
      const T* taps = term->w + (first_block + block) * kBlock<T> * padded_taps + tap;
      for (int64_t k = 0; k < kBlock<T>; ++k) {
        V row[kVectors];
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c) row[c] = load<V>(taps + k * padded_taps + c * kWidth);
#pragma GCC unroll 8
        for (int n = 0; n < kPixels; ++n) {
          const T factor = grad[n * kBlock<T> + k];
#pragma GCC unroll 2
          for (int c = 0; c < kVectors; ++c) sum[n][c] += factor * row[c];
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < kPixels; ++n) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) {
      store<V>(columns + n * padded_taps + c * kWidth, sum[n][c]);
    }
  }
}

#define NSDBENCH_COLUMN_ARGUMENTS \
  sizes, accumulate, pixel, count, terms, num_terms, first_block, blocks, padded_taps, columns

template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void column_vectors(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                                    int64_t count, const ColumnTerm<T>* terms, int64_t num_terms,
                                    int64_t first_block, int64_t blocks, int64_t padded_taps,
                                    int64_t tap, T* columns) {
  constexpr int kPixels = kBytes == 64 ? 8 : 4;
  int64_t n = 0;
  for (; n + kPixels <= count; n += kPixels) {
    column_tile<T, kBytes, kPixels, kVectors>(sizes, accumulate, pixel + n, terms, num_terms,
                                              first_block, blocks, padded_taps, tap,
                                              columns + n * padded_taps + tap);
  }
  for (; n < count; ++n) {
    column_tile<T, kBytes, 1, kVectors>(sizes, accumulate, pixel + n, terms, num_terms,
                                        first_block, blocks, padded_taps, tap,
                                        columns + n * padded_taps + tap);
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void columns_body(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                                  int64_t count, const ColumnTerm<T>* terms, int64_t num_terms,
                                  int64_t first_block, int64_t blocks, int64_t padded_taps,
                                  T* columns) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  int64_t tap = 0;
  for (; tap + 2 * kWidth <= padded_taps; tap += 2 * kWidth) {
    column_vectors<T, kBytes, 2>(sizes, accumulate, pixel, count, terms, num_terms, first_block,
                                 blocks, padded_taps, tap, columns);
  }
  if (tap < padded_taps) {
    column_vectors<T, kBytes, 1>(sizes, accumulate, pixel, count, terms, num_terms, first_block,
                                 blocks, padded_taps, tap, columns);
  }
}

NSDBENCH_MULTIVERSION(conv,
                      (const FirstConvSizes& sizes, bool accumulate, const FirstInput<T>& input,
                       const FirstWeights<T>& weights, int64_t first_block, int64_t blocks, T* z),
                      (sizes, accumulate, input, weights, first_block, blocks, z))
NSDBENCH_MULTIVERSION(weight,
                      (const FirstConvSizes& sizes, const FirstInput<T>& input, const T* dz,
                       int64_t first_block, int64_t blocks, T* dw),
                      (sizes, input, dz, first_block, blocks, dw))
NSDBENCH_MULTIVERSION(columns,
                      (const FirstConvSizes& sizes, bool accumulate, int64_t pixel, int64_t count,
                       const ColumnTerm<T>* terms, int64_t num_terms, int64_t first_block,
                       int64_t blocks, int64_t padded_taps, T* columns),
                      (NSDBENCH_COLUMN_ARGUMENTS))

}  // namespace

// With the 16 registers of AVX2 lines are bound by reading V and U. With one channel, which has few
// products to save, they took 3 % longer than direct sums.
int64_t lines_of(int64_t width, int64_t in_channels) {
  return simd_level() == Simd::kAvx2 && in_channels == 1 ? 0 : width / kLine;
}

template <typename T>
void first_conv_transform_input(const FirstConvSizes& sizes, const FirstInput<T>& input) {
  for (int64_t row = 0; row < sizes.in_channels * (sizes.height + 2); ++row) {
    const T* x = input.x + row * sizes.input_row();
    T* v = input.v + row * sizes.transformed_row();
    for (int64_t n = 0; n < sizes.lines; ++n) {
      FourByFour::input<T>(x + kLine * n, v + n * kLinePositions);
    }
  }
}

template <typename T>
void first_conv_transform_weights(const FirstConvSizes& sizes, const FirstWeights<T>& weights) {
  const int64_t rows = 3 * sizes.in_channels;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t co = 0; co < sizes.channels; ++co) {
      T taps[3], whole[kLinePositions];
      for (int64_t kw = 0; kw < 3; ++kw) taps[kw] = weights.w[(row * 3 + kw) * sizes.channels + co];
      FourByFour::weight<T>(taps, whole);
      for (int64_t p = 0; p < kLinePositions; ++p) {
        weights.u[co / kBlock<T> * transformed_block<T>(sizes) +
                  (row * kLinePositions + p) * kBlock<T> + co % kBlock<T>] = whole[p];
      }
    }
  }
}

template <typename T>
void first_conv(const FirstConvSizes& sizes, bool accumulate, const FirstInput<T>& input,
                const FirstWeights<T>& weights, int64_t first_block, int64_t blocks, T* z) {
  conv<T>(sizes, accumulate, input, weights, first_block, blocks, z);
}

template <typename T>
void first_conv_weight_gradient(const FirstConvSizes& sizes, const FirstInput<T>& input,
                                const T* dz, int64_t first_block, int64_t blocks, T* dw) {
  weight<T>(sizes, input, dz, first_block, blocks, dw);
}

template <typename T>
void first_conv_input_columns(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                              int64_t count, const ColumnTerm<T>* terms, int64_t num_terms,
                              int64_t first_block, int64_t blocks, int64_t padded_taps,
                              T* columns) {
  nsdbench::cpu::columns<T>(NSDBENCH_COLUMN_ARGUMENTS);
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

#define NSDBENCH_INSTANTIATE(T)                                                                   \
  template void first_conv_transform_input<T>(const FirstConvSizes&, const FirstInput<T>&);       \
  template void first_conv_transform_weights<T>(const FirstConvSizes&, const FirstWeights<T>&);   \
  template void first_conv<T>(const FirstConvSizes&, bool, const FirstInput<T>&,                  \
                              const FirstWeights<T>&, int64_t, int64_t, T*);                      \
  template void first_conv_weight_gradient<T>(const FirstConvSizes&, const FirstInput<T>&, const T*, \
                                              int64_t, int64_t, T*);                              \
  template void first_conv_input_columns<T>(const FirstConvSizes&, bool, int64_t, int64_t,        \
                                            const ColumnTerm<T>*, int64_t, int64_t, int64_t,      \
                                            int64_t, T*);                                         \
  template void first_conv_scatter<T>(const FirstConvSizes&, const T*, int64_t, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
