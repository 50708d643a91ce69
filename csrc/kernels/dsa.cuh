// One operation of differentiable Siamese augmentation on a batch, and its exact transpose.
//
// Formulas and parameters: dsa.h. Layout: images [B, C, H, W] row-major, elements contiguous; parameters
// [B or 1, columns] double. Sizes and offsets are 64-bit.
//
// Thread-to-data map, dsa_fwd_kernel and dsa_bwd_kernel:
//   grid    x: images; y: tiles of 256 pixels of a plane, strided (one tile for color)
//   block   256 threads, one pixel of every channel each
//   thread  neighbours own neighbouring columns: coalesced writes, and reads that are nearly so
// The transpose of a resampling gathers: a thread owns a pixel of the gradient and sums over the output
// pixels that read it, rows ascending, then columns ascending. Their number is bounded by the inverse map
// (up to 3 x 3 for any drawn parameter). No atomics: equal calls give equal bits.
//
// Shared memory: at most 2080 bytes a block (partial sums of color in double, one map).
// Passes over memory: in is read once (color twice; resampling 4 or 9 times, from cache), out written
// once. Reduction of color: each thread over its pixels, channels innermost, then a tree over the block.
// Accuracy: geometry and weights in scalar_t, sine and cosine in double.
// Reference: nsdbench/ops/reference_dsa.py. CPU twin: csrc/cpu/dsa.cpp, dsa_rotate.cpp, dsa_scale.cpp.

#pragma once

#include <cmath>
#include <cstdint>

#include "dsa.h"
#include "simt.h"

