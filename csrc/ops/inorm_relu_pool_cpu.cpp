// Binds inorm_relu_pool's CPU implementation: tensors to pointers, nothing else.

#include <tuple>

#include "inorm_relu_pool_checks.h"

namespace nsdbench::ops::inorm_relu_pool {
namespace {

using Three = std::tuple<Tensor, Tensor, Tensor>;

template <typename T>
cpu::NormInput<T> input_of(const Call& call) {
  return {call.x.const_data_ptr<T>(), call.weight.const_data_ptr<T>(),
          call.bias.const_data_ptr<T>(), call.eps};
}

template <typename T>
const T* pointer(const MaybeTensor& tensor) {
  return tensor ? tensor->const_data_ptr<T>() : nullptr;
}

template <typename T>
cpu::NormTangent<T> tangent_of(const Tangent& tangent) {
  return {pointer<T>(tangent.x), pointer<T>(tangent.weight), pointer<T>(tangent.bias)};
}

template <typename Body>
void dispatch(const Tensor& x, const Body& body) {
  x.scalar_type() == ScalarType::Float ? body(float{}) : body(double{});
}

Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Call call = check_call(x, weight, bias, eps);
  Tensor out = torch::stable::new_empty(call.x, call.pooled());
  dispatch(call.x, [&]<typename T>(T) {
    cpu::inorm_relu_pool<T>(call.sizes, input_of<T>(call), out.mutable_data_ptr<T>());
  });
  return out;
}

Tensor forward_jvp(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                   const MaybeTensor& x_t, const MaybeTensor& weight_t,
                   const MaybeTensor& bias_t) {
  const Call call = check_call(x, weight, bias, eps);
  const Tangent tangent = check_tangent(call, x_t, weight_t, bias_t);
  Tensor out_t = torch::stable::new_empty(call.x, call.pooled());
  dispatch(call.x, [&]<typename T>(T) {
    cpu::inorm_relu_pool_jvp<T>(call.sizes, input_of<T>(call), tangent_of<T>(tangent),
                                out_t.mutable_data_ptr<T>());
  });
  return out_t;
}

// Uninitialised tensors like x, weight and bias.
Three allocate(const Call& call) {
  return {torch::stable::new_empty(call.x, shape_of(call.x)),
          torch::stable::new_empty(call.x, shape_of(call.weight)),
          torch::stable::new_empty(call.x, shape_of(call.bias))};
}

template <typename T>
cpu::NormGradient<T> pointers(const Three& tensors) {
  return {std::get<0>(tensors).mutable_data_ptr<T>(), std::get<1>(tensors).mutable_data_ptr<T>(),
          std::get<2>(tensors).mutable_data_ptr<T>()};
}

Three backward(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& bias,
               double eps) {
  const Call call = check_call(x, weight, bias, eps);
  const Tensor cotangent = check("grad", grad, call.pooled(), call.x);
  const Three result = allocate(call);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::inorm_relu_pool_backward<T>(call.sizes, cotangent.const_data_ptr<T>(), input_of<T>(call),
                                     pointers<T>(result));
  });
  return result;
}

Three backward_jvp(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& bias,
                   double eps, const MaybeTensor& grad_t, const MaybeTensor& x_t,
                   const MaybeTensor& weight_t, const MaybeTensor& bias_t) {
  const Call call = check_call(x, weight, bias, eps);
  const Tensor cotangent = check("grad", grad, call.pooled(), call.x);
  const MaybeTensor cotangent_t = check("grad_t", grad_t, call.pooled(), call.x);
  const Tangent tangent = check_tangent(call, x_t, weight_t, bias_t);
  const Three result = allocate(call);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::inorm_relu_pool_backward_jvp<T>(call.sizes, cotangent.const_data_ptr<T>(),
                                         input_of<T>(call), pointer<T>(cotangent_t),
                                         tangent_of<T>(tangent), pointers<T>(result));
  });
  return result;
}

}  // namespace
}  // namespace nsdbench::ops::inorm_relu_pool

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  namespace op = nsdbench::ops::inorm_relu_pool;
  m.impl("inorm_relu_pool", TORCH_BOX(&op::forward));
  m.impl("inorm_relu_pool_jvp", TORCH_BOX(&op::forward_jvp));
  m.impl("inorm_relu_pool_backward", TORCH_BOX(&op::backward));
  m.impl("inorm_relu_pool_backward_jvp", TORCH_BOX(&op::backward_jvp));
}
