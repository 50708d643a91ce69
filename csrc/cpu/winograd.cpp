// Every transform works on whole vectors of channels: a patch is 16 or 36 of them. Its rows are
// transformed first, then its columns.

#include "winograd.h"

#include "simd.h"
#include "winograd_maps.h"

namespace nsdbench::cpu {
namespace {

// Where tile `t` of a run lies: its image and its first element within a plane.
struct TilePlace {
  int64_t image, row, column;
};

NSDBENCH_INLINE TilePlace place_of(const TileMap& map, int64_t t) {
  const int64_t tiles = map.tiles(), inside = t % tiles;
  return {t / tiles, inside / map.tile_columns() * map.tile,
          inside % map.tile_columns() * map.tile};
}

// Calls body(element of the map, element of the transform) for every vector of channels of every
// tile of a run; the map's planes and rows are so many elements.
template <typename T, int kBytes, typename Body>
NSDBENCH_INLINE void for_vectors(const TileRange& range, int64_t plane, int64_t row,
                                 const Body& body) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  const TileMap& map = range.map;
  for (int64_t t = 0; t < range.count; ++t) {
    const TilePlace place = place_of(map, range.first + t);
    const int64_t tile =
        place.image * range.image_stride + place.row * row + place.column * kBlock<T>;
    for (int64_t block = 0; block < map.blocks(); ++block) {
      for (int64_t lane = 0; lane < kBlock<T>; lane += kWidth) {
        body(tile + block * plane + lane, t * map.channels + block * kBlock<T> + lane);
      }
    }
  }
}

template <typename T, int kBytes, typename F>
NSDBENCH_INLINE void input_tiles(const TileRange& range, const T* a, T* v) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int n = F::kIn;
  const int64_t row = range.map.halo_columns() * kBlock<T>, step = range.position_stride;
  for_vectors<T, kBytes>(range, range.map.halo_plane(), row,
                         [&](int64_t from, int64_t to) NSDBENCH_INLINE_LAMBDA {
    V half[n][n], line[n], whole[n];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) line[j] = load<V>(a + from + i * row + j * kBlock<T>);
      F::template input<T>(line, half[i]);
    }
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) {
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) line[i] = half[i][j];
      F::template input<T>(line, whole);
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) store<V>(v + to + (n * i + j) * step, whole[i]);
    }
  });
}

template <typename T, int kBytes, typename F>
NSDBENCH_INLINE void input_transposed_tiles(const TileRange& range, const T* v, T* a) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int n = F::kIn;
  const int64_t row = range.map.halo_columns() * kBlock<T>, step = range.position_stride;
  for_vectors<T, kBytes>(range, range.map.halo_plane(), row,
                         [&](int64_t to, int64_t from) NSDBENCH_INLINE_LAMBDA {
    V half[n][n], line[n], whole[n];
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) {
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) line[i] = load<V>(v + from + (n * i + j) * step);
      F::template input_transposed<T>(line, half[j]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) line[j] = half[j][i];
      F::template input_transposed<T>(line, whole);
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) {
        T* target = a + to + i * row + j * kBlock<T>;
        store<V>(target, load<V>(target) + whole[j]);
      }
    }
  });
}

template <typename T, int kBytes, typename F>
NSDBENCH_INLINE void output_tiles(const TileRange& range, const T* m, T* z) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int n = F::kIn;
  const int64_t row = range.map.columns() * kBlock<T>, step = range.position_stride;
  for_vectors<T, kBytes>(range, range.map.plane(), row,
                         [&](int64_t to, int64_t from) NSDBENCH_INLINE_LAMBDA {
    V half[n][F::kOut], line[n], whole[F::kOut];
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) {
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) line[i] = load<V>(m + from + (n * i + j) * step);
      F::template output<T>(line, half[j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < F::kOut; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) line[j] = half[j][i];
      F::template output<T>(line, whole);
#pragma GCC unroll 4
      for (int j = 0; j < F::kOut; ++j) store<V>(z + to + i * row + j * kBlock<T>, whole[j]);
    }
  });
}

