// inorm_relu_pool for the sanitizers: even and odd planes, every number of threads a plane, blocks that
// are not full, tangents given and absent, no images.

#include "cuda/inorm_relu_pool.cu"  // NOLINT: the very source that nvcc compiles
#include "sanitize_norm.h"

void nsdbench::tests::sanitize_inorm_relu_pool() {
  std::mt19937 random(9);
  const PlaneSizes cases[] = {{1, 1, 2, 2},  {3, 5, 2, 3},   {33, 9, 3, 2},  {2, 3, 7, 7},
                              {3, 3, 5, 33}, {1, 5, 16, 20}, {1, 3, 25, 26}, {2, 1, 41, 37},
                              {1, 1, 64, 65}, {0, 3, 4, 4}};
  compare_norms<Nchw>(cases, random);
}
