// What dsa requires of its tensors, for every device.

#pragma once

#include "kernels/dsa.h"
#include "tensors.h"

namespace nsdbench::ops::dsa {

inline constexpr Refusal refuse{"dsa"};

struct Call {
  DsaProblem problem;
  Tensor images;      // [B, C, H, W] contiguous
  Tensor parameters;  // [B or 1, columns] contiguous
};

// `images` are the images, or a gradient shaped like them.
inline Call check_call(const char* name, const Tensor& images, int64_t operation,
                       const Tensor& parameters, bool align_corners, bool is_linear) {
  if (operation < 0 || operation >= kDsaOperations) {
    refuse("operation: expected a number from 0 to ", kDsaOperations - 1, ", got ", operation);
  }
  Tensor leading = check_leading(refuse, name, images, 4);
  const bool is_shared = parameters.dim() == 2 && parameters.size(0) == 1;
  const Shape expected{is_shared ? 1 : images.size(0), kDsaColumns[operation]};
  return {{static_cast<Dsa>(operation), images.size(0), images.size(1), images.size(2),
           images.size(3), is_shared, align_corners, is_linear},
          leading,
          check(refuse, "parameters", parameters, expected, images, ScalarType::Double)};
}

}  // namespace nsdbench::ops::dsa
