// Launches one kernel over the images and channels and, for gradients, a second one that adds up the
// images' parts.

#include "cuda/inorm_relu_pool_nhwc.h"

#include <cstdint>
#include <type_traits>

#include "cuda/sum_over_images.h"
#include "kernels/inorm_relu_pool_nhwc.cuh"

namespace nsdbench::cuda {
namespace {

constexpr const char* kImagesTooLarge = "images of more than 2^30 elements are not supported";

bool are_images_too_large(const PlaneSizes& sizes) {
  return sizes.plane_size() * sizes.channels > kernels::kMaxImageSize;
}

template <typename... Arrays>
bool are_aligned(Arrays... arrays) {
  return ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
}

// As many lanes as there are vectors of channels and slices as a plane has cells, up to those of a block.
template <typename T, int kVector>
kernels::NhwcThreads deal_threads(const PlaneSizes& sizes) {
  const int64_t cells = (sizes.height + 1) / 2 * ((sizes.width + 1) / 2);
  kernels::NhwcThreads threads{1, 1};
  while (threads.lanes < kernels::NhwcPlanes<T, kVector>::kMaxLanes &&
         threads.lanes * kVector < sizes.channels) {
    threads.lanes *= 2;
  }
  while (threads.lanes * threads.slices < kernels::kNhwcThreads && threads.slices < cells) {
    threads.slices *= 2;
  }
  return threads;
}

template <typename T, int kVector, typename... Parameters, typename... Arguments>
void launch_vectors(void (*kernel)(PlaneSizes, kernels::NhwcThreads, Parameters...),
                    const PlaneSizes& sizes, void* stream, Arguments... arguments) {
  const kernels::NhwcThreads threads = deal_threads<T, kVector>(sizes);
  const int64_t images_in_block = kernels::kNhwcThreads / (threads.lanes * threads.slices);
  const int64_t channels_in_block = threads.lanes * kVector;
  simt::launch(kernel,
               {simt::divided_up(sizes.images, images_in_block) *
                simt::divided_up(sizes.channels, channels_in_block)},
               {kernels::kNhwcThreads}, 0, stream, sizes, threads, arguments...);
}

// Launches kernel_of(vector); the integral constant is how many channels a thread moves at once, more than
// one if the maps are aligned.
template <typename T, typename KernelOf, typename... Arguments>
void launch_over_channels(const KernelOf& kernel_of, const PlaneSizes& sizes, bool are_maps_aligned,
                          void* stream, Arguments... arguments) {
  constexpr std::integral_constant<int, kernels::kNhwcVector<T>> kVector{};
  constexpr std::integral_constant<int, 1> kOne{};
  if (sizes.channels % kVector == 0 && are_maps_aligned) {
    launch_vectors<T, kVector>(kernel_of(kVector), sizes, stream, arguments...);
  } else {
    launch_vectors<T, kOne>(kernel_of(kOne), sizes, stream, arguments...);
  }
}

}  // namespace

template <typename T>
const char* launch_inorm_relu_pool_nhwc_fwd(const PlaneSizes& sizes, const NormInput<T>& input,
                                            T* out, void* stream) {
  if (are_images_too_large(sizes)) return kImagesTooLarge;
  launch_over_channels<T>(
      [](auto vector) { return kernels::inorm_relu_pool_nhwc_fwd_kernel<T, vector>; }, sizes,
      are_aligned(input.x, out), stream, input, out);
  return simt::last_error();
}

template <typename T>
const char* launch_inorm_relu_pool_nhwc_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                                            const NormTangent<T>& tangent, T* out_t,
                                            void* stream) {
  if (are_images_too_large(sizes)) return kImagesTooLarge;
  launch_over_channels<T>(
      [](auto vector) { return kernels::inorm_relu_pool_nhwc_jvp_kernel<T, vector>; }, sizes,
      are_aligned(input.x, tangent.x, out_t), stream, input, tangent, out_t);
  return simt::last_error();
}

template <typename T>
const char* launch_inorm_relu_pool_nhwc_bwd(const PlaneSizes& sizes, const T* grad,
                                            const NormInput<T>& input,
                                            const NormGradient<T>& result, T* workspace,
                                            void* stream) {
  if (are_images_too_large(sizes)) return kImagesTooLarge;
  launch_over_channels<T>(
      [](auto vector) { return kernels::inorm_relu_pool_nhwc_bwd_kernel<T, vector>; }, sizes,
      are_aligned(input.x, grad, result.x, workspace), stream, grad, input, result.x,
      workspace);
  launch_sum_over_images<T>(sizes, workspace, result, stream);
  return simt::last_error();
}

template <typename T>
const char* launch_inorm_relu_pool_nhwc_bwd_jvp(const PlaneSizes& sizes, const T* grad,
                                                const NormInput<T>& input, const T* grad_t,
                                                const NormTangent<T>& tangent,
                                                const NormGradient<T>& result, T* workspace,
                                                void* stream) {
  if (are_images_too_large(sizes)) return kImagesTooLarge;
  launch_over_channels<T>(
      [](auto vector) { return kernels::inorm_relu_pool_nhwc_bwd_jvp_kernel<T, vector>; }, sizes,
      are_aligned(input.x, tangent.x, grad, grad_t, result.x, workspace), stream, grad, input,
      grad_t, tangent, result.x, workspace);
  launch_sum_over_images<T>(sizes, workspace, result, stream);
  return simt::last_error();
}

#define NSDBENCH_INSTANTIATE(T)                                                                  \
  template const char* launch_inorm_relu_pool_nhwc_fwd<T>(const PlaneSizes&, const NormInput<T>&, \
                                                          T*, void*);                            \
  template const char* launch_inorm_relu_pool_nhwc_jvp<T>(                                       \
      const PlaneSizes&, const NormInput<T>&, const NormTangent<T>&, T*, void*);                 \
  template const char* launch_inorm_relu_pool_nhwc_bwd<T>(                                       \
      const PlaneSizes&, const T*, const NormInput<T>&, const NormGradient<T>&, T*, void*);      \
  template const char* launch_inorm_relu_pool_nhwc_bwd_jvp<T>(                                   \
      const PlaneSizes&, const T*, const NormInput<T>&, const T*, const NormTangent<T>&,         \
      const NormGradient<T>&, T*, void*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)
#undef NSDBENCH_INSTANTIATE

}  // namespace nsdbench::cuda
