// The first block of a ConvNet in one kernel a pass: convolution of 1 or 3 channels, instance norm, ReLU
// and 2x2 mean pool; forward, its tangent, the gradients of the parameters, and their tangent with that
// of the images' gradient.
//
// Formulas, with the names used below, and the count of work: first_block.h. Layout: x [N, C_in, H, W];
// pooled tensors [N, h, w, C], channels innermost; moments [2, N, C]; parameters as the network has them;
// all row-major and contiguous. Image numbers and offsets of images are 64-bit, indices within an image
// 32-bit: neither an image with its padding nor a pooled map has more than kMaxFirstBlock elements.
//
// pad_images_kernel copies the images into rows that a tile may read without looking for their ends,
// [C_in, padded rows, pitch], zero outside, and averages the patches of an image.
//   grid    x: images       block   256 threads
//
// The passes: a tile is 2 rows and 4 columns of the map, two windows of the pool; tiles are cut by the
// ends of the map.
//   grid    x: images, groups of 32 channels innermost
//   block   256 threads: 32 / kPerLane lanes, each with kPerLane channels, times the slices
//   lane    channels lane, lane + lanes, ..: neighbours own neighbouring channels; the channel's weights
//           stay in registers, and all lanes read the same pixels
//   slice   tiles slice, slice + slices, .. of the image
// In double the sums of dz P run over one channel of the image at a time, to stay in registers.
// A lane computes two maps at once for each pixel it reads: two channels, or z and z_t of one channel
// (in double one channel, or z and z_t). first_block_images_bwd_jvp_kernel adds up a tile's 4x6 pixels over
// the 32 channels of a warp and leaves them to gather_images_kernel, a thread for each pixel of x.
// sum_first_block_kernel:
//   grid    x: tiles of 32 columns (a tap or gamma or beta, and a channel)
//   block   32 x 8 threads: x a column; y: images y, y + 8, ..
//
// Shared memory: at most 26624 bytes a block (in double: sums of 9 taps and 4 more, 32 channels, 8 warps).
// Passes over memory: images are read once from memory, then twice a pass from cache; pooled tensors are
// read twice, from cache the second time, and written once.
// Reduction order: in a tile rows of pixels first, then a slice's tiles ascending (for the weights one element
// after another); then the slices of a warp, then the warps ascending; over the images every eighth ascending,
// then the eight sums. Images: over the lanes as a tree, then groups of channels and tiles ascending. No
// atomics: equal calls give equal bits, and those of an image do not depend on the rest of the batch.
// Accuracy: everything in scalar_t; the variance is of values centred by the mean of the patches.
// Reference and CPU twin: nsdbench/ops/first_block.py, composed of convolutions and the norm block.

#pragma once

#include <cmath>
#include <cstdint>

#include "first_block.h"
#include "inorm_relu_pool_nhwc.cuh"

namespace nsdbench::kernels {

constexpr int kFirstThreads = 256;
constexpr int kFirstWarps = kFirstThreads / simt::kWarpSize;
constexpr int kFirstChannels = 32;                 // of a block
constexpr int kTileRows = 2, kTileColumns = 4;     // of the map
constexpr int kPatchRows = 4, kPatchColumns = 6;   // of the image, what a tile sees
constexpr int kPatch = kPatchRows * kPatchColumns;
constexpr int kFirstSumColumns = 32, kFirstSumRows = 8;
constexpr int64_t kMaxFirstBlock = int64_t{1} << 30;

// Channels of a lane where no tangent runs along.
template <typename scalar_t>
constexpr int kFirstPerLane = sizeof(scalar_t) == 4 ? 2 : 1;

// Sizes of everything within an image.
struct FirstBlockMap {
  int height, width;                      // of the map
  int tile_rows, tiles_in_row, tiles;     // of the map
  int pitch, padded_plane;                // of a channel of the padded image; the pitch is 4 n
  int channels, pooled_width, pooled_size;  // pooled_size: of all channels
};

inline FirstBlockMap first_block_map(const FirstBlockSizes& sizes) {
  FirstBlockMap map;
  map.height = static_cast<int>(sizes.map_height());
  map.width = static_cast<int>(sizes.map_width());
  map.tile_rows = (map.height + kTileRows - 1) / kTileRows;
  map.tiles_in_row = (map.width + kTileColumns - 1) / kTileColumns;
  map.tiles = map.tile_rows * map.tiles_in_row;
  map.pitch = kTileColumns * map.tiles_in_row + 4;
  map.padded_plane = (kTileRows * map.tile_rows + 2) * map.pitch;
  map.channels = static_cast<int>(sizes.channels);
  map.pooled_width = map.width / 2;
  map.pooled_size = map.height / 2 * map.pooled_width * map.channels;
  return map;
}

// The point at which everything is evaluated, and what the passes share.
template <typename scalar_t>
struct FirstBlockPoint {
  const scalar_t* padded;   // [N, C_in, padded_rows, pitch]
  const scalar_t* patches;  // [N, 9 C_in] mean(P)
  FirstBlockWeights<scalar_t> weights;
};

// What one thread knows: its channels, its share of the tiles, and the weights of kSets maps a channel.
template <typename scalar_t, int kIn, int kPerLane, bool kTangent>
struct FirstLane {
  using Scalar = scalar_t;
  static constexpr int kLanes = kFirstChannels / kPerLane;
  static constexpr int kSlices = kFirstThreads / kLanes;
  static constexpr int kSets = kTangent ? 2 : 1;  // z, z_t
  static constexpr int kMaps = kPerLane * kSets;
  static constexpr int kTaps = 9 * kIn;