template <typename T, int kBytes, typename F>
NSDBENCH_INLINE void output_transposed_tiles(const TileRange& range, const T* z, T* m) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int n = F::kIn;
  const int64_t row = range.map.columns() * kBlock<T>, step = range.position_stride;
  for_vectors<T, kBytes>(range, range.map.plane(), row,
                         [&](int64_t from, int64_t to) NSDBENCH_INLINE_LAMBDA {
    V half[F::kOut][n], line[F::kOut], whole[n];
#pragma GCC unroll 4
    for (int i = 0; i < F::kOut; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < F::kOut; ++j) line[j] = load<V>(z + from + i * row + j * kBlock<T>);
      F::template output_transposed<T>(line, half[i]);
    }
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) {
#pragma GCC unroll 4
      for (int i = 0; i < F::kOut; ++i) line[i] = half[i][j];
      F::template output_transposed<T>(line, whole);
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) store<V>(m + to + (n * i + j) * step, whole[i]);
    }
  });
}

// Offset of row `in`, column `out` of a matrix in panels.
NSDBENCH_INLINE int64_t panel_offset(const WeightSizes& sizes, int64_t in, int64_t out) {
  const int64_t first = out / sizes.panel * sizes.panel;
  return first * sizes.in + in * sizes.panel_width(first) + (out - first);
}

// Offset of row `in`, column `out` and tap 0 of a sum of gradients; taps are kBlock apart.
template <typename T>
NSDBENCH_INLINE int64_t tap_offset(const WeightSizes& sizes, int64_t in, int64_t out) {
  return (in * sizes.out_padded + out / kBlock<T> * kBlock<T>) * 9 + out % kBlock<T>;
}

template <typename T, int kBytes, typename F>
NSDBENCH_INLINE void weight_vectors(const WeightSizes& sizes, bool transposed, const T* weight,
                                    int64_t begin, int64_t end, T* u) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  constexpr int n = F::kIn;
  const int64_t in_stride = transposed ? 9 * sizes.out : 9;
  const int64_t out_stride = transposed ? 9 : 9 * sizes.in;
  for (int64_t in = begin; in < end; ++in) {
    for (int64_t out = 0; out < sizes.out_padded; out += kWidth) {
      T tap[9][kWidth];
      for (int64_t lane = 0; lane < kWidth; ++lane) {
        const T* g = weight + in * in_stride + (out + lane) * out_stride;
        for (int k = 0; k < 9; ++k) tap[k][lane] = out + lane < sizes.out ? g[k] : T(0);
      }
      V half[3][n], line[3], whole[n];
#pragma GCC unroll 6
      for (int j = 0; j < 3; ++j) {
#pragma GCC unroll 6
        for (int i = 0; i < 3; ++i) line[i] = load<V>(tap[3 * i + j]);
        F::template weight<T>(line, half[j]);
      }
      T* target = u + panel_offset(sizes, in, out);
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) {
#pragma GCC unroll 6
        for (int j = 0; j < 3; ++j) line[j] = half[j][i];
        F::template weight<T>(line, whole);
#pragma GCC unroll 6
        for (int j = 0; j < n; ++j) store<V>(target + (n * i + j) * sizes.matrix(), whole[j]);
      }
    }
  }
}

template <typename T, int kBytes, typename F>
NSDBENCH_INLINE void weight_transposed_vectors(const WeightSizes& sizes, const T* du, T* taps) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  constexpr int n = F::kIn;
  for (int64_t in = 0; in < sizes.in; ++in) {
    for (int64_t out = 0; out < sizes.out_padded; out += kWidth) {
      const T* source = du + panel_offset(sizes, in, out);
      V half[n][3], line[n], whole[3];
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) {
#pragma GCC unroll 6
        for (int i = 0; i < n; ++i) line[i] = load<V>(source + (n * i + j) * sizes.matrix());
        F::template weight_transposed<T>(line, half[j]);
      }
      T* target = taps + tap_offset<T>(sizes, in, out);
#pragma GCC unroll 6
      for (int i = 0; i < 3; ++i) {
#pragma GCC unroll 6
        for (int j = 0; j < n; ++j) line[j] = half[j][i];
        F::template weight_transposed<T>(line, whole);
#pragma GCC unroll 6
        for (int j = 0; j < 3; ++j) store<V>(target + (3 * i + j) * kBlock<T>, whole[j]);
      }
    }
  }
}

