// inorm_relu_pool for the sanitizers: even and odd planes, every number of threads a plane, blocks that
// are not full, tangents given and absent, no images.

#include "sanitize_inorm_relu_pool.h"

#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "cpu/inorm_relu_pool.h"
#include "cuda/inorm_relu_pool.cu"  // NOLINT: the very source that nvcc compiles

namespace nsdbench::tests {
namespace {

template <typename T>
std::vector<T> draw(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal(0.5);
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

// Floats are run for the sanitizers alone, doubles are compared as well.
template <typename T>
void compare(const std::vector<T>& ours, const std::vector<T>& other, const char* what) {
  for (size_t n = 0; n < ours.size() && sizeof(T) == sizeof(double); ++n) {
    const double size = 1 + std::fabs(other[n]);
    if (!(std::fabs(ours[n] - other[n]) <= 1e-10 * size)) throw std::runtime_error(what);
  }
}

// The gradients of one side, each exactly as large as it must be.
template <typename T>
struct Gradients {
  std::vector<T> x, weight, bias;

  explicit Gradients(const PlaneSizes& sizes)
      : x(sizes.planes() * sizes.plane_size()), weight(sizes.channels), bias(sizes.channels) {}
  NormGradient<T> pointers() { return {x.data(), weight.data(), bias.data()}; }
  void compare_with(const Gradients& other) const {
    compare(x, other.x, "inorm_relu_pool: gradients of x differ");
    compare(weight, other.weight, "inorm_relu_pool: gradients of weight differ");
    compare(bias, other.bias, "inorm_relu_pool: gradients of bias differ");
  }
};

template <typename T>
void run(const PlaneSizes& sizes, bool has_tangents, std::mt19937& random) {
  const int64_t count = sizes.planes() * sizes.plane_size();
  const int64_t pooled = sizes.planes() * sizes.pooled_size();
  const auto x = draw<T>(count, random), x_t = draw<T>(count, random);
  const auto weight = draw<T>(sizes.channels, random), weight_t = draw<T>(sizes.channels, random);
  const auto bias = draw<T>(sizes.channels, random), bias_t = draw<T>(sizes.channels, random);
  const auto grad = draw<T>(pooled, random), grad_t = draw<T>(pooled, random);
  const NormInput<T> input{x.data(), weight.data(), bias.data(), 1e-5};
  NormTangent<T> tangent{};
  if (has_tangents) tangent = {x_t.data(), weight_t.data(), bias_t.data()};
  const T* direction = has_tangents ? grad_t.data() : nullptr;

  std::vector<T> out(pooled), expected(pooled), workspace(cuda::norm_workspace_elements(sizes));
  cpu::inorm_relu_pool<T>(sizes, input, expected.data());
  cuda::launch_inorm_relu_pool_fwd<T>(sizes, input, out.data(), nullptr);
  compare(out, expected, "inorm_relu_pool: values differ");
  cpu::inorm_relu_pool_jvp<T>(sizes, input, tangent, expected.data());
  cuda::launch_inorm_relu_pool_jvp<T>(sizes, input, tangent, out.data(), nullptr);
  compare(out, expected, "inorm_relu_pool: tangents differ");

  Gradients<T> ours(sizes), other(sizes);
  cpu::inorm_relu_pool_backward<T>(sizes, grad.data(), input, other.pointers());
  cuda::launch_inorm_relu_pool_bwd<T>(sizes, grad.data(), input, ours.pointers(), workspace.data(),
                                      nullptr);
  ours.compare_with(other);
  cpu::inorm_relu_pool_backward_jvp<T>(sizes, grad.data(), input, direction, tangent,
                                       other.pointers());
  cuda::launch_inorm_relu_pool_bwd_jvp<T>(sizes, grad.data(), input, direction, tangent,
                                          ours.pointers(), workspace.data(), nullptr);
  ours.compare_with(other);
}

}  // namespace

void sanitize_inorm_relu_pool() {
  std::mt19937 random(9);
  const PlaneSizes cases[] = {{1, 1, 2, 2},  {3, 5, 2, 3},   {33, 9, 3, 2},  {2, 3, 7, 7},
                              {3, 3, 5, 33}, {1, 5, 16, 20}, {1, 3, 25, 26}, {2, 1, 41, 37},
                              {1, 1, 64, 65}, {0, 3, 4, 4}};
  for (const PlaneSizes& sizes : cases) {
    run<double>(sizes, true, random);
    run<double>(sizes, false, random);
    run<float>(sizes, true, random);
  }
}

}  // namespace nsdbench::tests