  int64_t image, plane;        // plane: n C, where the image's channels start in [N, C]
  int channel[kPerLane];       // the last one stands in for those beyond
  bool is_owned[kPerLane];     // false beyond the last channel: computed, never written
  int lane, slice;
  const scalar_t* padded;      // of the image
  scalar_t size;               // M
  scalar_t w[kTaps][kMaps];    // maps of a channel are neighbours
  scalar_t gamma[kPerLane], beta[kPerLane], gamma_t[kPerLane], beta_t[kPerLane];
};

template <int kIn, int kPerLane, bool kTangent, typename scalar_t>
SIMT_DEVICE FirstLane<scalar_t, kIn, kPerLane, kTangent> own_lane(
    const FirstBlockMap& map, const FirstBlockPoint<scalar_t>& point,
    const FirstBlockWeights<scalar_t>& tangent) {
  using Lane = FirstLane<scalar_t, kIn, kPerLane, kTangent>;
  const int groups = (map.channels + kFirstChannels - 1) / kFirstChannels;
  Lane own;
  own.image = simt::block_x() / groups;
  own.plane = own.image * map.channels;
  own.lane = simt::thread_x() % Lane::kLanes;
  own.slice = simt::thread_x() / Lane::kLanes;
  own.padded = point.padded + own.image * (int64_t{kIn} * map.padded_plane);
  own.size = static_cast<scalar_t>(map.height * map.width);
  const int first = static_cast<int>(simt::block_x() % groups) * kFirstChannels + own.lane;
  SIMT_UNROLL
  for (int v = 0; v < kPerLane; ++v) {
    const int channel = first + v * Lane::kLanes;
    own.is_owned[v] = channel < map.channels;
    const int c = own.channel[v] = own.is_owned[v] ? channel : map.channels - 1;
    own.gamma[v] = point.weights.gamma[c];
    own.beta[v] = point.weights.beta[c];
    own.gamma_t[v] = kTangent ? tangent.gamma[c] : scalar_t(0);
    own.beta_t[v] = kTangent ? tangent.beta[c] : scalar_t(0);
    SIMT_UNROLL
    for (int k = 0; k < Lane::kTaps; ++k) {
      own.w[k][v * Lane::kSets] = point.weights.weight[c * Lane::kTaps + k];
      if (kTangent) own.w[k][v * Lane::kSets + 1] = tangent.weight[c * Lane::kTaps + k];
    }
  }
  return own;
}

// A tile, and which of its elements are on the map.
struct FirstTile {
  int number, row, column;  // of the map
  int rows, columns;        // on the map, at most kTileRows and kTileColumns
};

SIMT_DEVICE FirstTile tile_at(const FirstBlockMap& map, int number) {
  const int row = number / map.tiles_in_row * kTileRows;
  const int column = number % map.tiles_in_row * kTileColumns;
  return {number, row, column, map.height - row < kTileRows ? map.height - row : kTileRows,
          map.width - column < kTileColumns ? map.width - column : kTileColumns};
}

// Six neighbours in a row of the padded image; the first is aligned as 4 elements, or 2 doubles.
template <typename scalar_t>
SIMT_DEVICE void read_pixels(const scalar_t* from, scalar_t (&pixel)[kPatchColumns]) {
  if constexpr (sizeof(scalar_t) == 4) {
    const Channels<scalar_t, 4> four = read_channels<scalar_t, 4>(from);
    const Channels<scalar_t, 2> two = read_channels<scalar_t, 2>(from + 4);
    SIMT_UNROLL
    for (int n = 0; n < 4; ++n) pixel[n] = four.at[n];
    pixel[4] = two.at[0];
    pixel[5] = two.at[1];
  } else {
    SIMT_UNROLL
    for (int n = 0; n < kPatchColumns; n += 2) {
      const Channels<scalar_t, 2> two = read_channels<scalar_t, 2>(from + n);
      pixel[n] = two.at[0];
      pixel[n + 1] = two.at[1];
    }
  }
}

// Calls body(tap, row, column, pixel) for the 9 taps of one channel of the image and all elements of a tile:
// `pixel` is what the tap 3 kh + kw of the element at (row, column) sees.
template <typename Lane, typename Body>
SIMT_DEVICE void for_each_tap(const FirstBlockMap& map, const Lane& own, const FirstTile& tile,
                              int ci, const Body& body) {
  const auto* from = own.padded + ci * map.padded_plane + tile.row * map.pitch + tile.column;
  SIMT_UNROLL
  for (int r = 0; r < kPatchRows; ++r) {
    typename Lane::Scalar pixel[kPatchColumns];
    read_pixels(from + r * map.pitch, pixel);
    SIMT_UNROLL
    for (int row = 0; row < kTileRows; ++row) {
      const int kh = r - row;
      if (kh < 0 || kh > 2) continue;
      SIMT_UNROLL
      for (int kw = 0; kw < 3; ++kw) {
        SIMT_UNROLL
        for (int column = 0; column < kTileColumns; ++column) {
          body(3 * kh + kw, row, column, pixel[column + kw]);
        }
      }
    }
  }
}

// The maps of a lane on a tile: z, and z_t beside it.
template <typename scalar_t, int kMaps>
struct FirstValues {
  scalar_t at[kTileRows][kTileColumns][kMaps];
};

template <typename scalar_t, int kIn, int kPerLane, bool kTangent>
SIMT_DEVICE auto convolve_tile(const FirstBlockMap& map,
                               const FirstLane<scalar_t, kIn, kPerLane, kTangent>& own,
                               const FirstTile& tile) {
  constexpr int kMaps = FirstLane<scalar_t, kIn, kPerLane, kTangent>::kMaps;
  FirstValues<scalar_t, kMaps> z{};
  SIMT_UNROLL
  for (int ci = 0; ci < kIn; ++ci) {
    for_each_tap(map, own, tile, ci, [&](int tap, int row, int column, scalar_t pixel) {
      SIMT_UNROLL
      for (int m = 0; m < kMaps; ++m) z.at[row][column][m] += own.w[9 * ci + tap][m] * pixel;
    });
  }
  return z;
}

// Calls body(tile, z) for this slice's tiles, ascending.
template <typename Lane, typename Body>
SIMT_DEVICE void for_each_tile(const FirstBlockMap& map, const Lane& own, const Body& body) {
  for (int number = own.slice; number < map.tiles; number += Lane::kSlices) {
    const FirstTile tile = tile_at(map, number);
    body(tile, convolve_tile(map, own, tile));
  }
}

// A tile is added up by itself first: sums stay short, and so accurate.
template <typename scalar_t, int kCount, int kPerLane>
SIMT_DEVICE void add_tile(const scalar_t (&of_tile)[kCount][kPerLane],
                          scalar_t (&sum)[kCount][kPerLane]) {
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) {
    SIMT_UNROLL
    for (int v = 0; v < kPerLane; ++v) sum[k][v] += of_tile[k][v];
  }
}

