// The kernels of inorm_relu_pool for maps whose channels are innermost, in one pass over memory.
//
// Formulas, with the names used below: inorm_relu_pool.h. Layout: x [N, H, W, C], pooled tensors
// [N, H/2, W/2, C], per-channel tensors [C], all row-major and contiguous. A plane is one (n, c); a cell
// is a 2x2 window of it, also one that an odd side cuts and the pool drops: there are
// ceil(H/2) ceil(W/2). Image numbers and offsets of images are 64-bit, indices within an image 32-bit:
// H W C is at most kMaxImageSize.
//
// Thread-to-data map, all four kernels:
//   grid    x: tiles of 128 / (lanes slices) images, groups of lanes kVector channels innermost
//   block   128 threads: one image or several small ones, up to 16 channels
//   lane    the lanes, a power of two, have kVector channels each: neighbours own neighbouring channels,
//           and a vector is 16 bytes where channels and the addresses of maps allow, else one element
//   slice   the slices, a power of two, share the cells of a plane: slice, slice + slices, ..
//
// A thread keeps its first kNhwcCells cells in registers, 128 bytes of x, which is all of them while a
// plane of floats has at most 64 cells (16x16); further ones are read again in each of the loops, from
// cache as far as it holds the resident planes. Blocks are small, so that those of one multiprocessor
// read, compute and write at different times.
// Shared memory: at most 4096 bytes a block (double; 2048 for float).
// Passes over memory: x, its tangent and the gradients are read once, results are written once.
// Reduction order: in a cell rows first, a thread's cells ascending; then a butterfly over the slices of a
// warp, then the warps of the plane ascending; over the images as sum_over_images_kernel. No atomics: equal
// calls give equal bits, and those of a plane do not depend on the rest of the batch.
// Accuracy: everything in scalar_t; the variance is of centred values.
// Reference: nsdbench/ops/reference/inorm_relu_pool.py. The other layout: inorm_relu_pool.cuh.

#pragma once

#include <cmath>
#include <cstdint>

#include "inorm_relu_pool.cuh"

namespace nsdbench::kernels {

constexpr int kNhwcThreads = 128;
constexpr int kNhwcChannels = 16;  // of a block, at most
constexpr int64_t kMaxImageSize = int64_t{1} << 30;  // indices and their strides fit 32 bits

// Channels of a 16-byte vector, and cells that a thread keeps.
template <typename scalar_t>
constexpr int kNhwcVector = static_cast<int>(16 / sizeof(scalar_t));
template <typename scalar_t, int kVector>
constexpr int kNhwcCells = static_cast<int>(32 / (kVector * sizeof(scalar_t)));

// Neighbouring channels, moved as one.
template <typename scalar_t, int kVector>
struct alignas(kVector * sizeof(scalar_t)) Channels {
  scalar_t at[kVector];
};

template <typename scalar_t, int kVector>
SIMT_DEVICE Channels<scalar_t, kVector> read_channels(const scalar_t* from) {
  return *reinterpret_cast<const Channels<scalar_t, kVector>*>(from);
}

template <typename scalar_t, int kVector>
SIMT_DEVICE void write_channels(scalar_t* to, const Channels<scalar_t, kVector>& value) {
  *reinterpret_cast<Channels<scalar_t, kVector>*>(to) = value;
}

// How the threads of a block are dealt out: powers of two, whose product divides kNhwcThreads.
struct NhwcThreads {
  int lanes, slices;
};

// What one thread knows of the kVector planes that its group owns.
template <typename scalar_t, int kVector>
struct NhwcPlanes {
  static constexpr int kMaxLanes = kNhwcChannels / kVector;
  using Vector = Channels<scalar_t, kVector>;

