// The four operators on any device: tensors to pointers, nothing else. `Device` holds the device's
// implementation of each and whatever must live during the call, and says which layout that takes; it is
// made of x.

#pragma once

#include <tuple>

#include "inorm_relu_pool_checks.h"

namespace nsdbench::ops::inorm_relu_pool {

using Three = std::tuple<Tensor, Tensor, Tensor>;

template <typename T>
NormInput<T> input_of(const Call& call) {
  return {call.x.const_data_ptr<T>(), call.weight.const_data_ptr<T>(),
          call.bias.const_data_ptr<T>(), call.eps};
}

template <typename T>
NormTangent<T> tangent_of(const Tangent& tangent) {
  return {pointer<T>(tangent.x), pointer<T>(tangent.weight), pointer<T>(tangent.bias)};
}

// Uninitialised tensors like x, weight and bias.
inline Three allocate_gradients(const Call& call) {
  return {allocate(call.x, shape_of(call.x)), allocate(call.x, shape_of(call.weight)),
          allocate(call.x, shape_of(call.bias))};
}

template <typename T>
NormGradient<T> pointers(const Three& tensors) {
  return {std::get<0>(tensors).mutable_data_ptr<T>(), std::get<1>(tensors).mutable_data_ptr<T>(),
          std::get<2>(tensors).mutable_data_ptr<T>()};
}

template <typename Device>
Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Call call = check_call(Device::kLayout, x, weight, bias, eps);
  const Device device(call.x);
  Tensor out = allocate(call.x, call.pooled());
  dispatch(call.x, [&]<typename T>(T) {
    device.forward(call.sizes, input_of<T>(call), out.mutable_data_ptr<T>());
  });
  return out;
}

template <typename Device>
Tensor forward_jvp(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                   const MaybeTensor& x_t, const MaybeTensor& weight_t, const MaybeTensor& bias_t) {
  const Call call = check_call(Device::kLayout, x, weight, bias, eps);
  const Tangent tangent = check_tangent(call, x_t, weight_t, bias_t);
  const Device device(call.x);
  Tensor out_t = allocate(call.x, call.pooled());
  dispatch(call.x, [&]<typename T>(T) {
    device.forward_jvp(call.sizes, input_of<T>(call), tangent_of<T>(tangent),
                       out_t.mutable_data_ptr<T>());
  });
  return out_t;
}

template <typename Device>
Three backward(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& bias,
               double eps) {
  const Call call = check_call(Device::kLayout, x, weight, bias, eps);
  const Tensor cotangent = check(refuse, "grad", grad, call.pooled(), call.x);
  const Device device(call.x);
  const Three result = allocate_gradients(call);
  dispatch(call.x, [&]<typename T>(T) {
    device.backward(call.sizes, cotangent.const_data_ptr<T>(), input_of<T>(call),
                    pointers<T>(result));
  });
  return result;
}

template <typename Device>
Three backward_jvp(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& bias,
                   double eps, const MaybeTensor& grad_t, const MaybeTensor& x_t,
                   const MaybeTensor& weight_t, const MaybeTensor& bias_t) {
  const Call call = check_call(Device::kLayout, x, weight, bias, eps);
  const Tensor cotangent = check(refuse, "grad", grad, call.pooled(), call.x);
  const MaybeTensor cotangent_t = check(refuse, "grad_t", grad_t, call.pooled(), call.x);
  const Tangent tangent = check_tangent(call, x_t, weight_t, bias_t);
  const Device device(call.x);
  const Three result = allocate_gradients(call);
  dispatch(call.x, [&]<typename T>(T) {
    device.backward_jvp(call.sizes, cotangent.const_data_ptr<T>(), input_of<T>(call),
                        pointer<T>(cotangent_t), tangent_of<T>(tangent), pointers<T>(result));
  });
  return result;
}

}  // namespace nsdbench::ops::inorm_relu_pool