// Replaces every value by its sum over the slices; all of them receive the same bits. Each use in a kernel
// has its own kStep and so its own shared memory, which makes one barrier enough.
template <int kStep, typename Lane, typename scalar_t, int kCount, int kPerLane>
SIMT_DEVICE void sum_over_tiles(const Lane& own, scalar_t (&value)[kCount][kPerLane]) {
  SIMT_SHARED(scalar_t, partial, kCount * kPerLane * kFirstWarps * Lane::kLanes);
  const int warp = simt::thread_x() / simt::kWarpSize;
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) {
    SIMT_UNROLL
    for (int v = 0; v < kPerLane; ++v) {
      SIMT_UNROLL
      for (int mask = Lane::kLanes; mask < simt::kWarpSize; mask *= 2) {
        value[k][v] += simt::shuffle_xor(value[k][v], mask);
      }
      if (simt::thread_x() % simt::kWarpSize < Lane::kLanes) {
        partial[((k * kPerLane + v) * kFirstWarps + warp) * Lane::kLanes + own.lane] = value[k][v];
      }
    }
  }
  simt::barrier();
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) {
    SIMT_UNROLL
    for (int v = 0; v < kPerLane; ++v) {
      const scalar_t* of_warps =
          partial + (k * kPerLane + v) * kFirstWarps * Lane::kLanes + own.lane;
      value[k][v] = of_warps[0];
      for (int n = 1; n < kFirstWarps; ++n) value[k][v] += of_warps[n * Lane::kLanes];
    }
  }
}

// mean(z), or with set = 1 mean(z_t), of the lane's channel v.
template <typename Lane, typename scalar_t>
SIMT_DEVICE scalar_t mean_of_map(const Lane& own, const scalar_t* patches, int v, int set) {
  scalar_t mean = 0;
  SIMT_UNROLL
  for (int k = 0; k < Lane::kTaps; ++k) {
    mean += own.w[k][v * Lane::kSets + set] * patches[own.image * Lane::kTaps + k];
  }
  return mean;
}

// The moments of the lane's channels: (mean, rstd) and, of the tangent, (mean_t, q).
//   moments, moments_t [2, N, C]
template <typename Lane, typename scalar_t, int kPerLane>
SIMT_DEVICE void read_moments(const Lane& own, int64_t planes, const scalar_t* moments,
                              const scalar_t* moments_t, NormMoments<scalar_t> (&m)[kPerLane]) {
  SIMT_UNROLL
  for (int v = 0; v < kPerLane; ++v) {
    const int64_t plane = own.plane + own.channel[v];
    m[v] = {moments[plane], moments[planes + plane], 0, 0};
    if (moments_t != nullptr) {
      m[v].mean_t = moments_t[plane];
      m[v].q = moments_t[planes + plane];
    }
  }
}

// xhat, y and their tangents of one element of channel v, whose maps are `z`.
template <typename Lane, typename scalar_t, int kMaps>
SIMT_DEVICE NormPoint<scalar_t> point_at(const Lane& own, const NormMoments<scalar_t>& m,
                                         const scalar_t (&z)[kMaps], int v) {
  NormPoint<scalar_t> point{};
  point.xhat = (z[v * Lane::kSets] - m.mean) * m.rstd;
  point.y = own.gamma[v] * point.xhat + own.beta[v];
  if constexpr (Lane::kSets == 2) {
    point.xhat_t = (z[v * Lane::kSets + 1] - m.mean_t - point.xhat * m.q) * m.rstd;
    point.y_t = own.gamma[v] * point.xhat_t + own.gamma_t[v] * point.xhat + own.beta_t[v];
  }
  return point;
}