  int64_t image;
  int channel;         // the first of kVector
  bool is_owned;       // false beyond the last image or channel: such threads only keep step
  int lane, lanes, slice, slices;
  int height, width, channels;
  int cells, cells_in_row;  // cells is 0 where not owned
  scalar_t size;            // H W
  const scalar_t *x, *x_t;  // at [image, 0, 0, channel]; x_t may be null
  Vector gamma, beta, gamma_t, beta_t;
  scalar_t eps;
};

template <int kVector, typename scalar_t>
SIMT_DEVICE NhwcPlanes<scalar_t, kVector> own_nhwc_planes(const PlaneSizes& sizes,
                                                          const NhwcThreads& threads,
                                                          const NormInput<scalar_t>& input,
                                                          const NormTangent<scalar_t>& tangent) {
  const int channels = static_cast<int>(sizes.channels);
  const int channels_in_block = threads.lanes * kVector;
  const int64_t groups = (channels + channels_in_block - 1) / channels_in_block;
  const int images_in_block = kNhwcThreads / (threads.lanes * threads.slices);
  const int number = simt::thread_x() / threads.lanes;  // of the slice within the block
  const int64_t image = simt::block_x() / groups * images_in_block + number / threads.slices;
  NhwcPlanes<scalar_t, kVector> planes{};
  planes.lane = simt::thread_x() % threads.lanes;
  planes.lanes = threads.lanes;
  const int channel =
      static_cast<int>(simt::block_x() % groups) * channels_in_block + planes.lane * kVector;
  planes.is_owned = image < sizes.images && channel < channels;
  planes.image = planes.is_owned ? image : 0;
  planes.channel = planes.is_owned ? channel : 0;
  planes.slice = number % threads.slices;
  planes.slices = threads.slices;
  planes.height = static_cast<int>(sizes.height);
  planes.width = static_cast<int>(sizes.width);
  planes.channels = channels;
  planes.cells_in_row = (planes.width + 1) / 2;
  planes.cells = planes.is_owned ? (planes.height + 1) / 2 * planes.cells_in_row : 0;
  planes.size = static_cast<scalar_t>(planes.height * planes.width);
  const int64_t first = planes.image * (sizes.height * sizes.width * channels) + planes.channel;
  planes.x = input.x + first;
  planes.x_t = tangent.x == nullptr ? nullptr : tangent.x + first;
  SIMT_UNROLL
  for (int v = 0; v < kVector; ++v) {  // one by one: these may lie at any address
    planes.gamma.at[v] = input.weight[planes.channel + v];
    planes.beta.at[v] = input.bias[planes.channel + v];
    if (tangent.weight != nullptr) planes.gamma_t.at[v] = tangent.weight[planes.channel + v];
    if (tangent.bias != nullptr) planes.beta_t.at[v] = tangent.bias[planes.channel + v];
  }
  planes.eps = static_cast<scalar_t>(input.eps);
  return planes;
}

// A cell and where its elements are, relative to the thread's first element of the image.
struct NhwcCell {
  int offset[4];    // top left, top right, bottom left, bottom right
  bool is_there[4]; // false beyond an odd side
  bool is_pooled;
  int pooled;       // offset in pooled maps
};

template <typename Planes>
SIMT_DEVICE NhwcCell cell_of(const Planes& planes, int n) {
  const int i = n / planes.cells_in_row, j = n % planes.cells_in_row;
  const int corner = (2 * i * planes.width + 2 * j) * planes.channels;
  const int down = planes.width * planes.channels;
  const bool has_right = 2 * j + 1 < planes.width, has_below = 2 * i + 1 < planes.height;
  return {{corner, corner + planes.channels, corner + down, corner + down + planes.channels},
          {true, has_right, has_below, has_right && has_below},
          has_right && has_below,
          (i * (planes.width / 2) + j) * planes.channels};
}

// What a thread reads of a cell: a quarter of the pooled gradients, and 0 where there is nothing.
template <typename scalar_t, int kVector>
struct NhwcValues {
  Channels<scalar_t, kVector> x[4], x_t[4], grad, grad_t;
};

// Where a thread finds the pooled gradients of its planes; null where there are none.
template <typename scalar_t>
struct NhwcGradients {
  const scalar_t *grad, *grad_t;  // at [image, 0, 0, channel]
};

template <typename scalar_t, int kVector>
SIMT_DEVICE Channels<scalar_t, kVector> quarter_of(const scalar_t* from, const NhwcCell& cell) {
  Channels<scalar_t, kVector> value{};
  if (from == nullptr || !cell.is_pooled) return value;
  value = read_channels<scalar_t, kVector>(from + cell.pooled);
  SIMT_UNROLL
  for (int v = 0; v < kVector; ++v) value.at[v] *= scalar_t(0.25);
  return value;
}

template <bool kTangent, bool kGradient, typename scalar_t, int kVector>
SIMT_DEVICE NhwcValues<scalar_t, kVector> read_cell(const NhwcPlanes<scalar_t, kVector>& planes,
                                                    const NhwcGradients<scalar_t>& gradients,
                                                    const NhwcCell& cell) {
  NhwcValues<scalar_t, kVector> values{};
  SIMT_UNROLL
  for (int e = 0; e < 4; ++e) {
    if (!cell.is_there[e]) continue;
    values.x[e] = read_channels<scalar_t, kVector>(planes.x + cell.offset[e]);
    if (kTangent && planes.x_t != nullptr) {
      values.x_t[e] = read_channels<scalar_t, kVector>(planes.x_t + cell.offset[e]);
    }
  }
  if constexpr (kGradient) {
    values.grad = quarter_of<scalar_t, kVector>(gradients.grad, cell);
    if constexpr (kTangent) values.grad_t = quarter_of<scalar_t, kVector>(gradients.grad_t, cell);
  }
  return values;
}

// The thread's cells, the first of them read once and kept.
template <bool kTangent, bool kGradient, typename scalar_t, int kVector>
struct NhwcCells {
  using Planes = NhwcPlanes<scalar_t, kVector>;
  static constexpr int kKept = kNhwcCells<scalar_t, kVector>;

