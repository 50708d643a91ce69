#include "matrix.h"

#include <cstring>

#include "simd.h"

namespace nsdbench::cpu {
namespace {

constexpr int64_t kTileRows = 4;     // 4 x 2 vectors of accumulators fit 16 registers of any level
constexpr int kTileVectors = 2;
constexpr int64_t kDepthBlock = 128; // a packed panel of B stays in the first-level cache

// C[kRows, kVectors * width] (+)= A B, accumulators in registers, k innermost and in order.
template <typename T, int kBytes, int kRows, int kVectors>
NSDBENCH_INLINE void tile(bool accumulate, int64_t depth, const T* a, int64_t a_row, int64_t a_col,
                          const T* b, int64_t b_row, T* c, int64_t c_row) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  V sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = accumulate ? *reinterpret_cast<const V*>(c + r * c_row + v * kWidth) : V{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    V row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      row[v] = *reinterpret_cast<const V*>(b + k * b_row + v * kWidth);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const T factor = a[r * a_row + k * a_col];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      *reinterpret_cast<V*>(c + r * c_row + v * kWidth) = sum[r][v];
    }
  }
}

template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void tile_rows(int64_t rows, bool accumulate, int64_t depth, const T* a,
                               int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
                               int64_t c_row) {
  switch (rows) {
    case 1:
      return tile<T, kBytes, 1, kVectors>(accumulate, depth, a, a_row, a_col, b, b_row, c, c_row);
    case 2:
      return tile<T, kBytes, 2, kVectors>(accumulate, depth, a, a_row, a_col, b, b_row, c, c_row);
    case 3:
      return tile<T, kBytes, 3, kVectors>(accumulate, depth, a, a_row, a_col, b, b_row, c, c_row);
    default:
      return tile<T, kBytes, 4, kVectors>(accumulate, depth, a, a_row, a_col, b, b_row, c, c_row);
  }
}

// Walk C in panels of two vectors of columns. A panel of B is copied together (zero-padded) when it
// is ragged, or when it is read often from rows so far apart that they evict each other.
template <typename T, int kBytes>
NSDBENCH_INLINE void multiply_body(bool accumulate, int64_t rows, int64_t columns, int64_t depth,
                                   const T* a, int64_t a_row, int64_t a_col, const T* b,
                                   int64_t b_row, T* c, int64_t c_row) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  constexpr int64_t kPanel = kTileVectors * kWidth;
  constexpr int64_t kFarRow = 1024 / static_cast<int64_t>(sizeof(T));
  alignas(64) T panel[kDepthBlock * kPanel];
  alignas(64) T edge[kTileRows * kPanel] = {};
  for (int64_t k0 = 0; k0 < depth; k0 += kDepthBlock) {
    const int64_t block = depth - k0 < kDepthBlock ? depth - k0 : kDepthBlock;
    const bool add = accumulate || k0 > 0;
    for (int64_t n0 = 0; n0 < columns; n0 += kPanel) {
      const int64_t width = columns - n0 < kPanel ? columns - n0 : kPanel;
      const bool is_ragged = width != kPanel && width != kWidth;
      const T* b_panel = b + k0 * b_row + n0;
      int64_t b_stride = b_row;
      if (is_ragged || (rows > 2 * kTileRows && block >= 8 && b_row > kFarRow)) {
        for (int64_t k = 0; k < block; ++k) {
          for (int64_t n = 0; n < kPanel; ++n) {
            panel[k * kPanel + n] = n < width ? b_panel[k * b_row + n] : T(0);
          }
        }
        b_panel = panel;
        b_stride = kPanel;
      }
      for (int64_t m0 = 0; m0 < rows; m0 += kTileRows) {
        const int64_t height = rows - m0 < kTileRows ? rows - m0 : kTileRows;
        const T* a_tile = a + m0 * a_row + k0 * a_col;
        T* c_tile = c + m0 * c_row + n0;
        T* target = c_tile;
        int64_t target_row = c_row;
        if (is_ragged) {
          target = edge;
          target_row = kPanel;
          for (int64_t m = 0; add && m < height; ++m) {
            for (int64_t n = 0; n < width; ++n) edge[m * kPanel + n] = c_tile[m * c_row + n];
          }
        }
        if (width <= kWidth) {
          tile_rows<T, kBytes, 1>(height, add, block, a_tile, a_row, a_col, b_panel, b_stride,
                                  target, target_row);
        } else {
          tile_rows<T, kBytes, kTileVectors>(height, add, block, a_tile, a_row, a_col, b_panel,
                                             b_stride, target, target_row);
        }
        for (int64_t m = 0; is_ragged && m < height; ++m) {
          for (int64_t n = 0; n < width; ++n) c_tile[m * c_row + n] = edge[m * kPanel + n];
        }
      }
    }
  }
}