// A window of a tile, and where its element is in a pooled map of the image.
struct FirstWindow {
  bool is_pooled;
  int offset;  // of channel 0
};

SIMT_DEVICE FirstWindow window_of(const FirstBlockMap& map, const FirstTile& tile, int window) {
  const bool is_pooled = tile.rows == 2 && 2 * window + 1 < tile.columns;
  const int column = tile.column / 2 + window;
  return {is_pooled, (tile.row / 2 * map.pooled_width + column) * map.channels};
}

// Pools max(y, 0), or its tangent.
//   out [N, h, w, C]
template <typename Lane, typename scalar_t, int kPerLane>
SIMT_DEVICE void pool_tiles(const FirstBlockMap& map, const Lane& own,
                            const NormMoments<scalar_t> (&m)[kPerLane], scalar_t* out) {
  out += own.image * map.pooled_size;
  for_each_tile(map, own, [&](const FirstTile& tile, const auto& z) {
    SIMT_UNROLL
    for (int window = 0; window < kTileColumns / 2; ++window) {
      const FirstWindow place = window_of(map, tile, window);
      SIMT_UNROLL
      for (int v = 0; v < kPerLane; ++v) {
        const auto rectified = [&](int row, int column) {
          const auto point = point_at(own, m[v], z.at[row][2 * window + column], v);
          return where_positive(point.y, Lane::kSets == 2 ? point.y_t : point.y);
        };
        const scalar_t left = rectified(0, 0) + rectified(1, 0);
        const scalar_t right = rectified(0, 1) + rectified(1, 1);
        if (place.is_pooled && own.is_owned[v]) {
          out[place.offset + own.channel[v]] = scalar_t(0.25) * (left + right);
        }
      }
    }
  });
}

// grad/4 of the windows of a tile, 0 where the pool drops them.
//   grad [N, h, w, C]
template <typename Lane, typename scalar_t, int kPerLane>
SIMT_DEVICE void read_gradients(const FirstBlockMap& map, const Lane& own, const FirstTile& tile,
                                const scalar_t* grad,
                                scalar_t (&quarter)[kTileColumns / 2][kPerLane]) {
  grad += own.image * map.pooled_size;
  SIMT_UNROLL
  for (int window = 0; window < kTileColumns / 2; ++window) {
    const FirstWindow place = window_of(map, tile, window);
    SIMT_UNROLL
    for (int v = 0; v < kPerLane; ++v) {
      quarter[window][v] =
          place.is_pooled ? scalar_t(0.25) * grad[place.offset + own.channel[v]] : scalar_t(0);
    }
  }
}

// What dz and dz_t come from: the sums over the map of dy, dy xhat and their tangents, and the gradients.
template <typename Lane, typename scalar_t, int kPerLane, int kSums>
struct FirstDifferential {
  const FirstBlockMap& map;
  const Lane& own;
  const NormMoments<scalar_t> (&m)[kPerLane];
  const scalar_t (&sums)[kSums][kPerLane];
  const scalar_t *grad, *grad_t;
};

// dz and dz_t of a tile; 0 off the map.
template <typename Lane, typename scalar_t, int kPerLane, int kSums, int kMaps>
SIMT_DEVICE FirstValues<scalar_t, kMaps> differentiate_tile(
    const FirstDifferential<Lane, scalar_t, kPerLane, kSums>& from, const FirstTile& tile,
    const FirstValues<scalar_t, kMaps>& z) {
  constexpr int kSets = Lane::kSets;
  const Lane& own = from.own;
  scalar_t quarter[kTileColumns / 2][kPerLane], quarter_t[kTileColumns / 2][kPerLane] = {};
  read_gradients(from.map, own, tile, from.grad, quarter);
  if constexpr (kSets == 2) read_gradients(from.map, own, tile, from.grad_t, quarter_t);
  FirstValues<scalar_t, kMaps> dz{};
  SIMT_UNROLL
  for (int v = 0; v < kPerLane; ++v) {
    const NormMoments<scalar_t>& m = from.m[v];
    const scalar_t m1 = from.sums[0][v] / own.size, m2 = from.sums[1][v] / own.size;
    const scalar_t scale = own.gamma[v] * m.rstd;
    SIMT_UNROLL
    for (int row = 0; row < kTileRows; ++row) {
      SIMT_UNROLL
      for (int column = 0; column < kTileColumns; ++column) {
        const auto point = point_at(own, m, z.at[row][column], v);
        const scalar_t dy = where_positive(point.y, quarter[column / 2][v]);
        const scalar_t projected = dy - m1 - point.xhat * m2;
        const bool is_there = row < tile.rows && column < tile.columns;
        scalar_t(&result)[kMaps] = dz.at[row][column];
        result[v * kSets] = is_there ? scale * projected : scalar_t(0);
        if constexpr (kSets == 2) {
          const scalar_t m1_t = from.sums[2][v] / own.size, m2_t = from.sums[3][v] / own.size;
          const scalar_t scale_t = own.gamma_t[v] * m.rstd - scale * m.rstd * m.q;
          const scalar_t dy_t = where_positive(point.y, quarter_t[column / 2][v]);
          const scalar_t projected_t = dy_t - m1_t - point.xhat_t * m2 - point.xhat * m2_t;
          result[v * kSets + 1] =
              is_there ? scale_t * projected + scale * projected_t : scalar_t(0);
        }
      }
    }
  }
  return dz;
}

