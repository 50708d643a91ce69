// Differentiable Siamese augmentation: which operation, on what. Shared by the CPU implementation, the
// CUDA kernels and their launchers, and free of any framework header.
//
// One operation is applied to x [B, C, H, W]; every image has its own row of parameters, or all share
// row 0 (siamese). Parameters are double, whatever the images are:
//
//   color   offset o, saturation s, contrast k: z = g + s (x - g), out = m + k (z - m) + o
//           g = mean of x over the channels, m = mean of z over C, H, W (saturation does not move it)
//   crop    dh, dw:                   out[h,w] = x[h + dh, w + dw], zero outside
//   cutout  top, left, bottom, right: out[h,w] = 0 for top <= h < bottom and left <= w < right
//   flip    f:                        out[h,w] = x[h, W - 1 - w] where f is not 0
//   scale   sx, sy:                   out[h,w] = x read at (sy (h - cy) + cy, sx (w - cx) + cx)
//   rotate  angle a, radians:         out[h,w] = x read at the place given by resample_map below
//
// "Read at" is bilinear with zeros outside: the sum over pixels (r, c) of hat(at_h - r) hat(at_w - c)
// x[r,c] with hat(v) = max(0, 1 - |v|), which is what grid_sample computes. All of it is linear in x but
// for the offset of color, which `is_linear` leaves out. The transposes: color, cutout and flip are their
// own, crop's is the crop by (-dh, -dw), and resampling sums the same weights over the reading pixels.

#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define NSDBENCH_HOST_DEVICE __host__ __device__ inline
#else
#define NSDBENCH_HOST_DEVICE inline
#endif

namespace nsdbench {

enum class Dsa : int { kColor, kCrop, kCutout, kFlip, kScale, kRotate };

constexpr int kDsaOperations = 6;
constexpr int kDsaColumns[kDsaOperations] = {3, 2, 4, 1, 2, 1};  // parameters of an image
constexpr const char* kDsaNames[kDsaOperations] = {"color", "crop",  "cutout",
                                                   "flip",  "scale", "rotate"};

struct DsaProblem {
  Dsa operation;
  int64_t images, channels, height, width;
  bool is_siamese;     // one row of parameters for all images
  bool align_corners;  // rotate: -1 and 1 are the centres of the border pixels, not their edges
  bool is_linear;      // leave out the offset of color

  NSDBENCH_HOST_DEVICE int64_t plane_size() const { return height * width; }
  NSDBENCH_HOST_DEVICE int64_t image_size() const { return channels * height * width; }
};

// A whole number given as a double, limited to [low, high]; NaN becomes `low`.
NSDBENCH_HOST_DEVICE int64_t limited(double value, int64_t low, int64_t high) {
  if (!(value > static_cast<double>(low))) return low;
  return value < static_cast<double>(high) ? static_cast<int64_t>(value) : high;
}

// Where an output pixel reads, in pixels about the centre (cy, cx) = ((H - 1) / 2, (W - 1) / 2):
//   at_w - cx = xx (w - cx) + xy (h - cy)        at_h - cy = yx (w - cx) + yy (h - cy)
struct ResampleMap {
  double xx, xy, yx, yy;
};

// The rotation acts on coordinates that run from -1 to 1 along either side, so images that are not
// square are sheared a little, as in the reference code. A side of one aligned pixel has no extent.
NSDBENCH_HOST_DEVICE ResampleMap rotation_map(const DsaProblem& problem, double cosine,
                                              double sine) {
  const int64_t border = problem.align_corners ? 1 : 0;
  const double tall = static_cast<double>(problem.height - border);
  const double wide = static_cast<double>(problem.width - border);
  return {cosine, tall > 0 ? -sine * wide / tall : 0, wide > 0 ? sine * tall / wide : 0, cosine};
}

}  // namespace nsdbench