// C[kRows, kColumns] (+)= sum over l, q of X[l,:,q] G[l,:,q]^T. Whole vectors of q first, their lanes
// added pairwise at the end, then what is left of each row.
template <typename T, int kBytes, int kRows, int kColumns>
NSDBENCH_INLINE void dot_tile(bool accumulate, int64_t lead, int64_t depth, int64_t row_stride,
                              const T* x, int64_t x_lead, const T* g, int64_t g_lead, T* c,
                              int64_t c_row) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  const int64_t whole = depth / kWidth * kWidth;
  V sum[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v) sum[r][v] = V{};
  }
  for (int64_t l = 0; l < lead; ++l) {
    const T* x_l = x + l * x_lead;
    const T* g_l = g + l * g_lead;
    for (int64_t q = 0; q < whole; q += kWidth) {
      V g_row[kColumns];
#pragma GCC unroll 4
      for (int v = 0; v < kColumns; ++v) {
        g_row[v] = *reinterpret_cast<const V*>(g_l + v * row_stride + q);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const V x_row = *reinterpret_cast<const V*>(x_l + r * row_stride + q);
#pragma GCC unroll 4
        for (int v = 0; v < kColumns; ++v) sum[r][v] += x_row * g_row[v];
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v) {
      T lanes[kWidth];
      std::memcpy(lanes, &sum[r][v], sizeof(lanes));
#pragma GCC unroll 4
      for (int64_t half = kWidth / 2; half > 0; half /= 2) {
        for (int64_t w = 0; w < half; ++w) lanes[w] += lanes[w + half];
      }
      T* target = c + r * c_row + v;
      *target = accumulate ? *target + lanes[0] : lanes[0];
    }
  }
  if (whole == depth) return;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kColumns; ++v) {
      T rest = 0;
      for (int64_t l = 0; l < lead; ++l) {
        for (int64_t q = whole; q < depth; ++q) {
          rest += x[l * x_lead + r * row_stride + q] * g[l * g_lead + v * row_stride + q];
        }
      }
      c[r * c_row + v] += rest;
    }
  }
}

template <typename T, int kBytes, int kColumns>
NSDBENCH_INLINE void dot_rows(int64_t rows, bool accumulate, int64_t lead, int64_t depth,
                              int64_t row_stride, const T* x, int64_t x_lead, const T* g,
                              int64_t g_lead, T* c, int64_t c_row) {
  switch (rows) {
    case 1:
      return dot_tile<T, kBytes, 1, kColumns>(accumulate, lead, depth, row_stride, x, x_lead, g,
                                              g_lead, c, c_row);
    case 2:
      return dot_tile<T, kBytes, 2, kColumns>(accumulate, lead, depth, row_stride, x, x_lead, g,
                                              g_lead, c, c_row);
    case 3:
      return dot_tile<T, kBytes, 3, kColumns>(accumulate, lead, depth, row_stride, x, x_lead, g,
                                              g_lead, c, c_row);
    default:
      return dot_tile<T, kBytes, 4, kColumns>(accumulate, lead, depth, row_stride, x, x_lead, g,
                                              g_lead, c, c_row);
  }
}

// Long dot products are cut into blocks so that the rows of X and G are read from cache by all tiles.
template <typename T, int kBytes>
NSDBENCH_INLINE void multiply_by_transpose_body(int64_t lead, int64_t rows, int64_t columns, int64_t depth,
                              const T* x, int64_t x_lead, const T* g, int64_t g_lead, T* c,
                              int64_t c_row) {
  constexpr int64_t kBlock = 1024;
  constexpr int kColumns = kBytes == 64 ? 4 : 2;  // as many accumulators as registers allow
  for (int64_t q0 = 0; q0 < depth; q0 += kBlock) {
    const int64_t block = depth - q0 < kBlock ? depth - q0 : kBlock;
    const bool add = q0 > 0;
    for (int64_t v = 0; v < columns;) {
      const bool is_full = columns - v >= kColumns;
      for (int64_t s = 0; s < rows; s += kTileRows) {
        const int64_t height = rows - s < kTileRows ? rows - s : kTileRows;
        const T* x_tile = x + s * depth + q0;
        const T* g_tile = g + v * depth + q0;
        T* target = c + s * c_row + v;
        if (is_full) {
          dot_rows<T, kBytes, kColumns>(height, add, lead, block, depth, x_tile, x_lead, g_tile,
                                        g_lead, target, c_row);
        } else {
          dot_rows<T, kBytes, 1>(height, add, lead, block, depth, x_tile, x_lead, g_tile, g_lead,
                                 target, c_row);
        }
      }
      v += is_full ? kColumns : 1;
    }
  }
}

}  // namespace

NSDBENCH_MULTIVERSION(multiply,
                      (bool accumulate, int64_t rows, int64_t columns, int64_t depth, const T* a,
                       int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
                       int64_t c_row),
                      (accumulate, rows, columns, depth, a, a_row, a_col, b, b_row, c, c_row))
NSDBENCH_MULTIVERSION(multiply_by_transpose,
                      (int64_t lead, int64_t rows, int64_t columns, int64_t depth, const T* x,
                       int64_t x_lead, const T* g, int64_t g_lead, T* c, int64_t c_row),
                      (lead, rows, columns, depth, x, x_lead, g, g_lead, c, c_row))

#define NSDBENCH_INSTANTIATE(T)                                                                  \
  template void multiply<T>(bool, int64_t, int64_t, int64_t, const T*, int64_t, int64_t, const T*, \
                            int64_t, T*, int64_t);                                               \
  template void multiply_by_transpose<T>(int64_t, int64_t, int64_t, int64_t, const T*, int64_t,  \
                                         const T*, int64_t, T*, int64_t);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