// Sums over the map of dy, dy xhat and, with a tangent, of dy_t and dy_t xhat + dy xhat_t.
template <typename Lane, typename scalar_t, int kPerLane, int kSums>
SIMT_DEVICE void sum_gradients(const FirstBlockMap& map, const Lane& own,
                               const NormMoments<scalar_t> (&m)[kPerLane], const scalar_t* grad,
                               const scalar_t* grad_t, scalar_t (&sums)[kSums][kPerLane]) {
  for_each_tile(map, own, [&](const FirstTile& tile, const auto& z) {
    scalar_t quarter[kTileColumns / 2][kPerLane], quarter_t[kTileColumns / 2][kPerLane] = {};
    read_gradients(map, own, tile, grad, quarter);
    if constexpr (kSums == 4) read_gradients(map, own, tile, grad_t, quarter_t);
    scalar_t of_tile[kSums][kPerLane] = {};
    SIMT_UNROLL
    for (int row = 0; row < kTileRows; ++row) {
      SIMT_UNROLL
      for (int column = 0; column < kTileColumns; ++column) {
        SIMT_UNROLL
        for (int v = 0; v < kPerLane; ++v) {
          const auto point = point_at(own, m[v], z.at[row][column], v);
          const scalar_t dy = where_positive(point.y, quarter[column / 2][v]);
          of_tile[0][v] += dy;
          of_tile[1][v] += dy * point.xhat;
          if constexpr (kSums == 4) {
            const scalar_t dy_t = where_positive(point.y, quarter_t[column / 2][v]);
            of_tile[2][v] += dy_t;
            of_tile[3][v] += dy_t * point.xhat + dy * point.xhat_t;
          }
        }
      }
    }
    add_tile(of_tile, sums);
  });
  sum_over_tiles<2>(own, sums);
}

// The image's part of the gradient of the weights, or of its tangent: the sum of dz P, or of dz_t P.
//   parts [N, 9 C_in + 2, C]
template <typename Lane, typename scalar_t, int kPerLane, int kSums>
SIMT_DEVICE void sum_weights(
    const FirstBlockMap& map, const Lane& own,
    const FirstDifferential<Lane, scalar_t, kPerLane, kSums>& from, scalar_t* parts) {
  constexpr int kSet = Lane::kSets - 1;
  constexpr int kIn = Lane::kTaps / 9;
  constexpr int kAtOnce = sizeof(scalar_t) == 4 ? kIn : 1;  // channels whose sums fit the registers
  SIMT_SHARED(scalar_t, partial, 9 * kPerLane * kFirstWarps * Lane::kLanes);  // [tap, v, warp, lane]
  const int warp = simt::thread_x() / simt::kWarpSize;
  parts += own.image * (Lane::kTaps + 2) * map.channels;
  for (int first = 0; first < kIn; first += kAtOnce) {
    scalar_t total[9 * kAtOnce][kPerLane] = {};
    for_each_tile(map, own, [&](const FirstTile& tile, const auto& z) {
      const auto dz = differentiate_tile(from, tile, z);
      SIMT_UNROLL
      for (int ci = 0; ci < kAtOnce; ++ci) {
        for_each_tap(map, own, tile, first + ci, [&](int tap, int row, int column, scalar_t pixel) {
          SIMT_UNROLL
          for (int v = 0; v < kPerLane; ++v) {
            total[9 * ci + tap][v] += dz.at[row][column][v * Lane::kSets + kSet] * pixel;
          }
        });
      }
    });
    SIMT_UNROLL
    for (int ci = 0; ci < kAtOnce; ++ci) {
      SIMT_UNROLL
      for (int k = 0; k < 9; ++k) {
        SIMT_UNROLL
        for (int v = 0; v < kPerLane; ++v) {
          scalar_t value = total[9 * ci + k][v];
          SIMT_UNROLL
          for (int mask = Lane::kLanes; mask < simt::kWarpSize; mask *= 2) {
            value += simt::shuffle_xor(value, mask);
          }
          if (simt::thread_x() % simt::kWarpSize < Lane::kLanes) {
            partial[((k * kPerLane + v) * kFirstWarps + warp) * Lane::kLanes + own.lane] = value;
          }
        }
      }
      simt::barrier();
      // The own lane's channels, tap by tap: slices share the taps.
      for (int k = own.slice; k < 9; k += Lane::kSlices) {
        SIMT_UNROLL
        for (int v = 0; v < kPerLane; ++v) {
          const scalar_t* of_warps =
              partial + (k * kPerLane + v) * kFirstWarps * Lane::kLanes + own.lane;
          scalar_t value = of_warps[0];
          for (int n = 1; n < kFirstWarps; ++n) value += of_warps[n * Lane::kLanes];
          if (own.is_owned[v]) {
            parts[(9 * (first + ci) + k) * map.channels + own.channel[v]] = value;
          }
        }
      }
      simt::barrier();
    }
  }
}

