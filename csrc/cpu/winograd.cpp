// Every transform works on whole vectors of channels; a tile is 16 of them in registers.

#include "winograd.h"

#include "simd.h"

namespace nsdbench::cpu {
namespace {

// Rows of B^T applied to four values.
template <typename V>
NSDBENCH_INLINE void input_four(const V& a, const V& b, const V& c, const V& d, V* out,
                                int64_t step) {
  out[0] = a - c;
  out[step] = b + c;
  out[2 * step] = c - b;
  out[3 * step] = b - d;
}

// Columns of B^T: its transpose.
template <typename V>
NSDBENCH_INLINE void input_four_transposed(const V& a, const V& b, const V& c, const V& d, V* out,
                                           int64_t step) {
  out[0] = a;
  out[step] = b - c + d;
  out[2 * step] = b + c - a;
  out[3 * step] = -d;
}

// Where tile `t` of a run lies: its image and its first element within a plane.
struct TilePlace {
  int64_t image, row, column;
};

NSDBENCH_INLINE TilePlace place_of(const TileMap& map, int64_t t) {
  const int64_t tiles = map.tiles(), inside = t % tiles;
  return {t / tiles, inside / map.tile_columns() * 2, inside % map.tile_columns() * 2};
}

// Calls body(element of the map, element of the transform) for every vector of channels of a tile.
template <typename T, int kBytes, typename Body>
NSDBENCH_INLINE void for_channels(const TileMap& map, int64_t plane, const Body& body) {
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  for (int64_t block = 0; block < map.blocks(); ++block) {
    for (int64_t lane = 0; lane < kBlock<T>; lane += kWidth) {
      body(block * plane + lane, block * kBlock<T> + lane);
    }
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void input_body(const TileRange& range, const T* a, T* v) {
  using V = typename NativeVector<T, kBytes>::type;
  const TileMap& map = range.map;
  const int64_t row = map.halo_columns() * kBlock<T>;
  for (int64_t t = 0; t < range.count; ++t) {
    const TilePlace place = place_of(map, range.first + t);
    const T* patch = a + place.image * range.image_stride + place.row * row +
                     place.column * kBlock<T>;
    T* target = v + t * map.channels;
    for_channels<T, kBytes>(map, map.halo_plane(),
                            [&](int64_t from, int64_t to) NSDBENCH_INLINE_LAMBDA {
      V half[16], whole[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const T* d = patch + from + i * row;
        input_four<V>(load<V>(d), load<V>(d + kBlock<T>), load<V>(d + 2 * kBlock<T>),
                      load<V>(d + 3 * kBlock<T>), half + 4 * i, 1);
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        input_four<V>(half[j], half[4 + j], half[8 + j], half[12 + j], whole, 1);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          store<V>(target + to + (4 * i + j) * range.position_stride, whole[i]);
        }
      }
    });
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void input_transposed_body(const TileRange& range, const T* v, T* a) {
  using V = typename NativeVector<T, kBytes>::type;
  const TileMap& map = range.map;
  const int64_t row = map.halo_columns() * kBlock<T>;
  for (int64_t t = 0; t < range.count; ++t) {
    const TilePlace place = place_of(map, range.first + t);
    T* patch = a + place.image * range.image_stride + place.row * row + place.column * kBlock<T>;
    const T* source = v + t * map.channels;
    for_channels<T, kBytes>(map, map.halo_plane(),
                            [&](int64_t to, int64_t from) NSDBENCH_INLINE_LAMBDA {
      V half[16], whole[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const T* m = source + from + j * range.position_stride;
        input_four_transposed<V>(load<V>(m), load<V>(m + 4 * range.position_stride),
                                 load<V>(m + 8 * range.position_stride),
                                 load<V>(m + 12 * range.position_stride), half + j, 4);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        input_four_transposed<V>(half[4 * i], half[4 * i + 1], half[4 * i + 2], half[4 * i + 3],
                                 whole, 1);
        T* d = patch + to + i * row;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          store<V>(d + j * kBlock<T>, load<V>(d + j * kBlock<T>) + whole[j]);
        }
      }
    });
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void output_body(const TileRange& range, const T* m, T* z) {
  using V = typename NativeVector<T, kBytes>::type;
  const TileMap& map = range.map;
  const int64_t row = map.columns() * kBlock<T>;
  for (int64_t t = 0; t < range.count; ++t) {
    const TilePlace place = place_of(map, range.first + t);
    T* tile = z + place.image * range.image_stride + place.row * row + place.column * kBlock<T>;
    const T* source = m + t * map.channels;
    for_channels<T, kBytes>(map, map.plane(),
                            [&](int64_t to, int64_t from) NSDBENCH_INLINE_LAMBDA {
      V upper[4], lower[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const T* s = source + from + j * range.position_stride;
        const V first = load<V>(s + 4 * range.position_stride);
        const V second = load<V>(s + 8 * range.position_stride);
        upper[j] = load<V>(s) + (first + second);
        lower[j] = (first - second) - load<V>(s + 12 * range.position_stride);
      }
      store<V>(tile + to, upper[0] + (upper[1] + upper[2]));
      store<V>(tile + to + kBlock<T>, (upper[1] - upper[2]) - upper[3]);
      store<V>(tile + to + row, lower[0] + (lower[1] + lower[2]));
      store<V>(tile + to + row + kBlock<T>, (lower[1] - lower[2]) - lower[3]);
    });
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void output_transposed_body(const TileRange& range, const T* z, T* m) {
  using V = typename NativeVector<T, kBytes>::type;
  const TileMap& map = range.map;
  const int64_t row = map.columns() * kBlock<T>;
  for (int64_t t = 0; t < range.count; ++t) {
    const TilePlace place = place_of(map, range.first + t);
    const T* tile = z + place.image * range.image_stride + place.row * row +
                    place.column * kBlock<T>;
    T* target = m + t * map.channels;
    for_channels<T, kBytes>(map, map.plane(),
                            [&](int64_t from, int64_t to) NSDBENCH_INLINE_LAMBDA {
      const T* d = tile + from;
      const V upper[2] = {load<V>(d), load<V>(d + kBlock<T>)};
      const V lower[2] = {load<V>(d + row), load<V>(d + row + kBlock<T>)};
      V rows[4][2];
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        rows[0][j] = upper[j];
        rows[1][j] = upper[j] + lower[j];
        rows[2][j] = upper[j] - lower[j];
        rows[3][j] = -lower[j];
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        T* out = target + to + 4 * i * range.position_stride;
        store<V>(out, rows[i][0]);
        store<V>(out + range.position_stride, rows[i][0] + rows[i][1]);
        store<V>(out + 2 * range.position_stride, rows[i][0] - rows[i][1]);
        store<V>(out + 3 * range.position_stride, -rows[i][1]);
      }
    });
  }
}

// Offset of row `in`, column `out` of a matrix in panels.
NSDBENCH_INLINE int64_t panel_offset(const WeightSizes& sizes, int64_t in, int64_t out) {
  const int64_t first = out / sizes.panel * sizes.panel;
  return first * sizes.in + in * sizes.panel_width(first) + (out - first);
}

template <typename T, int kBytes>
NSDBENCH_INLINE void weight_body(const WeightSizes& sizes, bool transposed, const T* weight,
                                 int64_t begin, int64_t end, T* u) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  const int64_t in_stride = transposed ? 9 * sizes.out : 9;
  const int64_t out_stride = transposed ? 9 : 9 * sizes.in;
  for (int64_t in = begin; in < end; ++in) {
    for (int64_t out = 0; out < sizes.out_padded; out += kWidth) {
      T tap[9][kWidth];
      for (int64_t lane = 0; lane < kWidth; ++lane) {
        const T* g = weight + in * in_stride + (out + lane) * out_stride;
        for (int k = 0; k < 9; ++k) tap[k][lane] = out + lane < sizes.out ? g[k] : T(0);
      }
      V rows[4][3];
      for (int j = 0; j < 3; ++j) {
        const V a = load<V>(tap[j]), b = load<V>(tap[3 + j]), c = load<V>(tap[6 + j]);
        rows[0][j] = a;
        rows[1][j] = T(0.5) * (a + b + c);
        rows[2][j] = T(0.5) * (a - b + c);
        rows[3][j] = c;
      }
      T* target = u + panel_offset(sizes, in, out);
      for (int i = 0; i < 4; ++i) {
        const V a = rows[i][0], b = rows[i][1], c = rows[i][2];
        T* position = target + 4 * i * sizes.matrix();
        store<V>(position, a);
        store<V>(position + sizes.matrix(), T(0.5) * (a + b + c));
        store<V>(position + 2 * sizes.matrix(), T(0.5) * (a - b + c));
        store<V>(position + 3 * sizes.matrix(), c);
      }
    }
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void weight_transposed_body(const WeightSizes& sizes, const T* du, int64_t parts,
                                            int64_t part_stride, int64_t begin, int64_t end,
                                            T* grad_weight) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  for (int64_t in = begin; in < end; ++in) {
    for (int64_t out = 0; out < sizes.out_padded; out += kWidth) {
      V sum[4][4];
      const T* first = du + panel_offset(sizes, in, out);
      for (int p = 0; p < 16; ++p) {
        const T* source = first + p * sizes.matrix();
        V total = load<V>(source);
        for (int64_t part = 1; part < parts; ++part) total += load<V>(source + part * part_stride);
        sum[p / 4][p % 4] = total;
      }
      V rows[3][4];
      for (int j = 0; j < 4; ++j) {
        const V both = T(0.5) * (sum[1][j] + sum[2][j]);
        rows[0][j] = sum[0][j] + both;
        rows[1][j] = T(0.5) * (sum[1][j] - sum[2][j]);
        rows[2][j] = both + sum[3][j];
      }
      T tap[9][kWidth];
      for (int i = 0; i < 3; ++i) {
        const V both = T(0.5) * (rows[i][1] + rows[i][2]);
        store<V>(tap[3 * i], rows[i][0] + both);
        store<V>(tap[3 * i + 1], T(0.5) * (rows[i][1] - rows[i][2]));
        store<V>(tap[3 * i + 2], both + rows[i][3]);
      }
      for (int64_t lane = 0; lane < kWidth && out + lane < sizes.out; ++lane) {
        T* g = grad_weight + ((out + lane) * sizes.in + in) * 9;
        for (int k = 0; k < 9; ++k) g[k] = tap[k][lane];
      }
    }
  }
}

NSDBENCH_MULTIVERSION(input, (const TileRange& range, const T* a, T* v), (range, a, v))
NSDBENCH_MULTIVERSION(input_transposed, (const TileRange& range, const T* v, T* a), (range, v, a))
NSDBENCH_MULTIVERSION(output, (const TileRange& range, const T* m, T* z), (range, m, z))
NSDBENCH_MULTIVERSION(output_transposed, (const TileRange& range, const T* z, T* m), (range, z, m))
NSDBENCH_MULTIVERSION(weight,
                      (const WeightSizes& sizes, bool transposed, const T* g, int64_t begin,
                       int64_t end, T* u),
                      (sizes, transposed, g, begin, end, u))
NSDBENCH_MULTIVERSION(weight_transposed,
                      (const WeightSizes& sizes, const T* du, int64_t parts, int64_t part_stride,
                       int64_t begin, int64_t end, T* g),
                      (sizes, du, parts, part_stride, begin, end, g))

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
void transform_weight_transposed(const WeightSizes& sizes, const T* du, int64_t parts,
                                 int64_t part_stride, int64_t begin, int64_t end, T* grad_weight) {
  weight_transposed<T>(sizes, du, parts, part_stride, begin, end, grad_weight);
}

#define NSDBENCH_INSTANTIATE(T)                                                                    \
  template void transform_input<T>(const TileRange&, const T*, T*);                                \
  template void transform_input_transposed<T>(const TileRange&, const T*, T*);                     \
  template void transform_output<T>(const TileRange&, const T*, T*);                               \
  template void transform_output_transposed<T>(const TileRange&, const T*, T*);                    \
  template void transform_weight<T>(const WeightSizes&, bool, const T*, int64_t, int64_t, T*);     \
  template void transform_weight_transposed<T>(const WeightSizes&, const T*, int64_t, int64_t,     \
                                               int64_t, int64_t, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
