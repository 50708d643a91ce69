// Binds inorm_relu_pool's CPU implementation.

#include "cpu/inorm_relu_pool.h"
#include "inorm_relu_pool_ops.h"

namespace nsdbench::ops::inorm_relu_pool {
namespace {

struct Cpu {
  explicit Cpu(const Tensor&) {}

  template <typename T>
  void forward(const PlaneSizes& sizes, const NormInput<T>& input, T* out) const {
    cpu::inorm_relu_pool<T>(sizes, input, out);
  }
  template <typename T>
  void forward_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                   const NormTangent<T>& tangent, T* out_t) const {
    cpu::inorm_relu_pool_jvp<T>(sizes, input, tangent, out_t);
  }
  template <typename T>
  void backward(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                const NormGradient<T>& result) const {
    cpu::inorm_relu_pool_backward<T>(sizes, grad, input, result);
  }
  template <typename T>
  void backward_jvp(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                    const T* grad_t, const NormTangent<T>& tangent,
                    const NormGradient<T>& result) const {
    cpu::inorm_relu_pool_backward_jvp<T>(sizes, grad, input, grad_t, tangent, result);
  }
};

}  // namespace
}  // namespace nsdbench::ops::inorm_relu_pool

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  namespace op = nsdbench::ops::inorm_relu_pool;
  m.impl("inorm_relu_pool", TORCH_BOX(&op::forward<op::Cpu>));
  m.impl("inorm_relu_pool_jvp", TORCH_BOX(&op::forward_jvp<op::Cpu>));
  m.impl("inorm_relu_pool_backward", TORCH_BOX(&op::backward<op::Cpu>));
  m.impl("inorm_relu_pool_backward_jvp", TORCH_BOX(&op::backward_jvp<op::Cpu>));
}