// `name_body` for both sizes of tile.
#define NSDBENCH_BOTH_TILES(name, function, tile, parameters, arguments) \
  template <typename T, int kBytes>                                      \
  NSDBENCH_INLINE void name##_body parameters {                          \
    if (tile == FourByFour::kOut) {                                      \
      function<T, kBytes, FourByFour> arguments;                         \
    } else {                                                             \
      function<T, kBytes, TwoByTwo> arguments;                           \
    }                                                                    \
  }                                                                      \
  NSDBENCH_MULTIVERSION(name, parameters, arguments)

NSDBENCH_BOTH_TILES(input, input_tiles, range.map.tile,
                    (const TileRange& range, const T* a, T* v), (range, a, v))
NSDBENCH_BOTH_TILES(input_transposed, input_transposed_tiles, range.map.tile,
                    (const TileRange& range, const T* v, T* a), (range, v, a))
NSDBENCH_BOTH_TILES(output, output_tiles, range.map.tile,
                    (const TileRange& range, const T* m, T* z), (range, m, z))
NSDBENCH_BOTH_TILES(output_transposed, output_transposed_tiles, range.map.tile,
                    (const TileRange& range, const T* z, T* m), (range, z, m))
NSDBENCH_BOTH_TILES(weight, weight_vectors, sizes.tile,
                    (const WeightSizes& sizes, bool transposed, const T* g, int64_t begin,
                     int64_t end, T* u),
                    (sizes, transposed, g, begin, end, u))
NSDBENCH_BOTH_TILES(weight_transposed, weight_transposed_vectors, sizes.tile,
                    (const WeightSizes& sizes, const T* du, T* g), (sizes, du, g))

}  // namespace

template <typename T>
void transform_input(const TileRange& range, const T* a, T* v) {
  input<T>(range, a, v);
}

template <typename T>
void transform_input_transposed(const TileRange& range, const T* v, T* a) {
  input_transposed<T>(range, v, a);
}

template <typename T>
void transform_output(const TileRange& range, const T* m, T* z) {
  output<T>(range, m, z);
}

template <typename T>
void transform_output_transposed(const TileRange& range, const T* z, T* m) {
  output_transposed<T>(range, z, m);
}

template <typename T>
void transform_weight(const WeightSizes& sizes, bool transposed, const T* g, int64_t begin,
                      int64_t end, T* u) {
  weight<T>(sizes, transposed, g, begin, end, u);
}

template <typename T>
void transform_weight_transposed(const WeightSizes& sizes, const T* du, T* g) {
  weight_transposed<T>(sizes, du, g);
}

template <typename T>
void write_weight_gradient(const WeightSizes& sizes, const T* g, int64_t begin, int64_t end,
                           T* grad_weight) {
  for (int64_t in = begin; in < end; ++in) {
    for (int64_t out = 0; out < sizes.out; ++out) {
      const T* source = g + tap_offset<T>(sizes, in, out);
      T* target = grad_weight + (out * sizes.in + in) * 9;
      for (int64_t k = 0; k < 9; ++k) target[k] = source[k * kBlock<T>];
    }
  }
}

#define NSDBENCH_INSTANTIATE(T)                                                                  \
  template void transform_input<T>(const TileRange&, const T*, T*);                              \
  template void transform_input_transposed<T>(const TileRange&, const T*, T*);                   \
  template void transform_output<T>(const TileRange&, const T*, T*);                             \
  template void transform_output_transposed<T>(const TileRange&, const T*, T*);                  \
  template void transform_weight<T>(const WeightSizes&, bool, const T*, int64_t, int64_t, T*);   \
  template void transform_weight_transposed<T>(const WeightSizes&, const T*, T*);                \
  template void write_weight_gradient<T>(const WeightSizes&, const T*, int64_t, int64_t, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
