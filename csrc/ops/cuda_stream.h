// The current CUDA stream of a device, without a CUDA header.

#pragma once

#include <stdexcept>

#include <torch/csrc/stable/accelerator.h>

// Headers of an older torch do not know the name of the newer version.
#if defined(TORCH_VERSION_2_13_0) && TORCH_FEATURE_VERSION >= TORCH_VERSION_2_13_0
#define NSDBENCH_STREAM_HAS_HANDLE
#endif

#ifndef NSDBENCH_STREAM_HAS_HANDLE
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

}  // namespace nsdbench::ops
