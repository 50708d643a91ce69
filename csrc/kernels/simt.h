// The only vocabulary kernels use. nvcc maps it to CUDA; any other C++ compiler maps it to
// tests/native/simt_host.h, which runs the same kernel source on the CPU with one user-level context per
// thread, so that index arithmetic, barriers and shared memory are tested without a GPU.
//
//   SIMT_KERNEL, SIMT_DEVICE                     qualifiers of kernels and of functions they call
//   simt::thread_x() .. simt::grid_size_z()      indices and extents
//   SIMT_UNROLL                                  before a loop of constant length: unroll it, so that
//                                                arrays that it indexes stay in registers
//   SIMT_SHARED(type, name, count)               static shared memory, uninitialised
//   SIMT_SHARED_DYNAMIC(type, name)              dynamic shared memory, size given at launch
//   simt::barrier()                              block barrier; every thread of the block must reach it
//   simt::shuffle_down(value, delta)             value of lane + delta (own value beyond the warp)
//   simt::shuffle_xor(value, mask)               value of lane ^ mask; full warps only
//   simt::launch(kernel, grid, block, shared_bytes, stream, args...)
//   simt::last_error()                           nullptr, or what the launches since the last call did
//   simt::divided_up(count, by)                  of launchers: the quotient, rounded up

#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {
constexpr int kWarpSize = 32;
constexpr int64_t kMaxGridYZ = 65535;  // CUDA's limit for the grid's second and third extent

struct Extent {
  int64_t x = 1, y = 1, z = 1;
};

constexpr int64_t divided_up(int64_t count, int64_t by) { return (count + by - 1) / by; }
}  // namespace simt

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define SIMT_KERNEL static __global__
#define SIMT_DEVICE static __device__ __forceinline__
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_SHARED(type, name, count) __shared__ type name[count]
#define SIMT_SHARED_DYNAMIC(type, name)                                 \
  extern __shared__ __align__(16) unsigned char simt_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(simt_dynamic_shared)

namespace simt {

SIMT_DEVICE int thread_x() { return static_cast<int>(threadIdx.x); }
SIMT_DEVICE int thread_y() { return static_cast<int>(threadIdx.y); }
SIMT_DEVICE int thread_z() { return static_cast<int>(threadIdx.z); }
SIMT_DEVICE int block_size_x() { return static_cast<int>(blockDim.x); }
SIMT_DEVICE int block_size_y() { return static_cast<int>(blockDim.y); }
SIMT_DEVICE int block_size_z() { return static_cast<int>(blockDim.z); }
SIMT_DEVICE int64_t block_x() { return blockIdx.x; }
SIMT_DEVICE int64_t block_y() { return blockIdx.y; }
SIMT_DEVICE int64_t block_z() { return blockIdx.z; }
SIMT_DEVICE int64_t grid_size_x() { return gridDim.x; }
SIMT_DEVICE int64_t grid_size_y() { return gridDim.y; }
SIMT_DEVICE int64_t grid_size_z() { return gridDim.z; }
SIMT_DEVICE void barrier() { __syncthreads(); }

template <typename T>
SIMT_DEVICE T shuffle_down(T value, int delta) {
  return __shfl_down_sync(0xffffffffu, value, delta);
}
template <typename T>
SIMT_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), Extent grid, Extent block, size_t shared_bytes,
            void* stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  kernel<<<dim3(grid.x, grid.y, grid.z), dim3(block.x, block.y, block.z), shared_bytes,
           static_cast<cudaStream_t>(stream)>>>(arguments...);
}

inline const char* last_error() {
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace simt

#else
#include "simt_host.h"
#endif