  const Planes& planes;
  NhwcGradients<scalar_t> gradients;
  NhwcValues<scalar_t, kVector> kept[kKept];
};

template <bool kTangent, bool kGradient, typename scalar_t, int kVector>
SIMT_DEVICE void keep_cells(NhwcCells<kTangent, kGradient, scalar_t, kVector>& cells) {
  SIMT_UNROLL
  for (int k = 0; k < cells.kKept; ++k) {
    const int n = cells.planes.slice + k * cells.planes.slices;
    if (n < cells.planes.cells) {
      cells.kept[k] = read_cell<kTangent, kGradient>(cells.planes, cells.gradients,
                                                     cell_of(cells.planes, n));
    }
  }
}

// Calls body(cell, values) for this thread's cells, ascending.
template <bool kTangent, bool kGradient, typename scalar_t, int kVector, typename Body>
SIMT_DEVICE void for_each_cell(const NhwcCells<kTangent, kGradient, scalar_t, kVector>& cells,
                               const Body& body) {
  const auto& planes = cells.planes;
  SIMT_UNROLL
  for (int k = 0; k < cells.kKept; ++k) {
    const int n = planes.slice + k * planes.slices;
    if (n < planes.cells) body(cell_of(planes, n), cells.kept[k]);
  }
  for (int n = planes.slice + cells.kKept * planes.slices; n < planes.cells; n += planes.slices) {
    const NhwcCell cell = cell_of(planes, n);
    body(cell, read_cell<kTangent, kGradient>(planes, cells.gradients, cell));
  }
}

// Replaces every value by its sum over the slices of the plane; all of them receive the same bits. Each
// use in a kernel has its own kStep and so its own shared memory, which makes one barrier enough.
template <int kStep, int kCount, typename scalar_t, int kVector>
SIMT_DEVICE void sum_over_slices(const NhwcPlanes<scalar_t, kVector>& planes,
                                 scalar_t (&value)[kCount][kVector]) {
  constexpr int kWarps = kNhwcThreads / simt::kWarpSize;
  constexpr int kMaxLanes = NhwcPlanes<scalar_t, kVector>::kMaxLanes;
  const int threads = planes.slices * planes.lanes;
  for (int mask = planes.lanes; mask < simt::kWarpSize && mask < threads; mask *= 2) {
    SIMT_UNROLL
    for (int k = 0; k < kCount; ++k) {
      SIMT_UNROLL
      for (int v = 0; v < kVector; ++v) value[k][v] += simt::shuffle_xor(value[k][v], mask);
    }
  }
  if (threads <= simt::kWarpSize) return;
  SIMT_SHARED(scalar_t, partial, kCount * kVector * kWarps * kMaxLanes);  // [sum, v, warp, lane]
  const int warp = simt::thread_x() / simt::kWarpSize;
  if (simt::thread_x() % simt::kWarpSize < planes.lanes) {
    for (int k = 0; k < kCount; ++k) {
      for (int v = 0; v < kVector; ++v) {
        partial[((k * kVector + v) * kWarps + warp) * kMaxLanes + planes.lane] = value[k][v];
      }
    }
  }
  simt::barrier();
  const int warps = threads / simt::kWarpSize;
  const int first = warp / warps * warps;
  SIMT_UNROLL
  for (int k = 0; k < kCount; ++k) {
    SIMT_UNROLL
    for (int v = 0; v < kVector; ++v) {
      const scalar_t* of_warps =
          partial + ((k * kVector + v) * kWarps + first) * kMaxLanes + planes.lane;
      value[k][v] = of_warps[0];
      for (int n = 1; n < warps; ++n) value[k][v] += of_warps[n * kMaxLanes];
    }
  }
}

// Of channel v; elements that are not there were read as 0.
template <typename scalar_t, int kVector>
SIMT_DEVICE scalar_t sum_of_cell(const Channels<scalar_t, kVector> (&element)[4], int v) {
  return (element[0].at[v] + element[1].at[v]) + (element[2].at[v] + element[3].at[v]);
}

template <bool kTangent, bool kGradient, typename scalar_t, int kVector>
SIMT_DEVICE void moments_of(const NhwcCells<kTangent, kGradient, scalar_t, kVector>& cells,
                            NormMoments<scalar_t> (&m)[kVector]) {
  constexpr int kSums = kTangent ? 2 : 1;
  using Values = NhwcValues<scalar_t, kVector>;
  const scalar_t size = cells.planes.size;
  scalar_t first[kSums][kVector] = {}, second[kSums][kVector] = {};
  for_each_cell(cells, [&](const NhwcCell&, const Values& values) {
    SIMT_UNROLL
    for (int v = 0; v < kVector; ++v) {
      first[0][v] += sum_of_cell(values.x, v);
      if (kTangent) first[kSums - 1][v] += sum_of_cell(values.x_t, v);
    }
  });
  sum_over_slices<0>(cells.planes, first);
  for_each_cell(cells, [&](const NhwcCell& cell, const Values& values) {
    SIMT_UNROLL
    for (int v = 0; v < kVector; ++v) {
      const scalar_t mean = first[0][v] / size;
      scalar_t squares = 0, products = 0;
      SIMT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const scalar_t centred = cell.is_there[e] ? values.x[e].at[v] - mean : scalar_t(0);
        squares += centred * centred;
        products += centred * values.x_t[e].at[v];
      }
      second[0][v] += squares;
      if (kTangent) second[kSums - 1][v] += products;
    }
  });
  sum_over_slices<1>(cells.planes, second);
  SIMT_UNROLL
  for (int v = 0; v < kVector; ++v) {
    m[v].mean = first[0][v] / size;
    m[v].rstd = 1 / std::sqrt(second[0][v] / size + cells.planes.eps);
    m[v].mean_t = kTangent ? first[kSums - 1][v] / size : scalar_t(0);
    m[v].q = kTangent ? m[v].rstd * second[kSums - 1][v] / size : scalar_t(0);
  }
}

