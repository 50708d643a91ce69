// What inorm_relu_pool requires of its tensors, for every device. Messages arrive as ValueError.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/inorm_relu_pool.h"

namespace nsdbench::ops::inorm_relu_pool {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Shape = std::vector<int64_t>;

inline std::string text_of(const Shape& shape) {
  std::ostringstream text;
  text << "[";
  for (size_t d = 0; d < shape.size(); ++d) text << (d > 0 ? ", " : "") << shape[d];
  text << "]";
  return text.str();
}

inline Shape shape_of(const Tensor& tensor) {
  Shape shape(tensor.dim());
  for (int64_t d = 0; d < tensor.dim(); ++d) shape[d] = tensor.size(d);
  return shape;
}

[[noreturn]] inline void refuse(const std::string& text) {
  throw std::invalid_argument("inorm_relu_pool: " + text);
}

// A tensor of the given shape, with x's dtype and device; returned contiguous.
inline Tensor check(const char* name, const Tensor& tensor, const Shape& expected,
                    const Tensor& x) {
  if (shape_of(tensor) != expected) {
    refuse(std::string(name) + ": expected shape " + text_of(expected) + ", got " +
           text_of(shape_of(tensor)));
  }
  if (tensor.scalar_type() != x.scalar_type()) {
    refuse(std::string(name) + ": expected the dtype of x, got another");
  }
  if (!(tensor.device() == x.device())) {
    refuse(std::string(name) + ": expected the device of x, got another");
  }
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
  if (x.dim() != 4) refuse("x: expected 4 dimensions [N, C, H, W], got " + text_of(shape_of(x)));
  if (x.scalar_type() != ScalarType::Float && x.scalar_type() != ScalarType::Double) {
    refuse("x: expected dtype float32 or float64, got another");
  }
  if (x.size(2) < 2 || x.size(3) < 2) {
    refuse("x: expected planes of at least 2x2, got " + text_of(shape_of(x)));
  }
  if (!(eps > 0)) refuse("eps: expected a positive number, got " + std::to_string(eps));
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
