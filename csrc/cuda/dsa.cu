// Launches one kernel over the batch: a block per image and tile of pixels.

#include "cuda/dsa.h"

#include <algorithm>

#include "kernels/dsa.cuh"

namespace nsdbench::cuda {
namespace {

// The sums of color are over a whole image, so one block has all of it.
simt::Extent grid_of(const DsaProblem& problem) {
  const int64_t tiles = simt::divided_up(problem.plane_size(), kernels::kDsaThreads);
  return {problem.images,
          problem.operation == Dsa::kColor ? 1 : std::min(tiles, simt::kMaxGridYZ), 1};
}

}  // namespace

template <typename T>
const char* launch_dsa_fwd(const DsaProblem& problem, const double* parameters, const T* x, T* out,
                           void* stream) {
  const int columns = kDsaColumns[static_cast<int>(problem.operation)];
  simt::launch(kernels::dsa_fwd_kernel<T>, grid_of(problem), {kernels::kDsaThreads, 1, 1}, 0,
               stream, problem, parameters, columns, x, out);
  return simt::last_error();
}

template <typename T>
const char* launch_dsa_bwd(const DsaProblem& problem, const double* parameters, const T* grad,
                           T* grad_x, void* stream) {
  const int columns = kDsaColumns[static_cast<int>(problem.operation)];
  simt::launch(kernels::dsa_bwd_kernel<T>, grid_of(problem), {kernels::kDsaThreads, 1, 1}, 0,
               stream, problem, parameters, columns, grad, grad_x);
  return simt::last_error();
}

#define NSDBENCH_INSTANTIATE(T)                                                             \
  template const char* launch_dsa_fwd<T>(const DsaProblem&, const double*, const T*, T*, void*); \
  template const char* launch_dsa_bwd<T>(const DsaProblem&, const double*, const T*, T*, void*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cuda