// xhat, y and their tangents of element e in channel v.
template <bool kTangent, typename scalar_t, int kVector>
SIMT_DEVICE NormPoint<scalar_t> point_of(const NhwcPlanes<scalar_t, kVector>& planes,
                                         const NormMoments<scalar_t>& m,
                                         const NhwcValues<scalar_t, kVector>& values, int e,
                                         int v) {
  NormPoint<scalar_t> point{};
  point.xhat = (values.x[e].at[v] - m.mean) * m.rstd;
  point.y = planes.gamma.at[v] * point.xhat + planes.beta.at[v];
  if (kTangent) {
    point.xhat_t = (values.x_t[e].at[v] - m.mean_t - point.xhat * m.q) * m.rstd;
    point.y_t = planes.gamma.at[v] * point.xhat_t + planes.gamma_t.at[v] * point.xhat +
                planes.beta_t.at[v];
  }
  return point;
}

// Pools the planes of max(y, 0), or of its tangent.
//   out [N, H/2, W/2, C]
template <bool kTangent, typename scalar_t, int kVector>
SIMT_DEVICE void pool_nhwc(const NhwcPlanes<scalar_t, kVector>& planes, scalar_t* out) {
  NhwcCells<kTangent, false, scalar_t, kVector> cells{planes, {}, {}};
  keep_cells(cells);
  NormMoments<scalar_t> m[kVector];
  moments_of(cells, m);
  out += planes.image * (int64_t{planes.height / 2} * (planes.width / 2) * planes.channels) +
         planes.channel;
  for_each_cell(cells, [&](const NhwcCell& cell, const NhwcValues<scalar_t, kVector>& values) {
    if (!cell.is_pooled) return;
    Channels<scalar_t, kVector> pooled;
    SIMT_UNROLL
    for (int v = 0; v < kVector; ++v) {
      scalar_t rectified[4];
      SIMT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const NormPoint<scalar_t> point = point_of<kTangent>(planes, m[v], values, e, v);
        rectified[e] = where_positive(point.y, kTangent ? point.y_t : point.y);
      }
      pooled.at[v] =
          scalar_t(0.25) * ((rectified[0] + rectified[2]) + (rectified[1] + rectified[3]));
    }
    write_channels(out + cell.pooled, pooled);
  });
}

