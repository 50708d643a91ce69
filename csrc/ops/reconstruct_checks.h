// What reconstruct requires of its tensors, for every device.

#pragma once

#include <array>
#include <tuple>

#include "kernels/contraction.h"
#include "tensors.h"

namespace nsdbench::ops::reconstruct {

inline constexpr Refusal refuse{"reconstruct"};

constexpr const char* kKernelNames[kModes] = {"kernel1", "kernel2", "kernel3", "kernel4"};

using Kernels = std::array<MaybeTensor, kModes>;
using Gradients = std::array<Tensor, kModes + 1>;
using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// The five operands of a reconstruction, contiguous, with their sizes checked.
struct Call {
  Problem problem;
  Tensor spectra;
  Kernels kernels;
  MaybeTensor index;
  int64_t count;  // images wanted

  Shape images_shape() const { return {count, problem.u[1], problem.u[2], problem.u[3]}; }
};

inline Call check_call(const Tensor& spectra, const Kernels& kernels, const MaybeTensor& index) {
  Call call{};
  Problem& problem = call.problem;
  call.spectra = check_leading(refuse, "spectra", spectra, 5);
  if (spectra.numel() < 1) refuse("spectra: expected no empty mode, got ", shape_of(spectra));
  problem.num_spectra = spectra.size(0);
  problem.num_kernel_sets = 1;
  for (const MaybeTensor& kernel : kernels) {
    if (kernel && kernel->dim() == 3) problem.num_kernel_sets = kernel->size(0);
  }
  for (int mode = 0; mode < kModes; ++mode) {
    problem.t[mode] = problem.u[mode] = spectra.size(mode + 1);
    problem.has_kernel[mode] = kernels[mode].has_value();
    if (!problem.has_kernel[mode]) continue;
    const Tensor& kernel = *kernels[mode];
    problem.u[mode] = kernel.dim() == 3 ? kernel.size(2) : 1;
    const Shape expected{problem.num_kernel_sets, problem.t[mode], problem.u[mode]};
    call.kernels[mode] = check(refuse, kKernelNames[mode], kernel, expected, spectra);
    if (kernel.numel() < 1) refuse(kKernelNames[mode], ": expected no empty mode, got ", expected);
  }
  call.count = problem.images();
  if (index) {
    call.count = index->numel();
    call.index = check(refuse, "index", *index, {call.count}, spectra, ScalarType::Long);
  }
  return call;
}

inline Tensor check_grad_images(const Call& call, const Tensor& grad_images) {
  return check(refuse, "grad_images", grad_images, call.images_shape(), call.spectra);
}

// Uninitialised gradients for the operands in `wanted` (bit 0 spectra, bit n kernel n), else [0].
inline Gradients allocate_gradients(const Call& call, int64_t wanted) {
  Gradients gradients{allocate(call.spectra, shape_of(call.spectra), (wanted & 1) != 0)};
  for (int n = 0; n < kModes; ++n) {
    const bool is_wanted = (wanted >> (n + 1) & 1) != 0;
    if (is_wanted && !call.kernels[n]) refuse("wanted: there is no ", kKernelNames[n]);
    gradients[n + 1] = allocate(call.spectra, is_wanted ? shape_of(*call.kernels[n]) : Shape{0});
  }
  return gradients;
}

// Where an implementation for one device writes the gradients: null where they are not wanted.
template <typename Pointers, typename T>
Pointers gradient_pointers(const Gradients& gradients, int64_t wanted) {
  Pointers pointers{target<T>(gradients[0], (wanted & 1) != 0), {}};
  for (int n = 0; n < kModes; ++n) {
    pointers.kernels[n] = target<T>(gradients[n + 1], (wanted >> (n + 1) & 1) != 0);
  }
  return pointers;
}

}  // namespace nsdbench::ops::reconstruct
