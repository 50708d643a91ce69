// Binds the CUDA launchers of the first block. Needs neither a CUDA header nor a CUDA build of torch.

#include <tuple>

#include "cuda/first_block.h"
#include "cuda_stream.h"
#include "tensors.h"

namespace nsdbench::ops::first_block {
namespace {

constexpr Refusal refuse{"first_block"};

// The operands of every pass, contiguous, with their sizes checked. Makes the device of x the current one
// and takes its stream; workspaces may be given back before the kernels have run, since the allocator
// hands them out again in the order of the stream.
struct Call {
  FirstBlockSizes sizes;
  Tensor x, weight, gamma, beta;
  torch::stable::accelerator::DeviceGuard guard;
  void* stream;

  Call(const Tensor& images, const Tensor& of_taps, const Tensor& scale, const Tensor& shift,
       int64_t padding)
      : x(check_leading(refuse, "x", images, 4)),
        guard(images.get_device_index()),
        stream(current_stream(images.get_device_index())) {
    sizes = {x.size(0), x.size(1), x.size(2), x.size(3), padding,
             of_taps.dim() == 4 ? of_taps.size(0) : 0};
    if (sizes.in_channels != 1 && sizes.in_channels != 3) {
      refuse("x: expected 1 or 3 channels, got ", shape_of(x));
    }
    if (padding < 1) refuse("padding: expected at least 1, got ", padding);
    if (sizes.map_height() < 2 || sizes.map_width() < 2) {
      refuse("x: expected a map of at least 2x2, got ", shape_of(x), " and padding ", padding);
    }
    weight = check(refuse, "weight", of_taps, {sizes.channels, sizes.in_channels, 3, 3}, x);
    gamma = check(refuse, "gamma", scale, {sizes.channels}, x);
    beta = check(refuse, "beta", shift, {sizes.channels}, x);
  }

  Shape pooled() const {
    return {sizes.images, sizes.map_height() / 2, sizes.map_width() / 2, sizes.channels};
  }
  Shape moments() const { return {2, sizes.images, sizes.channels}; }

  template <typename T>
  cuda::FirstBlockCall<T> with(const Tensor& workspace) const {
    return {sizes, x.const_data_ptr<T>(),
            {weight.const_data_ptr<T>(), gamma.const_data_ptr<T>(), beta.const_data_ptr<T>()},
            workspace.mutable_data_ptr<T>()};
  }
};

// A direction in the space of the parameters, contiguous.
struct Tangent {
  Tensor weight, gamma, beta;

  Tangent(const Call& call, const Tensor& weight_t, const Tensor& gamma_t, const Tensor& beta_t)
      : weight(check(refuse, "weight_t", weight_t, shape_of(call.weight), call.x)),
        gamma(check(refuse, "gamma_t", gamma_t, shape_of(call.gamma), call.x)),
        beta(check(refuse, "beta_t", beta_t, shape_of(call.beta), call.x)) {}

