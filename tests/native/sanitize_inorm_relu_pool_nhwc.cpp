// inorm_relu_pool with channels innermost for the sanitizers: even and odd planes, vectors of channels and
// single ones, several images a block and planes that registers do not hold, blocks that are not full,
// tangents given and absent, no images.

#include "cuda/inorm_relu_pool_nhwc.cu"  // NOLINT: the very source that nvcc compiles
#include "sanitize_norm.h"

void nsdbench::tests::sanitize_inorm_relu_pool_nhwc() {
  std::mt19937 random(10);
  const PlaneSizes cases[] = {{1, 1, 2, 2},  {3, 5, 2, 3},   {33, 9, 3, 2},  {2, 3, 7, 7},
                              {3, 20, 5, 4}, {2, 36, 16, 15}, {1, 4, 21, 18}, {1, 2, 33, 35},
                              {1, 17, 18, 9}, {0, 3, 4, 4}};
  compare_norms<Nhwc>(cases, random);
}
