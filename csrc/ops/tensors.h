// What every operator does with its tensors: dispatch on the dtype, brief checks, pointers. The public
// functions in nsdbench/ops say in full what is wrong with an argument; the checks here keep a direct
// call of torch.ops.nsdbench from reading out of bounds.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "text.h"

namespace nsdbench::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

// Calls body(T()) with T the element type of x.
template <typename Body>
void dispatch(const Tensor& x, const Body& body) {
  x.scalar_type() == ScalarType::Float ? body(float{}) : body(double{});
}

// The tensor that decides dtype and device: float32 or float64, of so many dimensions.
inline Tensor check_leading(const Refusal& refuse, const char* name, const Tensor& tensor,
                            int64_t dimensions) {
  const ScalarType dtype = tensor.scalar_type();
  if (tensor.dim() != dimensions || (dtype != ScalarType::Float && dtype != ScalarType::Double)) {
    refuse(name, ": expected ", dimensions, " dimensions, float32 or float64, got ",
           shape_of(tensor));
  }
  return torch::stable::contiguous(tensor);
}

// A tensor of the shape expected with this dtype, on the device of `like`; returned contiguous.
inline Tensor check(const Refusal& refuse, const char* name, const Tensor& tensor,
                    const Shape& expected, const Tensor& like, ScalarType dtype) {
  if (shape_of(tensor) != expected || tensor.scalar_type() != dtype ||
      !(tensor.device() == like.device())) {
    refuse(name, ": expected shape ", expected, " with the right dtype and device, got ",
           shape_of(tensor));
  }
  return torch::stable::contiguous(tensor);
}

// The same, with the dtype of `like`.
inline Tensor check(const Refusal& refuse, const char* name, const Tensor& tensor,
                    const Shape& expected, const Tensor& like) {
  return check(refuse, name, tensor, expected, like, like.scalar_type());
}

inline MaybeTensor check(const Refusal& refuse, const char* name, const MaybeTensor& tensor,
                         const Shape& expected, const Tensor& like) {
  return tensor ? MaybeTensor(check(refuse, name, *tensor, expected, like)) : std::nullopt;
}

template <typename T>
const T* pointer(const MaybeTensor& tensor) {
  return tensor ? tensor->const_data_ptr<T>() : nullptr;
}

// An uninitialised tensor with the dtype and device of `like`, or [0] if it is not wanted.
inline Tensor allocate(const Tensor& like, const Shape& shape, bool is_wanted = true) {
  return torch::stable::new_empty(like, is_wanted ? shape : Shape{0});
}

// Where to write a tensor; null if it is not wanted.
template <typename T>
T* target(const Tensor& tensor, bool is_wanted = true) {
  return is_wanted ? tensor.mutable_data_ptr<T>() : nullptr;
}

}  // namespace nsdbench::ops