// Gradient of the planes, or its tangent, and their part of those of weight and bias.
//   grad, grad_t [N, H/2, W/2, C], grad_t may be null; out [N, H, W, C]; parts [2, N, C]
template <bool kTangent, typename scalar_t, int kVector>
SIMT_DEVICE void differentiate_nhwc(const NhwcPlanes<scalar_t, kVector>& planes, int64_t images,
                                    const scalar_t* grad, const scalar_t* grad_t, scalar_t* out,
                                    scalar_t* parts) {
  using Values = NhwcValues<scalar_t, kVector>;
  const int64_t pooled =
      planes.image * (int64_t{planes.height / 2} * (planes.width / 2) * planes.channels) +
      planes.channel;
  NhwcCells<kTangent, true, scalar_t, kVector> cells{
      planes, {grad + pooled, grad_t == nullptr ? nullptr : grad_t + pooled}, {}};
  keep_cells(cells);
  NormMoments<scalar_t> m[kVector];
  moments_of(cells, m);

  constexpr int kSums = kTangent ? 4 : 2;
  scalar_t sums[kSums][kVector] = {};  // of dy, dy xhat and their tangents
  for_each_cell(cells, [&](const NhwcCell& cell, const Values& values) {
    if (!cell.is_pooled) return;
    SIMT_UNROLL
    for (int v = 0; v < kVector; ++v) {
      scalar_t of_cell[kSums] = {};
      SIMT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const NormPoint<scalar_t> point = point_of<kTangent>(planes, m[v], values, e, v);
        const scalar_t dy = where_positive(point.y, values.grad.at[v]);
        of_cell[0] += dy;
        of_cell[1] += dy * point.xhat;
        if constexpr (kTangent) {
          const scalar_t dy_t = where_positive(point.y, values.grad_t.at[v]);
          of_cell[2] += dy_t;
          of_cell[3] += dy_t * point.xhat + dy * point.xhat_t;
        }
      }
      SIMT_UNROLL
      for (int k = 0; k < kSums; ++k) sums[k][v] += of_cell[k];
    }
  });
  sum_over_slices<2>(planes, sums);
  if (planes.is_owned && planes.slice == 0) {
    const int64_t plane = planes.image * planes.channels + planes.channel;
    Channels<scalar_t, kVector> of_weight, of_bias;
    SIMT_UNROLL
    for (int v = 0; v < kVector; ++v) {
      of_weight.at[v] = sums[kTangent ? 3 : 1][v];
      of_bias.at[v] = sums[kTangent ? 2 : 0][v];
    }
    write_channels(parts + plane, of_weight);
    write_channels(parts + images * planes.channels + plane, of_bias);
  }

  out += planes.image * (int64_t{planes.height} * planes.width * planes.channels) + planes.channel;
  for_each_cell(cells, [&](const NhwcCell& cell, const Values& values) {
    SIMT_UNROLL
    for (int e = 0; e < 4; ++e) {
      if (!cell.is_there[e]) continue;
      Channels<scalar_t, kVector> result;
      SIMT_UNROLL
      for (int v = 0; v < kVector; ++v) {
        const scalar_t m1 = sums[0][v] / planes.size, m2 = sums[1][v] / planes.size;
        const scalar_t scale = planes.gamma.at[v] * m[v].rstd;
        const NormPoint<scalar_t> point = point_of<kTangent>(planes, m[v], values, e, v);
        const scalar_t dy = where_positive(point.y, values.grad.at[v]);
        const scalar_t projected = dy - m1 - point.xhat * m2;
        if constexpr (kTangent) {
          const scalar_t m1_t = sums[2][v] / planes.size, m2_t = sums[3][v] / planes.size;
          const scalar_t scale_t = planes.gamma_t.at[v] * m[v].rstd - scale * m[v].rstd * m[v].q;
          const scalar_t dy_t = where_positive(point.y, values.grad_t.at[v]);
          const scalar_t projected_t = dy_t - m1_t - point.xhat_t * m2 - point.xhat * m2_t;
          result.at[v] = scale_t * projected + scale * projected_t;
        } else {
          result.at[v] = scale * projected;
        }
      }
      write_channels(out + cell.offset[e], result);
    }
  });
}

