// inorm_relu_pool with channels innermost for the sanitizers: even and odd planes, vectors of channels and
// single ones, several images a block and planes that registers do not hold, blocks that are not full,
// tangents given and absent, no images.

#include "sanitize_inorm_relu_pool_nhwc.h"

#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "cpu/inorm_relu_pool.h"
#include "cuda/inorm_relu_pool_nhwc.cu"  // NOLINT: the very source that nvcc compiles

namespace nsdbench::tests {
namespace {

template <typename T>
std::vector<T> draw(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal(0.5);
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

// [images, rows, columns] to [images, columns, rows].
template <typename T>
std::vector<T> turned(const std::vector<T>& from, int64_t images, int64_t rows, int64_t columns) {
  std::vector<T> to(from.size());
  for (int64_t i = 0; i < images; ++i) {
    for (int64_t n = 0; n < rows * columns; ++n) {
      to[i * rows * columns + n % columns * rows + n / columns] = from[i * rows * columns + n];
    }
  }
  return to;
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
};

template <typename T>
void run(const PlaneSizes& sizes, bool has_tangents, std::mt19937& random) {
  const int64_t count = sizes.planes() * sizes.plane_size();
  const int64_t pooled = sizes.planes() * sizes.pooled_size();
  const auto to_nhwc = [&](const std::vector<T>& map, int64_t size) {
    return turned(map, sizes.images, sizes.channels, size);
  };
  const auto x = draw<T>(count, random), x_t = draw<T>(count, random);
  const auto weight = draw<T>(sizes.channels, random), weight_t = draw<T>(sizes.channels, random);
  const auto bias = draw<T>(sizes.channels, random), bias_t = draw<T>(sizes.channels, random);
  const auto grad = draw<T>(pooled, random), grad_t = draw<T>(pooled, random);
  const auto x_nhwc = to_nhwc(x, sizes.plane_size()), x_t_nhwc = to_nhwc(x_t, sizes.plane_size());
  const auto grad_nhwc = to_nhwc(grad, sizes.pooled_size());
  const auto grad_t_nhwc = to_nhwc(grad_t, sizes.pooled_size());
  const NormInput<T> input{x.data(), weight.data(), bias.data(), 1e-5};
  const NormInput<T> input_nhwc{x_nhwc.data(), weight.data(), bias.data(), 1e-5};
  NormTangent<T> tangent{}, tangent_nhwc{};
  if (has_tangents) {
    tangent = {x_t.data(), weight_t.data(), bias_t.data()};
    tangent_nhwc = {x_t_nhwc.data(), weight_t.data(), bias_t.data()};
  }

  std::vector<T> out(pooled), expected(pooled), workspace(cuda::norm_workspace_elements(sizes));
  const auto compare_pooled = [&](const char* what) {
    compare(out, to_nhwc(expected, sizes.pooled_size()), what);
  };
  cpu::inorm_relu_pool<T>(sizes, input, expected.data());
  cuda::launch_inorm_relu_pool_nhwc_fwd<T>(sizes, input_nhwc, out.data(), nullptr);
  compare_pooled("inorm_relu_pool_nhwc: values differ");
  cpu::inorm_relu_pool_jvp<T>(sizes, input, tangent, expected.data());
  cuda::launch_inorm_relu_pool_nhwc_jvp<T>(sizes, input_nhwc, tangent_nhwc, out.data(), nullptr);
  compare_pooled("inorm_relu_pool_nhwc: tangents differ");

  Gradients<T> ours(sizes), other(sizes);
  const auto compare_gradients = [&] {
    compare(ours.x, to_nhwc(other.x, sizes.plane_size()),
            "inorm_relu_pool_nhwc: gradients of x differ");
    compare(ours.weight, other.weight, "inorm_relu_pool_nhwc: gradients of weight differ");
    compare(ours.bias, other.bias, "inorm_relu_pool_nhwc: gradients of bias differ");
  };
  cpu::inorm_relu_pool_backward<T>(sizes, grad.data(), input, other.pointers());
  cuda::launch_inorm_relu_pool_nhwc_bwd<T>(sizes, grad_nhwc.data(), input_nhwc, ours.pointers(),
                                           workspace.data(), nullptr);
  compare_gradients();
  cpu::inorm_relu_pool_backward_jvp<T>(sizes, grad.data(), input,
                                       has_tangents ? grad_t.data() : nullptr, tangent,
                                       other.pointers());
  cuda::launch_inorm_relu_pool_nhwc_bwd_jvp<T>(
      sizes, grad_nhwc.data(), input_nhwc, has_tangents ? grad_t_nhwc.data() : nullptr,
      tangent_nhwc, ours.pointers(), workspace.data(), nullptr);
  compare_gradients();
}

}  // namespace

void sanitize_inorm_relu_pool_nhwc() {
  std::mt19937 random(10);
  const PlaneSizes cases[] = {{1, 1, 2, 2},  {3, 5, 2, 3},   {33, 9, 3, 2},  {2, 3, 7, 7},
                              {3, 20, 5, 4}, {2, 36, 16, 15}, {1, 4, 21, 18}, {1, 2, 33, 35},
                              {1, 17, 18, 9}, {0, 3, 4, 4}};
  for (const PlaneSizes& sizes : cases) {
    run<double>(sizes, true, random);
    run<double>(sizes, false, random);
    run<float>(sizes, true, random);
  }
}

}  // namespace nsdbench::tests