// The image's part of the gradients of gamma and beta: the last two rows of `parts`.
template <typename Lane, typename scalar_t, int kPerLane>
SIMT_DEVICE void write_norm_parts(const FirstBlockMap& map, const Lane& own,
                                  const scalar_t (&of_gamma)[kPerLane],
                                  const scalar_t (&of_beta)[kPerLane], scalar_t* parts) {
  if (own.slice != 0) return;
  parts += own.image * (Lane::kTaps + 2) * map.channels + Lane::kTaps * map.channels;
  SIMT_UNROLL
  for (int v = 0; v < kPerLane; ++v) {
    if (!own.is_owned[v]) continue;
    parts[own.channel[v]] = of_gamma[v];
    parts[map.channels + own.channel[v]] = of_beta[v];
  }
}

// Copies an image into padded rows and averages its patches.
//   x [N, C_in, H, W]; padded [N, C_in, padded_rows, pitch]; patches [N, 9 C_in]
template <typename scalar_t, int kIn>
SIMT_KERNEL void pad_images_kernel(FirstBlockMap map, int height, int width, int padding,
                                   const scalar_t* x, scalar_t* padded, scalar_t* patches) {
  const int64_t image = simt::block_x();
  x += image * (int64_t{kIn} * height * width);
  padded += image * (int64_t{kIn} * map.padded_plane);
  for (int n = simt::thread_x(); n < kIn * map.padded_plane; n += kFirstThreads) {
    const int ci = n / map.padded_plane, place = n % map.padded_plane;
    const int h = place / map.pitch - padding, w = place % map.pitch - padding;
    const bool is_there = h >= 0 && h < height && w >= 0 && w < width;
    padded[n] = is_there ? x[(ci * height + h) * width + w] : scalar_t(0);
  }
  simt::barrier();
  const int size = map.height * map.width;
  for (int k = simt::thread_x() / simt::kWarpSize; k < 9 * kIn; k += kFirstWarps) {
    const scalar_t* from = padded + k / 9 * map.padded_plane + k / 3 % 3 * map.pitch + k % 3;
    scalar_t total = 0;
    for (int n = simt::thread_x() % simt::kWarpSize; n < size; n += simt::kWarpSize) {
      total += from[n / map.width * map.pitch + n % map.width];
    }
    for (int mask = simt::kWarpSize / 2; mask > 0; mask /= 2) {
      total += simt::shuffle_xor(total, mask);
    }
    if (simt::thread_x() % simt::kWarpSize == 0) {
      patches[image * (9 * kIn) + k] = total / static_cast<scalar_t>(size);
    }
  }
}

//   out [N, h, w, C]; moments [2, N, C]
template <typename scalar_t, int kIn, int kPerLane>
SIMT_KERNEL void first_block_fwd_kernel(FirstBlockMap map, int64_t planes, scalar_t eps,
                                        FirstBlockPoint<scalar_t> point, scalar_t* out,
                                        scalar_t* moments) {
  const auto own = own_lane<kIn, kPerLane, false>(map, point, FirstBlockWeights<scalar_t>{});
  NormMoments<scalar_t> m[kPerLane] = {};
  SIMT_UNROLL
  for (int v = 0; v < kPerLane; ++v) m[v].mean = mean_of_map(own, point.patches, v, 0);
  scalar_t square[1][kPerLane] = {};
  for_each_tile(map, own, [&](const FirstTile& tile, const auto& z) {
    scalar_t of_tile[1][kPerLane] = {};
    SIMT_UNROLL
    for (int row = 0; row < kTileRows; ++row) {
      SIMT_UNROLL
      for (int column = 0; column < kTileColumns; ++column) {
        const bool is_there = row < tile.rows && column < tile.columns;
        SIMT_UNROLL
        for (int v = 0; v < kPerLane; ++v) {
          const scalar_t centred = is_there ? z.at[row][column][v] - m[v].mean : scalar_t(0);
          of_tile[0][v] += centred * centred;
        }
      }
    }
    add_tile(of_tile, square);
  });
  sum_over_tiles<0>(own, square);
  SIMT_UNROLL
  for (int v = 0; v < kPerLane; ++v) {
    m[v].rstd = 1 / std::sqrt(square[0][v] / own.size + eps);
    if (own.slice == 0 && own.is_owned[v]) {
      moments[own.plane + own.channel[v]] = m[v].mean;
      moments[planes + own.plane + own.channel[v]] = m[v].rstd;
    }
  }
  pool_tiles(map, own, m, out);
}

