// What the operators require of their tensors. std::invalid_argument arrives in Python as ValueError
// with its message, which names the mode, what was expected and what came.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kernels/contraction.h"
#include "text.h"

namespace nsdbench::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline constexpr Refusal refuse{"reconstruct"};

constexpr const char* kModeNames[kModes] = {"sample", "channel", "height", "width"};

inline std::string mode_label(int mode) {
  return "mode " + std::to_string(mode + 1) + " (" + kModeNames[mode] + ")";
}

inline bool is_same_device(const Tensor& a, const Tensor& b) { return a.device() == b.device(); }

// The five operands of a reconstruction, contiguous, with their sizes checked.
struct Reconstruction {
  Problem problem;
  Tensor spectra;
  std::array<std::optional<Tensor>, kModes> kernels;
  std::optional<Tensor> index;
  int64_t count;  // images wanted
};

inline Reconstruction check_reconstruction(
    const Tensor& spectra, const std::array<std::optional<Tensor>, kModes>& kernels,
    const std::optional<Tensor>& index) {
  Reconstruction call{};
  Problem& problem = call.problem;
  if (spectra.dim() != 5) {
    refuse("spectra: expected 5 dimensions [N_T, t1, t2, t3, t4], got ", shape_of(spectra));
  }
  const ScalarType dtype = spectra.scalar_type();
  if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
    refuse("spectra: expected dtype float32 or float64, got another");
  }
  problem.num_spectra = spectra.size(0);
  if (problem.num_spectra < 1) {
    refuse("spectra: expected at least one spectrum tensor, got ", shape_of(spectra));
  }
  int64_t sets = -1;
  for (int mode = 0; mode < kModes; ++mode) {
    problem.t[mode] = problem.u[mode] = spectra.size(mode + 1);
    if (problem.t[mode] < 1) {
      refuse("spectra: ", mode_label(mode), ": expected a size of at least 1, got ",
             shape_of(spectra));
    }
    problem.has_kernel[mode] = kernels[mode].has_value();
    if (!problem.has_kernel[mode]) continue;
    const Tensor& kernel = *kernels[mode];
    const auto name = "kernel of " + mode_label(mode);
    if (kernel.dim() != 3) {
      refuse(name, ": expected 3 dimensions [N_K, t", mode + 1, ", u", mode + 1, "], got ",
             shape_of(kernel));
    }
    if (kernel.scalar_type() != dtype) {
      refuse(name, ": expected the dtype of the spectra, got another");
    }
    if (!is_same_device(kernel, spectra)) {
      refuse(name, ": expected the device of the spectra, got another");
    }
    if (kernel.size(1) != problem.t[mode]) {
      refuse(name, ": expected t", mode + 1, " = ", problem.t[mode], " rows as in the spectra, got ",
             kernel.size(1), " (shape ", shape_of(kernel), ")");
    }
    if (kernel.size(0) < 1 || kernel.size(2) < 1) {
      refuse(name, ": expected sizes of at least 1, got ", shape_of(kernel));
    }
    if (sets >= 0 && kernel.size(0) != sets) {
      refuse(name, ": expected N_K = ", sets, " kernel sets as in the modes before, got ",
             kernel.size(0));
    }
    sets = kernel.size(0);
    problem.u[mode] = kernel.size(2);
    call.kernels[mode] = torch::stable::contiguous(kernel);
  }
  problem.num_kernel_sets = sets < 0 ? 1 : sets;
  call.spectra = torch::stable::contiguous(spectra);
  call.count = problem.images();
  if (index.has_value()) {
    if (index->dim() != 1) refuse("index: expected 1 dimension, got ", shape_of(*index));
    if (index->scalar_type() != ScalarType::Long) {
      refuse("index: expected dtype int64, got another");
    }
    if (!is_same_device(*index, spectra)) {
      refuse("index: expected the device of the spectra, got another");
    }
    call.index = torch::stable::contiguous(*index);
    call.count = index->size(0);
  }
  return call;
}

inline Tensor check_grad_images(const Reconstruction& call, const Tensor& grad_images) {
  const Problem& problem = call.problem;
  const int64_t expected[] = {call.count, problem.u[1], problem.u[2], problem.u[3]};
  bool is_right = grad_images.dim() == 4 &&
                  grad_images.scalar_type() == call.spectra.scalar_type() &&
                  is_same_device(grad_images, call.spectra);
  for (int d = 0; is_right && d < 4; ++d) is_right = grad_images.size(d) == expected[d];
  if (!is_right) {
    refuse("grad_images: expected shape [", expected[0], ", ", expected[1], ", ", expected[2], ", ",
           expected[3], "] with the dtype and device of the spectra, got ", shape_of(grad_images));
  }
  return torch::stable::contiguous(grad_images);
}

// Uninitialised gradients for the operands in `wanted` (bit 0 spectra, bit n kernel n), else [0].
inline std::array<Tensor, kModes + 1> allocate_gradients(const Reconstruction& call,
                                                         int64_t wanted) {
  const Problem& problem = call.problem;
  std::array<Tensor, kModes + 1> gradients;
  for (int n = 0; n <= kModes; ++n) {
    std::vector<int64_t> size{0};
    if ((wanted >> n & 1) != 0) {
      if (n == 0) {
        size = {problem.num_spectra, problem.t[0], problem.t[1], problem.t[2], problem.t[3]};
      } else {
        if (!problem.has_kernel[n - 1]) {
          refuse("wanted: ", mode_label(n - 1), " has no kernel to differentiate");
        }
        size = {problem.num_kernel_sets, problem.t[n - 1], problem.u[n - 1]};
      }
    }
    gradients[n] = torch::stable::new_empty(call.spectra, size);
  }
  return gradients;
}

}  // namespace nsdbench::ops