//   out [N, H/2, W/2, C]
template <typename scalar_t, int kVector>
SIMT_KERNEL void inorm_relu_pool_nhwc_fwd_kernel(PlaneSizes sizes, NhwcThreads threads,
                                                 NormInput<scalar_t> input, scalar_t* out) {
  const auto planes = own_nhwc_planes<kVector>(sizes, threads, input, NormTangent<scalar_t>{});
  pool_nhwc<false>(planes, out);
}

//   out_t [N, H/2, W/2, C]
template <typename scalar_t, int kVector>
SIMT_KERNEL void inorm_relu_pool_nhwc_jvp_kernel(PlaneSizes sizes, NhwcThreads threads,
                                                 NormInput<scalar_t> input,
                                                 NormTangent<scalar_t> tangent, scalar_t* out_t) {
  const auto planes = own_nhwc_planes<kVector>(sizes, threads, input, tangent);
  pool_nhwc<true>(planes, out_t);
}

//   grad [N, H/2, W/2, C]; grad_x [N, H, W, C]; parts [2, N, C]
template <typename scalar_t, int kVector>
SIMT_KERNEL void inorm_relu_pool_nhwc_bwd_kernel(PlaneSizes sizes, NhwcThreads threads,
                                                 const scalar_t* grad, NormInput<scalar_t> input,
                                                 scalar_t* grad_x, scalar_t* parts) {
  const auto planes = own_nhwc_planes<kVector>(sizes, threads, input, NormTangent<scalar_t>{});
  const scalar_t* none = nullptr;
  differentiate_nhwc<false>(planes, sizes.images, grad, none, grad_x, parts);
}

//   grad, grad_t [N, H/2, W/2, C], grad_t may be null; grad_x_t [N, H, W, C]; parts [2, N, C]
template <typename scalar_t, int kVector>
SIMT_KERNEL void inorm_relu_pool_nhwc_bwd_jvp_kernel(PlaneSizes sizes, NhwcThreads threads,
                                                     const scalar_t* grad,
                                                     NormInput<scalar_t> input,
                                                     const scalar_t* grad_t,
                                                     NormTangent<scalar_t> tangent,
                                                     scalar_t* grad_x_t, scalar_t* parts) {
  const auto planes = own_nhwc_planes<kVector>(sizes, threads, input, tangent);
  differentiate_nhwc<true>(planes, sizes.images, grad, grad_t, grad_x_t, parts);
}

}  // namespace nsdbench::kernels
