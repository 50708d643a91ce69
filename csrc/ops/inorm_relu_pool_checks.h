// What inorm_relu_pool requires of its tensors, for every device.

#pragma once

#include "kernels/inorm_relu_pool.h"
#include "tensors.h"

namespace nsdbench::ops::inorm_relu_pool {

inline constexpr Refusal refuse{"inorm_relu_pool"};

struct Call {
  PlaneSizes sizes;
  Tensor x, weight, bias;
  double eps;

  Shape pooled() const { return {sizes.images, sizes.channels, sizes.height / 2, sizes.width / 2}; }
};

inline Call check_call(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Tensor leading = check_leading(refuse, "x", x, 4);
  if (x.size(2) < 2 || x.size(3) < 2) {
    refuse("x: expected planes of at least 2x2, got ", shape_of(x));
  }
  const Shape channels{x.size(1)};
  return {{x.size(0), x.size(1), x.size(2), x.size(3)},
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
