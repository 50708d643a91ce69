// The second launch of the norm block's gradients, in either layout.

#pragma once

#include "kernels/inorm_relu_pool.cuh"

namespace nsdbench::cuda {

// Adds up the images' parts of the gradients of weight and bias, which the first launch left.
//   parts [2, images, channels]
template <typename T>
static void launch_sum_over_images(const PlaneSizes& sizes, const T* parts,
                                   const NormGradient<T>& result, void* stream) {
  simt::launch(kernels::sum_over_images_kernel<T>,
               {simt::divided_up(sizes.channels, kernels::kSumChannels)},
               {kernels::kSumChannels, kernels::kSumRows}, 0, stream, sizes.images, sizes.channels,
               parts, result.weight, result.bias);
}

}  // namespace nsdbench::cuda