//   moments, moments_t [2, N, C]; out_t [N, h, w, C]
template <typename scalar_t, int kIn>
SIMT_KERNEL void first_block_jvp_kernel(FirstBlockMap map, int64_t planes,
                                        FirstBlockPoint<scalar_t> point, const scalar_t* moments,
                                        FirstBlockWeights<scalar_t> tangent, scalar_t* out_t,
                                        scalar_t* moments_t) {
  const auto own = own_lane<kIn, 1, true>(map, point, tangent);
  const scalar_t* none = nullptr;
  NormMoments<scalar_t> m[1];
  read_moments(own, planes, moments, none, m);
  m[0].mean_t = mean_of_map(own, point.patches, 0, 1);
  scalar_t product[1][1] = {};
  for_each_tile(map, own, [&](const FirstTile& tile, const auto& z) {
    scalar_t of_tile[1][1] = {};
    SIMT_UNROLL
    for (int row = 0; row < kTileRows; ++row) {
      SIMT_UNROLL
      for (int column = 0; column < kTileColumns; ++column) {
        const bool is_there = row < tile.rows && column < tile.columns;
        const scalar_t xhat =
            is_there ? (z.at[row][column][0] - m[0].mean) * m[0].rstd : scalar_t(0);
        of_tile[0][0] += xhat * (z.at[row][column][1] - m[0].mean_t);
      }
    }
    add_tile(of_tile, product);
  });
  sum_over_tiles<1>(own, product);
  m[0].q = product[0][0] / own.size;
  if (own.slice == 0 && own.is_owned[0]) {
    moments_t[own.plane + own.channel[0]] = m[0].mean_t;
    moments_t[planes + own.plane + own.channel[0]] = m[0].q;
  }
  pool_tiles(map, own, m, out_t);
}

//   grad [N, h, w, C]; moments [2, N, C]; parts [N, 9 C_in + 2, C]
template <typename scalar_t, int kIn, int kPerLane>
SIMT_KERNEL void first_block_bwd_kernel(FirstBlockMap map, int64_t planes, const scalar_t* grad,
                                        FirstBlockPoint<scalar_t> point, const scalar_t* moments,
                                        scalar_t* parts) {
  const auto own = own_lane<kIn, kPerLane, false>(map, point, FirstBlockWeights<scalar_t>{});
  const scalar_t* none = nullptr;
  NormMoments<scalar_t> m[kPerLane];
  read_moments(own, planes, moments, none, m);
  scalar_t sums[2][kPerLane] = {};
  sum_gradients(map, own, m, grad, none, sums);
  write_norm_parts(map, own, sums[1], sums[0], parts);
  using Lane = FirstLane<scalar_t, kIn, kPerLane, false>;
  sum_weights(map, own,
              FirstDifferential<Lane, scalar_t, kPerLane, 2>{map, own, m, sums, grad, none}, parts);
}

//   grad, grad_t [N, h, w, C]; moments, moments_t [2, N, C]; parts [N, 9 C_in + 2, C];
//   sums [4, N, C] of dy, dy xhat, dy_t, dy_t xhat + dy xhat_t, or null
template <typename scalar_t, int kIn>
SIMT_KERNEL void first_block_bwd_jvp_kernel(FirstBlockMap map, int64_t planes,
                                            const scalar_t* grad, FirstBlockPoint<scalar_t> point,
                                            const scalar_t* moments, const scalar_t* grad_t,
                                            FirstBlockWeights<scalar_t> tangent,
                                            const scalar_t* moments_t, scalar_t* parts,
                                            scalar_t* sums_out, bool needs_weight) {
  const auto own = own_lane<kIn, 1, true>(map, point, tangent);
  NormMoments<scalar_t> m[1];
  read_moments(own, planes, moments, moments_t, m);
  scalar_t sums[4][1] = {};
  sum_gradients(map, own, m, grad, grad_t, sums);
  write_norm_parts(map, own, sums[3], sums[2], parts);
  if (sums_out != nullptr && own.slice == 0 && own.is_owned[0]) {
    SIMT_UNROLL
    for (int k = 0; k < 4; ++k) {
      sums_out[k * planes + own.plane + own.channel[0]] = sums[k][0];
    }
  }
  if (!needs_weight) return;
  using Lane = FirstLane<scalar_t, kIn, 1, true>;
  sum_weights(map, own, FirstDifferential<Lane, scalar_t, 1, 4>{map, own, m, sums, grad, grad_t},
              parts);
}

// Exchanges halves with the lane ^ mask: that one keeps the sums of the other half.
template <int kCount, typename scalar_t, int kAll>
SIMT_DEVICE void halve(scalar_t (&value)[kAll], int mask) {
  const bool is_upper = (simt::thread_x() & mask) != 0;
  SIMT_UNROLL
  for (int n = 0; n < kCount / 2; ++n) {
    const scalar_t sent = is_upper ? value[n] : value[n + kCount / 2];
    const scalar_t kept = is_upper ? value[n + kCount / 2] : value[n];
    value[n] = kept + simt::shuffle_xor(sent, mask);
  }
}

