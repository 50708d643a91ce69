// What inorm_relu_pool requires of its tensors, for every device. Messages arrive as ValueError.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "kernels/inorm_relu_pool.h"
#include "text.h"

namespace nsdbench::ops::inorm_relu_pool {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

inline constexpr Refusal refuse{"inorm_relu_pool"};

// A tensor of the given shape, with x's dtype and device; returned contiguous.
inline Tensor check(const char* name, const Tensor& tensor, const Shape& expected,
                    const Tensor& x) {
  if (shape_of(tensor) != expected) {
    refuse(name, ": expected shape ", expected, ", got ", shape_of(tensor));
  }
  if (tensor.scalar_type() != x.scalar_type()) {
    refuse(name, ": expected the dtype of x, got another");
  }
  if (!(tensor.device() == x.device())) refuse(name, ": expected the device of x, got another");
  return torch::stable::contiguous(tensor);
}

inline MaybeTensor check(const char* name, const MaybeTensor& tensor, const Shape& expected,
                         const Tensor& x) {
  return tensor ? MaybeTensor(check(name, *tensor, expected, x)) : std::nullopt;
}

struct Call {
  PlaneSizes sizes;
  Tensor x, weight, bias;
  double eps;

  Shape pooled() const {
    return {sizes.images, sizes.channels, sizes.height / 2, sizes.width / 2};
  }
};

inline Call check_call(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  if (x.dim() != 4) refuse("x: expected 4 dimensions [N, C, H, W], got ", shape_of(x));
  if (x.scalar_type() != ScalarType::Float && x.scalar_type() != ScalarType::Double) {
    refuse("x: expected dtype float32 or float64, got another");
  }
  if (x.size(2) < 2 || x.size(3) < 2) {
    refuse("x: expected planes of at least 2x2, got ", shape_of(x));
  }
  if (!(eps > 0)) refuse("eps: expected a positive number, got ", eps);
  const Shape channels{x.size(1)};
  return {{x.size(0), x.size(1), x.size(2), x.size(3)},
          torch::stable::contiguous(x),
          check("weight", weight, channels, x),
          check("bias", bias, channels, x),
          eps};
}

struct Tangent {
  MaybeTensor x, weight, bias;
};

inline Tangent check_tangent(const Call& call, const MaybeTensor& x_t, const MaybeTensor& weight_t,
                             const MaybeTensor& bias_t) {
  const Shape channels{call.sizes.channels};
  return {check("x_t", x_t, shape_of(call.x), call.x),
          check("weight_t", weight_t, channels, call.x),
          check("bias_t", bias_t, channels, call.x)};
}

}  // namespace nsdbench::ops::inorm_relu_pool
