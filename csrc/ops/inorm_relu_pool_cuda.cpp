// Binds inorm_relu_pool's CUDA launchers. Needs neither a CUDA header nor a CUDA build of torch.

#include "cuda/inorm_relu_pool.h"
#include "cuda/inorm_relu_pool_nhwc.h"
#include "cuda_stream.h"
#include "inorm_relu_pool_ops.h"

namespace nsdbench::ops::inorm_relu_pool {
namespace {

// Makes the device of x the current one and takes its stream. Workspaces may be given back before the
// kernels have run: the allocator hands them out again in the order of the stream.
template <Layout kTakes>
class Cuda {
 public:
  static constexpr Layout kLayout = kTakes;

  explicit Cuda(const Tensor& x)
      : x_(x), guard_(x.get_device_index()), stream_(current_stream(x.get_device_index())) {}

  template <typename T>
  void forward(const PlaneSizes& sizes, const NormInput<T>& input, T* out) const {
    constexpr auto* launch = kIsNhwc ? &cuda::launch_inorm_relu_pool_nhwc_fwd<T>
                                     : &cuda::launch_inorm_relu_pool_fwd<T>;
    check_launch(refuse, launch(sizes, input, out, stream_));
  }
  template <typename T>
  void forward_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                   const NormTangent<T>& tangent, T* out_t) const {
    constexpr auto* launch = kIsNhwc ? &cuda::launch_inorm_relu_pool_nhwc_jvp<T>
                                     : &cuda::launch_inorm_relu_pool_jvp<T>;
    check_launch(refuse, launch(sizes, input, tangent, out_t, stream_));
  }
  template <typename T>
  void backward(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                const NormGradient<T>& result) const {
    constexpr auto* launch = kIsNhwc ? &cuda::launch_inorm_relu_pool_nhwc_bwd<T>
                                     : &cuda::launch_inorm_relu_pool_bwd<T>;
    const Tensor workspace = allocate_workspace(sizes);
    check_launch(refuse, launch(sizes, grad, input, result, workspace.mutable_data_ptr<T>(),
                                stream_));
  }
  template <typename T>
  void backward_jvp(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                    const T* grad_t, const NormTangent<T>& tangent,
                    const NormGradient<T>& result) const {
    constexpr auto* launch = kIsNhwc ? &cuda::launch_inorm_relu_pool_nhwc_bwd_jvp<T>
                                     : &cuda::launch_inorm_relu_pool_bwd_jvp<T>;
    const Tensor workspace = allocate_workspace(sizes);
    check_launch(refuse, launch(sizes, grad, input, grad_t, tangent, result,
                                workspace.mutable_data_ptr<T>(), stream_));
  }

 private:
  static constexpr bool kIsNhwc = kTakes == Layout::kNhwc;

  Tensor allocate_workspace(const PlaneSizes& sizes) const {
    return allocate(x_, {cuda::norm_workspace_elements(sizes)});
  }

  Tensor x_;
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_;
};

}  // namespace
}  // namespace nsdbench::ops::inorm_relu_pool

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  namespace op = nsdbench::ops::inorm_relu_pool;
  using Nchw = op::Cuda<op::Layout::kNchw>;
  using Nhwc = op::Cuda<op::Layout::kNhwc>;
  m.impl("inorm_relu_pool", TORCH_BOX(&op::forward<Nchw>));
  m.impl("inorm_relu_pool_jvp", TORCH_BOX(&op::forward_jvp<Nchw>));
  m.impl("inorm_relu_pool_backward", TORCH_BOX(&op::backward<Nchw>));
  m.impl("inorm_relu_pool_backward_jvp", TORCH_BOX(&op::backward_jvp<Nchw>));
  m.impl("inorm_relu_pool_nhwc", TORCH_BOX(&op::forward<Nhwc>));
  m.impl("inorm_relu_pool_nhwc_jvp", TORCH_BOX(&op::forward_jvp<Nhwc>));
  m.impl("inorm_relu_pool_nhwc_backward", TORCH_BOX(&op::backward<Nhwc>));
  m.impl("inorm_relu_pool_nhwc_backward_jvp", TORCH_BOX(&op::backward_jvp<Nhwc>));
}
