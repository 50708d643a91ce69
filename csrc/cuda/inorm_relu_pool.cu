// Launches one kernel over the planes and, for gradients, a second one that adds up the images' parts.

#include "cuda/inorm_relu_pool.h"

#include "cuda/sum_over_images.h"
#include "kernels/inorm_relu_pool.cuh"

namespace nsdbench::cuda {
namespace {

constexpr const char* kTooLarge = "planes of more than 2^30 elements are not supported";

bool is_too_large(const PlaneSizes& sizes) { return sizes.plane_size() > kernels::kMaxPlaneSize; }

// About 8 elements a thread: enough planes in flight when they are small, short chains when large.
int threads_per_plane(const PlaneSizes& sizes) {
  int threads = 4;
  while (threads < kernels::kNormThreads && 8 * threads < sizes.plane_size()) threads *= 2;
  return threads;
}

template <typename... Parameters, typename... Arguments>
void launch_over_planes(void (*kernel)(PlaneSizes, int, Parameters...), const PlaneSizes& sizes,
                        void* stream, Arguments... arguments) {
  const int threads = threads_per_plane(sizes);
  const int64_t planes_per_block = kernels::kNormThreads / threads;
  simt::launch(kernel, {simt::divided_up(sizes.planes(), planes_per_block)},
               {kernels::kNormThreads}, 0, stream, sizes, threads, arguments...);
}

}  // namespace

template <typename T>
const char* launch_inorm_relu_pool_fwd(const PlaneSizes& sizes, const NormInput<T>& input, T* out,
                                       void* stream) {
  if (is_too_large(sizes)) return kTooLarge;
  launch_over_planes(kernels::inorm_relu_pool_fwd_kernel<T>, sizes, stream, input, out);
  return simt::last_error();
}

template <typename T>
const char* launch_inorm_relu_pool_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                                       const NormTangent<T>& tangent, T* out_t, void* stream) {
  if (is_too_large(sizes)) return kTooLarge;
  launch_over_planes(kernels::inorm_relu_pool_jvp_kernel<T>, sizes, stream, input, tangent, out_t);
  return simt::last_error();
}

template <typename T>
const char* launch_inorm_relu_pool_bwd(const PlaneSizes& sizes, const T* grad,
                                       const NormInput<T>& input, const NormGradient<T>& result,
                                       T* workspace, void* stream) {
  if (is_too_large(sizes)) return kTooLarge;
  launch_over_planes(kernels::inorm_relu_pool_bwd_kernel<T>, sizes, stream, grad, input, result.x,
                     workspace);
  launch_sum_over_images<T>(sizes, workspace, result, stream);
  return simt::last_error();
}

template <typename T>
const char* launch_inorm_relu_pool_bwd_jvp(const PlaneSizes& sizes, const T* grad,
                                           const NormInput<T>& input, const T* grad_t,
                                           const NormTangent<T>& tangent,
                                           const NormGradient<T>& result, T* workspace,
                                           void* stream) {
  if (is_too_large(sizes)) return kTooLarge;
  launch_over_planes(kernels::inorm_relu_pool_bwd_jvp_kernel<T>, sizes, stream, grad, input, grad_t,
                     tangent, result.x, workspace);
  launch_sum_over_images<T>(sizes, workspace, result, stream);
  return simt::last_error();
}

#define NSDBENCH_INSTANTIATE(T)                                                                 \
  template const char* launch_inorm_relu_pool_fwd<T>(const PlaneSizes&, const NormInput<T>&, T*, \
                                                     void*);                                    \
  template const char* launch_inorm_relu_pool_jvp<T>(const PlaneSizes&, const NormInput<T>&,    \
                                                     const NormTangent<T>&, T*, void*);         \
  template const char* launch_inorm_relu_pool_bwd<T>(const PlaneSizes&, const T*,               \
                                                     const NormInput<T>&,                       \
                                                     const NormGradient<T>&, T*, void*);        \
  template const char* launch_inorm_relu_pool_bwd_jvp<T>(                                       \
      const PlaneSizes&, const T*, const NormInput<T>&, const T*, const NormTangent<T>&,        \
      const NormGradient<T>&, T*, void*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)
#undef NSDBENCH_INSTANTIATE

}  // namespace nsdbench::cuda
