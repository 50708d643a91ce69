// What dsa requires of its tensors, for every device. Messages arrive in Python as ValueError.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "kernels/dsa.h"
#include "text.h"

namespace nsdbench::ops::dsa {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline constexpr Refusal refuse{"dsa"};

struct Call {
  DsaProblem problem;
  Tensor images;      // [B, C, H, W] contiguous
  Tensor parameters;  // [B or 1, columns] contiguous
};

// `images` are the images, or a gradient shaped like them.
inline Call check(const char* name, const Tensor& images, int64_t operation,
                  const Tensor& parameters, bool align_corners, bool is_linear) {
  if (operation < 0 || operation >= kDsaOperations) {
    refuse("operation: expected a number from 0 to ", kDsaOperations - 1, ", got ", operation);
  }
  if (images.dim() != 4) {
    refuse(name, ": expected 4 dimensions [B, C, H, W], got ", shape_of(images));
  }
  if (images.scalar_type() != ScalarType::Float && images.scalar_type() != ScalarType::Double) {
    refuse(name, ": expected dtype float32 or float64, got another");
  }
  const int64_t columns = kDsaColumns[operation], count = images.size(0);
  if (parameters.dim() != 2 || parameters.size(1) != columns ||
      (parameters.size(0) != 1 && parameters.size(0) != count)) {
    refuse("parameters: expected shape [", count, " or 1, ", columns, "] for ",
           kDsaNames[operation], ", got ", shape_of(parameters));
  }
  if (parameters.scalar_type() != ScalarType::Double) {
    refuse("parameters: expected dtype float64, got another");
  }
  if (!(parameters.device() == images.device())) {
    refuse("parameters: expected the device of the images, got another");
  }
  return {{static_cast<Dsa>(operation), count, images.size(1), images.size(2), images.size(3),
           parameters.size(0) == 1, align_corners, is_linear},
          torch::stable::contiguous(images),
          torch::stable::contiguous(parameters)};
}

}  // namespace nsdbench::ops::dsa
