// Accumulators stay in registers: 6 rows x 4 vectors or 12 x 2 with 32 registers (AVX-512), 6 x 2
// with 16. Weights of 128 channels at 16 positions do not fit the second-level cache, so while a
// panel is multiplied, the next one is fetched: without, a fifth of the time goes into waiting for
// it.

#include "tile_product.h"

#include "simd.h"

namespace nsdbench::cpu {
namespace {

constexpr int kTileRows = 6;
template <int kBytes>
inline constexpr int kTileVectors = kBytes == 64 ? 4 : 2;

// Cache lines that will be wanted soon are fetched, each once: so many in a step of a tile that starts
// from 0, into the second-level cache. In a step of a tile that is added to it is one, with AVX-512
// into the first-level cache, as it is mostly a line of the next tile of C.
template <int kBytes>
inline constexpr int kFetches = kBytes == 64 ? 2 : 1;
template <int kBytes>
inline constexpr int kLocality = kBytes == 64 ? 3 : 2;

template <typename T>
struct Ahead {
  const T *next, *end;
  int64_t step;

  template <int kWhere>
  NSDBENCH_INLINE void fetch() {
    __builtin_prefetch(next, 0, kWhere);
    if (next < end) next += step;
  }
};

template <typename T, int kBytes, int kRows, int kVectors>
NSDBENCH_INLINE void tile(bool accumulate, int64_t depth, const T* a, int64_t a_row, int64_t a_col,
                          const T* b, int64_t b_row, T* c, int64_t c_row, Ahead<T>& ahead) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  V sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = accumulate ? load<V>(c + r * c_row + v * kWidth) : V{};
    }
  }
  const auto add_products = [&](int64_t k) NSDBENCH_INLINE_LAMBDA {
    V row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = load<V>(b + k * b_row + v * kWidth);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const T factor = a[r * a_row + k * a_col];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * row[v];
    }
  };
  if (accumulate) {
    for (int64_t k = 0; k < depth; ++k) {
      ahead.template fetch<kLocality<kBytes>>();
      add_products(k);
    }
  } else {
    for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 2
      for (int n = 0; n < kFetches<kBytes>; ++n) ahead.template fetch<2>();
      add_products(k);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store<V>(c + r * c_row + v * kWidth, sum[r][v]);
  }
}

// All rows of `kVectors` vectors of columns. A dense C that is added to is fetched a tile ahead,
// else what lies behind B, as it will be read if it is the next panel.
template <typename T, int kBytes, int kVectors>
NSDBENCH_INLINE void columns_of_tiles(bool accumulate, int64_t rows, int64_t depth, const T* a,
                                      int64_t a_row, int64_t a_col, const T* b, int64_t b_row,
                                      T* c, int64_t c_row) {
  constexpr int64_t kColumns = kVectors * NativeVector<T, kBytes>::kWidth;
  const bool fetches_c = accumulate && c_row == kColumns;
  const T* behind = b + depth * b_row;
  Ahead<T> ahead{behind, behind + depth * b_row, b_row == kColumns ? kBlock<T> : b_row};
  int64_t m = 0;
  if constexpr (kBytes == 64 && kVectors <= 2) {
    for (; m + 2 * kTileRows <= rows; m += 2 * kTileRows) {
      if (fetches_c) {
        ahead = {c + (m + 2 * kTileRows) * c_row, c + (m + 4 * kTileRows) * c_row, kBlock<T>};
      }
      tile<T, kBytes, 2 * kTileRows, kVectors>(accumulate, depth, a + m * a_row, a_row, a_col, b,
                                               b_row, c + m * c_row, c_row, ahead);
    }
  }
  for (; m + kTileRows <= rows; m += kTileRows) {
    if (fetches_c) {
      ahead = {c + (m + kTileRows) * c_row, c + (m + 2 * kTileRows) * c_row, kBlock<T>};
    }
    tile<T, kBytes, kTileRows, kVectors>(accumulate, depth, a + m * a_row, a_row, a_col, b, b_row,
                                         c + m * c_row, c_row, ahead);
  }
  a += m * a_row;
  c += m * c_row;
#define NSDBENCH_LAST_ROWS(count)                                                              \
  case count:                                                                                  \
    return tile<T, kBytes, count, kVectors>(accumulate, depth, a, a_row, a_col, b, b_row, c,   \
                                            c_row, ahead);
  switch (rows - m) {
    NSDBENCH_LAST_ROWS(1)
    NSDBENCH_LAST_ROWS(2)
    NSDBENCH_LAST_ROWS(3)
    NSDBENCH_LAST_ROWS(4)
    NSDBENCH_LAST_ROWS(5)
  }
#undef NSDBENCH_LAST_ROWS
}

template <typename T, int kBytes>
NSDBENCH_INLINE void run_body(bool accumulate, int64_t rows, int64_t columns,
                                       int64_t depth, const T* a, int64_t a_row, int64_t a_col,
                                       const T* b, int64_t b_row, T* c, int64_t c_row) {
  constexpr int kVectors = kTileVectors<kBytes>;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  int64_t n = 0;
  for (; n + kVectors * kWidth <= columns; n += kVectors * kWidth) {
    columns_of_tiles<T, kBytes, kVectors>(accumulate, rows, depth, a, a_row, a_col, b + n, b_row,
                                          c + n, c_row);
  }
  if constexpr (kBytes == 64) {  // narrower vectors divide a block evenly
    switch ((columns - n) / kWidth) {
      case 1:
        return columns_of_tiles<T, kBytes, 1>(accumulate, rows, depth, a, a_row, a_col, b + n,
                                              b_row, c + n, c_row);
      case 2:
        return columns_of_tiles<T, kBytes, 2>(accumulate, rows, depth, a, a_row, a_col, b + n,
                                              b_row, c + n, c_row);
      case 3:
        return columns_of_tiles<T, kBytes, 3>(accumulate, rows, depth, a, a_row, a_col, b + n,
                                              b_row, c + n, c_row);
      default:
        return;
    }
  }
}

NSDBENCH_MULTIVERSION(run,
                      (bool accumulate, int64_t rows, int64_t columns, int64_t depth, const T* a,
                       int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
                       int64_t c_row),
                      (accumulate, rows, columns, depth, a, a_row, a_col, b, b_row, c, c_row))

}  // namespace

template <typename T>
void tile_product(bool accumulate, int64_t rows, int64_t columns, int64_t depth, const T* a,
                  int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c, int64_t c_row) {
  run<T>(accumulate, rows, columns, depth, a, a_row, a_col, b, b_row, c, c_row);
}

#define NSDBENCH_INSTANTIATE(T)                                                                  \
  template void tile_product<T>(bool, int64_t, int64_t, int64_t, const T*, int64_t, int64_t,     \
                                const T*, int64_t, T*, int64_t);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