// What the 32 channels of a warp give to the 4x6 pixels that a tile sees, of the tangent of the images'
// gradient: the sum over channels and places of dz_t w + dz w_t.
//   sums [4, N, C] as first_block_bwd_jvp_kernel leaves them;
//   pieces [groups, N, tiles, C_in, 4, 6], groups of 32 channels
template <typename scalar_t, int kIn>
SIMT_KERNEL void first_block_images_bwd_jvp_kernel(
    FirstBlockMap map, int64_t planes, const scalar_t* grad, FirstBlockPoint<scalar_t> point,
    const scalar_t* moments, const scalar_t* grad_t, FirstBlockWeights<scalar_t> tangent,
    const scalar_t* moments_t, const scalar_t* sums_in, scalar_t* pieces) {
  const auto own = own_lane<kIn, 1, true>(map, point, tangent);
  NormMoments<scalar_t> m[1];
  read_moments(own, planes, moments, moments_t, m);
  scalar_t sums[4][1];
  SIMT_UNROLL
  for (int k = 0; k < 4; ++k) sums[k][0] = sums_in[k * planes + own.plane + own.channel[0]];
  using Lane = FirstLane<scalar_t, kIn, 1, true>;
  const FirstDifferential<Lane, scalar_t, 1, 4> from{map, own, m, sums, grad, grad_t};
  const int64_t images = planes / map.channels;
  const int groups = (map.channels + kFirstChannels - 1) / kFirstChannels;
  const int64_t group = simt::block_x() % groups;
  pieces += (group * images + own.image) * map.tiles * (kIn * kPatch);
  // After three exchanges of halves a lane has the sums of three neighbouring pixels, from `first` on.
  const int first = (own.lane & 16) / 16 * 12 + (own.lane & 8) / 8 * 6 + (own.lane & 4) / 4 * 3;
  for_each_tile(map, own, [&](const FirstTile& tile, const auto& z) {
    const auto dz = differentiate_tile(from, tile, z);
    SIMT_UNROLL
    for (int ci = 0; ci < kIn; ++ci) {
      scalar_t pixel[kPatch] = {};
      SIMT_UNROLL
      for (int k = 0; k < 9; ++k) {
        SIMT_UNROLL
        for (int row = 0; row < kTileRows; ++row) {
          SIMT_UNROLL
          for (int column = 0; column < kTileColumns; ++column) {
            const scalar_t(&of)[2] = dz.at[row][column];
            const scalar_t value = of[1] * own.w[9 * ci + k][0] + of[0] * own.w[9 * ci + k][1];
            pixel[(row + k / 3) * kPatchColumns + column + k % 3] +=
                own.is_owned[0] ? value : scalar_t(0);
          }
        }
      }
      halve<24>(pixel, 16);
      halve<12>(pixel, 8);
      halve<6>(pixel, 4);
      SIMT_UNROLL
      for (int n = 0; n < 3; ++n) {
        pixel[n] += simt::shuffle_xor(pixel[n], 2);
        pixel[n] += simt::shuffle_xor(pixel[n], 1);
      }
      const int which = own.lane & 3;
      if (which < 3) {
        pieces[(int64_t{tile.number} * kIn + ci) * kPatch + first + which] =
            which == 0 ? pixel[0] : which == 1 ? pixel[1] : pixel[2];
      }
    }
  });
}

// Adds up the pieces of the tiles that see a pixel.
//   grad_x_t [N, C_in, H, W]
template <typename scalar_t, int kIn>
SIMT_KERNEL void gather_images_kernel(FirstBlockMap map, int64_t images, int height, int width,
                                      int padding, const scalar_t* pieces, scalar_t* grad_x_t) {
  const int64_t pixels = images * kIn * height * width;
  const int64_t n = simt::block_x() * kFirstThreads + simt::thread_x();
  if (n >= pixels) return;
  const int w = static_cast<int>(n % width) + padding;
  const int h = static_cast<int>(n / width % height) + padding;
  const int64_t plane = n / width / height;
  const int64_t image = plane / kIn, ci = plane % kIn;
  const int groups = (map.channels + kFirstChannels - 1) / kFirstChannels;
  scalar_t total = 0;
  for (int64_t group = 0; group < groups; ++group) {
    const scalar_t* of_image = pieces + (group * images + image) * map.tiles * (kIn * kPatch);
    for (int i = h / kTileRows - 1; i <= h / kTileRows; ++i) {
      if (i < 0 || i >= map.tile_rows) continue;
      for (int j = w / kTileColumns - 1; j <= w / kTileColumns; ++j) {
        const int row = h - i * kTileRows, column = w - j * kTileColumns;
        if (j < 0 || j >= map.tiles_in_row || column >= kPatchColumns) continue;
        total += of_image[((int64_t{i} * map.tiles_in_row + j) * kIn + ci) * kPatch +
                          row * kPatchColumns + column];
      }
    }
  }
  grad_x_t[n] = total;
}

// Adds up the images' parts.
//   parts [N, taps + 2, C]; weight [C, taps] or null; gamma, beta [C]
template <typename scalar_t>
SIMT_KERNEL void sum_first_block_kernel(int64_t images, int taps, int channels,
                                        const scalar_t* parts,
                                        FirstBlockGradient<scalar_t> gradient) {
  SIMT_SHARED(scalar_t, partial, kFirstSumRows * kFirstSumColumns);
  const int y = simt::thread_y();
  const int columns = (taps + 2) * channels;
  const int64_t column = simt::block_x() * kFirstSumColumns + simt::thread_x();
  const int row = static_cast<int>(column / channels);  // a tap, or gamma, or beta
  const int c = static_cast<int>(column % channels);
  const bool is_wanted = column < columns && (row >= taps || gradient.weight != nullptr);
  scalar_t total = 0;
  for (int64_t n = y; n < images && is_wanted; n += kFirstSumRows) {
    total += parts[n * columns + column];
  }
  partial[y * kFirstSumColumns + simt::thread_x()] = total;
  simt::barrier();
  if (y != 0 || !is_wanted) return;
  for (int n = 1; n < kFirstSumRows; ++n) {
    total += partial[n * kFirstSumColumns + simt::thread_x()];
  }
  if (row < taps) {
    gradient.weight[int64_t{c} * taps + row] = total;
  } else {
    (row == taps ? gradient.gamma : gradient.beta)[c] = total;
  }
}

}  // namespace nsdbench::kernels
