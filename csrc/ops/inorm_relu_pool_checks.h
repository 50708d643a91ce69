// What inorm_relu_pool requires of its tensors, for every device.

#pragma once

#include "kernels/inorm_relu_pool.h"
#include "tensors.h"

namespace nsdbench::ops::inorm_relu_pool {

inline constexpr Refusal refuse{"inorm_relu_pool"};

// Where the channels of a map are: [N, C, H, W] or [N, H, W, C].
enum class Layout { kNchw, kNhwc };

struct Call {
  Layout layout;
  PlaneSizes sizes;
  Tensor x, weight, bias;
  double eps;

  Shape pooled() const {
    const int64_t height = sizes.height / 2, width = sizes.width / 2;
    return layout == Layout::kNchw ? Shape{sizes.images, sizes.channels, height, width}
                                   : Shape{sizes.images, height, width, sizes.channels};
  }
};

inline Call check_call(Layout layout, const Tensor& x, const Tensor& weight, const Tensor& bias,
                       double eps) {
  const Tensor leading = check_leading(refuse, "x", x, 4);
  const PlaneSizes sizes = layout == Layout::kNchw
                               ? PlaneSizes{x.size(0), x.size(1), x.size(2), x.size(3)}
                               : PlaneSizes{x.size(0), x.size(3), x.size(1), x.size(2)};
  if (sizes.height < 2 || sizes.width < 2) {
    refuse("x: expected planes of at least 2x2, got ", shape_of(x));
  }
  const Shape channels{sizes.channels};
  return {layout,
          sizes,
          leading,
          check(refuse, "weight", weight, channels, x),
          check(refuse, "bias", bias, channels, x),
          eps};
}

struct Tangent {
  MaybeTensor x, weight, bias;
};

inline Tangent check_tangent(const Call& call, const MaybeTensor& x_t, const MaybeTensor& weight_t,
                             const MaybeTensor& bias_t) {
  const Shape channels{call.sizes.channels};
  return {check(refuse, "x_t", x_t, shape_of(call.x), call.x),
          check(refuse, "weight_t", weight_t, channels, call.x),
          check(refuse, "bias_t", bias_t, channels, call.x)};
}

}  // namespace nsdbench::ops::inorm_relu_pool