  template <typename T>
  FirstBlockWeights<T> pointers() const {
    return {weight.const_data_ptr<T>(), gamma.const_data_ptr<T>(), beta.const_data_ptr<T>()};
  }
};

std::tuple<Tensor, Tensor> forward(const Tensor& x, const Tensor& weight, const Tensor& gamma,
                                   const Tensor& beta, int64_t padding, double eps) {
  const Call call(x, weight, gamma, beta, padding);
  const Tensor out = allocate(call.x, call.pooled());
  const Tensor moments = allocate(call.x, call.moments());
  const Tensor workspace = allocate(call.x, {cuda::first_block_workspace(call.sizes)});
  dispatch(call.x, [&]<typename T>(T) {
    check_launch(refuse, cuda::launch_first_block_fwd<T>(
                             call.with<T>(workspace), eps, out.mutable_data_ptr<T>(),
                             moments.mutable_data_ptr<T>(), call.stream));
  });
  return {out, moments};
}

std::tuple<Tensor, Tensor> forward_jvp(const Tensor& x, const Tensor& weight, const Tensor& gamma,
                                       const Tensor& beta, int64_t padding, const Tensor& moments,
                                       const Tensor& weight_t, const Tensor& gamma_t,
                                       const Tensor& beta_t) {
  const Call call(x, weight, gamma, beta, padding);
  const Tensor kept = check(refuse, "moments", moments, call.moments(), call.x);
  const Tangent tangent(call, weight_t, gamma_t, beta_t);
  const Tensor out_t = allocate(call.x, call.pooled());
  const Tensor moments_t = allocate(call.x, call.moments());
  const Tensor workspace = allocate(call.x, {cuda::first_block_workspace(call.sizes)});
  dispatch(call.x, [&]<typename T>(T) {
    check_launch(refuse, cuda::launch_first_block_jvp<T>(
                             call.with<T>(workspace), kept.const_data_ptr<T>(),
                             tangent.pointers<T>(), out_t.mutable_data_ptr<T>(),
                             moments_t.mutable_data_ptr<T>(), call.stream));
  });
  return {out_t, moments_t};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x,
                                            const Tensor& weight, const Tensor& gamma,
                                            const Tensor& beta, int64_t padding,
                                            const Tensor& moments) {
  const Call call(x, weight, gamma, beta, padding);
  const Tensor kept = check(refuse, "moments", moments, call.moments(), call.x);
  const Tensor cotangent = check(refuse, "grad", grad, call.pooled(), call.x);
  const Tensor of_weight = allocate(call.x, shape_of(call.weight));
  const Tensor of_gamma = allocate(call.x, shape_of(call.gamma));
  const Tensor of_beta = allocate(call.x, shape_of(call.beta));
  const Tensor workspace = allocate(call.x, {cuda::first_block_bwd_workspace(call.sizes)});
  dispatch(call.x, [&]<typename T>(T) {
    check_launch(refuse, cuda::launch_first_block_bwd<T>(
                             call.with<T>(workspace), kept.const_data_ptr<T>(),
                             cotangent.const_data_ptr<T>(),
                             {of_weight.mutable_data_ptr<T>(), of_gamma.mutable_data_ptr<T>(),
                              of_beta.mutable_data_ptr<T>()},
                             call.stream));
  });
  return {of_weight, of_gamma, of_beta};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward_jvp(
    const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& gamma,
    const Tensor& beta, int64_t padding, const Tensor& moments, const Tensor& grad_t,
    const Tensor& weight_t, const Tensor& gamma_t, const Tensor& beta_t, const Tensor& moments_t,
    bool needs_weight, bool needs_x) {
  const Call call(x, weight, gamma, beta, padding);
  const Tensor kept = check(refuse, "moments", moments, call.moments(), call.x);
  const Tensor kept_t = check(refuse, "moments_t", moments_t, call.moments(), call.x);
  const Tensor cotangent = check(refuse, "grad", grad, call.pooled(), call.x);
  const Tensor cotangent_t = check(refuse, "grad_t", grad_t, call.pooled(), call.x);
  const Tangent tangent(call, weight_t, gamma_t, beta_t);
  const Tensor of_weight = allocate(call.x, shape_of(call.weight), needs_weight);
  const Tensor of_gamma = allocate(call.x, shape_of(call.gamma));
  const Tensor of_beta = allocate(call.x, shape_of(call.beta));
  const Tensor of_x = allocate(call.x, shape_of(call.x), needs_x);
  const Tensor workspace =
      allocate(call.x, {cuda::first_block_bwd_jvp_workspace(call.sizes, needs_x)});
  dispatch(call.x, [&]<typename T>(T) {
    check_launch(refuse, cuda::launch_first_block_bwd_jvp<T>(
                             call.with<T>(workspace), kept.const_data_ptr<T>(),
                             cotangent.const_data_ptr<T>(), kept_t.const_data_ptr<T>(),
                             tangent.pointers<T>(), cotangent_t.const_data_ptr<T>(),
                             {target<T>(of_weight, needs_weight), of_gamma.mutable_data_ptr<T>(),
                              of_beta.mutable_data_ptr<T>()},
                             target<T>(of_x, needs_x), call.stream));
  });
  return {of_x, of_weight, of_gamma, of_beta};
}

}  // namespace
}  // namespace nsdbench::ops::first_block

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  namespace op = nsdbench::ops::first_block;
  m.impl("first_block", TORCH_BOX(&op::forward));
  m.impl("first_block_jvp", TORCH_BOX(&op::forward_jvp));
  m.impl("first_block_backward", TORCH_BOX(&op::backward));
  m.impl("first_block_backward_jvp", TORCH_BOX(&op::backward_jvp));
}
