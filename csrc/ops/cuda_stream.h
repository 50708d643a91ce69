// The current CUDA stream of a device and the check of a launch, without a CUDA header.

#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <stdexcept>
#include <string>

#include "text.h"

// torch 2.13 is what releases are built against; the headers of 2.11 do not know its name.
#if defined(TORCH_VERSION_2_13_0) && TORCH_FEATURE_VERSION >= TORCH_VERSION_2_13_0
#define NSDBENCH_STREAM_HAS_HANDLE
#else
// Declared by torch in its CUDA builds only; the object links to torch_cuda in this case.
extern "C" int32_t aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);
#endif

namespace nsdbench::ops {

inline void* current_stream(int32_t device_index) {
#ifdef NSDBENCH_STREAM_HAS_HANDLE
  return torch::stable::accelerator::getCurrentStream(device_index).nativeHandle();
#else
  void* stream = nullptr;
  if (aoti_torch_get_current_cuda_stream(device_index, &stream) != 0) {
    throw std::runtime_error("torch has no current CUDA stream");
  }
  return stream;
#endif
}

// Throws what a launcher returned, if it is an error.
inline void check_launch(const Refusal& refuse, const char* error) {
  if (error != nullptr) throw std::runtime_error(std::string(refuse.name) + ": CUDA: " + error);
}

}  // namespace nsdbench::ops