namespace nsdbench::kernels {

constexpr int kDsaThreads = 256;
constexpr int kDsaChannels = 4;  // channels summed together, so that weights are found once

// The pixels of this block's tile: thread t of tile b owns b * 256 + t, then strides over the grid.
SIMT_DEVICE int64_t first_pixel() {
  return simt::block_y() * kDsaThreads + simt::thread_x();
}
SIMT_DEVICE int64_t pixel_stride() { return simt::grid_size_y() * kDsaThreads; }

//   x, out [C, H, W]; p: offset, saturation, contrast
template <typename scalar_t>
SIMT_DEVICE void color_image(const DsaProblem& problem, bool is_linear, const double* p,
                             const scalar_t* x, scalar_t* out) {
  SIMT_SHARED(scalar_t, partial, kDsaThreads);
  const int t = simt::thread_x();
  const int64_t plane = problem.plane_size();
  scalar_t total = 0;
  for (int64_t n = first_pixel(); n < plane; n += pixel_stride()) {
    for (int64_t c = 0; c < problem.channels; ++c) total += x[c * plane + n];
  }
  partial[t] = total;
  for (int half = kDsaThreads / 2; half > 0; half /= 2) {
    simt::barrier();
    if (t < half) partial[t] += partial[t + half];
  }
  simt::barrier();
  const scalar_t saturation = static_cast<scalar_t>(p[1]), contrast = static_cast<scalar_t>(p[2]);
  const scalar_t mean = partial[0] / static_cast<scalar_t>(problem.image_size());
  const scalar_t offset = is_linear ? scalar_t(0) : static_cast<scalar_t>(p[0]);
  for (int64_t n = first_pixel(); n < plane; n += pixel_stride()) {
    scalar_t grey = 0;
    for (int64_t c = 0; c < problem.channels; ++c) grey += x[c * plane + n];
    grey /= static_cast<scalar_t>(problem.channels);
    for (int64_t c = 0; c < problem.channels; ++c) {
      const scalar_t saturated = grey + saturation * (x[c * plane + n] - grey);
      out[c * plane + n] = mean + contrast * (saturated - mean) + offset;
    }
  }
}

template <typename scalar_t>
SIMT_DEVICE scalar_t hat(scalar_t v) {
  const scalar_t distance = v < 0 ? -v : v;
  return distance < 1 ? 1 - distance : scalar_t(0);
}

// Where output pixels read.
template <typename scalar_t>
struct Reader {
  scalar_t xx, xy, yx, yy, cx, cy;
};

template <typename scalar_t>
SIMT_DEVICE scalar_t at_w(const Reader<scalar_t>& reader, int64_t h, int64_t w) {
  return reader.xx * (static_cast<scalar_t>(w) - reader.cx) +
         reader.xy * (static_cast<scalar_t>(h) - reader.cy) + reader.cx;
}

template <typename scalar_t>
SIMT_DEVICE scalar_t at_h(const Reader<scalar_t>& reader, int64_t h, int64_t w) {
  return reader.yx * (static_cast<scalar_t>(w) - reader.cx) +
         reader.yy * (static_cast<scalar_t>(h) - reader.cy) + reader.cy;
}

struct Window {
  int64_t first, last;
};

// The whole numbers within `reach` of `centre`, and a few that rounding might have brought there.
template <typename scalar_t>
SIMT_DEVICE Window window(scalar_t centre, scalar_t reach, int64_t size) {
  const scalar_t wide = reach + scalar_t(1e-3);
  return {limited(std::floor(centre - wide) + 1, 0, size),
          limited(std::ceil(centre + wide) - 1, -1, size - 1)};
}

// The window over n with |slope (n - centre)| < reach.
template <typename scalar_t>
SIMT_DEVICE Window window_of_slope(scalar_t offset, scalar_t slope, int64_t size) {
  const scalar_t steep = slope < 0 ? -slope : slope;
  if (steep < scalar_t(1e-3)) return {0, size - 1};
  return window(offset / slope, 1 / steep, size);
}

// One output pixel of the operator (kTransposed: one pixel of the gradient), all channels.
//   in, out [C, H, W]
template <typename scalar_t, bool kTransposed>
SIMT_DEVICE void resample_pixel(const DsaProblem& problem, const Reader<scalar_t>& reader,
                                int64_t pixel, const scalar_t* in, scalar_t* out) {
  const int64_t plane = problem.plane_size();
  const int64_t h = pixel / problem.width, w = pixel % problem.width;
  Window rows;
  if (kTransposed) {
    const scalar_t determinant = reader.xx * reader.yy - reader.xy * reader.yx;
    const scalar_t size = determinant < 0 ? -determinant : determinant;
    if (size < scalar_t(1e-3)) {
      rows = {0, problem.height - 1};
    } else {
      const scalar_t right = static_cast<scalar_t>(w) - reader.cx;
      const scalar_t down = static_cast<scalar_t>(h) - reader.cy;
      const scalar_t yx = reader.yx < 0 ? -reader.yx : reader.yx;
      const scalar_t xx = reader.xx < 0 ? -reader.xx : reader.xx;
      rows = window(reader.cy + (reader.xx * down - reader.yx * right) / determinant,
                    (yx + xx) / size, problem.height);
    }
  } else {
    rows = window(at_h(reader, h, w), scalar_t(1), problem.height);
  }
  for (int64_t c0 = 0; c0 < problem.channels; c0 += kDsaChannels) {
    scalar_t total[kDsaChannels] = {};
    for (int64_t r = rows.first; r <= rows.last; ++r) {
      const Window columns =
          kTransposed ? window_of_slope(static_cast<scalar_t>(w) - at_w(reader, r, 0), reader.xx,
                                        problem.width)
                      : window(at_w(reader, h, w), scalar_t(1), problem.width);
      for (int64_t c = columns.first; c <= columns.last; ++c) {
        const scalar_t weight =
            kTransposed ? hat(at_w(reader, r, c) - static_cast<scalar_t>(w)) *
                              hat(at_h(reader, r, c) - static_cast<scalar_t>(h))
                        : hat(at_w(reader, h, w) - static_cast<scalar_t>(c)) *
                              hat(at_h(reader, h, w) - static_cast<scalar_t>(r));
        for (int u = 0; u < kDsaChannels; ++u) {
          if (c0 + u < problem.channels) {
            total[u] += weight * in[(c0 + u) * plane + r * problem.width + c];
          }
        }
      }
    }
    for (int u = 0; u < kDsaChannels; ++u) {
      if (c0 + u < problem.channels) out[(c0 + u) * plane + pixel] = total[u];
    }
  }
}

template <typename scalar_t, bool kTransposed>
SIMT_DEVICE void resample_image(const DsaProblem& problem, const double* p, const scalar_t* in,
                                scalar_t* out) {
  SIMT_SHARED(ResampleMap, map, 1);
  if (simt::thread_x() == 0) {
    map[0] = problem.operation == Dsa::kScale ? ResampleMap{p[0], 0, 0, p[1]}
                                              : rotation_map(problem, cos(p[0]), sin(p[0]));
  }
  simt::barrier();
  const Reader<scalar_t> reader{static_cast<scalar_t>(map[0].xx),
                                static_cast<scalar_t>(map[0].xy),
                                static_cast<scalar_t>(map[0].yx),
                                static_cast<scalar_t>(map[0].yy),
                                static_cast<scalar_t>(problem.width - 1) / 2,
                                static_cast<scalar_t>(problem.height - 1) / 2};
  for (int64_t n = first_pixel(); n < problem.plane_size(); n += pixel_stride()) {
    resample_pixel<scalar_t, kTransposed>(problem, reader, n, in, out);
  }
}

// Operations that move or clear pixels: out[n] is one pixel of `in`, or zero.
template <typename scalar_t, bool kTransposed>
SIMT_DEVICE void move_pixels(const DsaProblem& problem, const double* p, const scalar_t* in,
                             scalar_t* out) {
  const int64_t height = problem.height, width = problem.width, plane = problem.plane_size();
  for (int64_t n = first_pixel(); n < plane; n += pixel_stride()) {
    int64_t h = n / width, w = n % width;
    bool is_kept = true;
    if (problem.operation == Dsa::kCrop) {
      const int64_t down = limited(p[0], -height, height), right = limited(p[1], -width, width);
      h += kTransposed ? -down : down;
      w += kTransposed ? -right : right;
      is_kept = h >= 0 && h < height && w >= 0 && w < width;
    } else if (problem.operation == Dsa::kCutout) {
      is_kept = h < limited(p[0], 0, height) || h >= limited(p[2], 0, height) ||
                w < limited(p[1], 0, width) || w >= limited(p[3], 0, width);
    } else if (p[0] != 0) {
      w = width - 1 - w;
    }
    for (int64_t c = 0; c < problem.channels; ++c) {
      out[c * plane + n] = is_kept ? in[c * plane + h * width + w] : scalar_t(0);
    }
  }
}

//   parameters [B or 1, columns]; in, out [B, C, H, W]
template <typename scalar_t, bool kTransposed>
SIMT_DEVICE void apply_image(const DsaProblem& problem, const double* parameters, int columns,
                             const scalar_t* in, scalar_t* out) {
  const int64_t image = simt::block_x();
  const double* p = parameters + (problem.is_siamese ? 0 : image * columns);
  in += image * problem.image_size();
  out += image * problem.image_size();
  if (problem.operation == Dsa::kColor) {
    color_image(problem, kTransposed || problem.is_linear, p, in, out);
  } else if (problem.operation == Dsa::kScale || problem.operation == Dsa::kRotate) {
    resample_image<scalar_t, kTransposed>(problem, p, in, out);
  } else {
    move_pixels<scalar_t, kTransposed>(problem, p, in, out);
  }
}

// out = A x, plus the offset of color unless the problem is linear.
//   x, out [B, C, H, W]
template <typename scalar_t>
SIMT_KERNEL void dsa_fwd_kernel(DsaProblem problem, const double* parameters, int columns,
                                const scalar_t* x, scalar_t* out) {
  apply_image<scalar_t, false>(problem, parameters, columns, x, out);
}

// grad_x = A^T grad.
//   grad, grad_x [B, C, H, W]
template <typename scalar_t>
SIMT_KERNEL void dsa_bwd_kernel(DsaProblem problem, const double* parameters, int columns,
                                const scalar_t* grad, scalar_t* grad_x) {
  apply_image<scalar_t, true>(problem, parameters, columns, grad, grad_x);
}

}  // namespace nsdbench::kernels
