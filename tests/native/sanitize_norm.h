// inorm_relu_pool in either layout beside the CPU code, for the sanitizers: every array is exactly as large
// as it must be.

#pragma once

#include "cpu/inorm_relu_pool.h"
#include "norm_layouts.h"
#include "sanitize.h"

namespace nsdbench::tests {

// x, weight and bias, a direction in their space, or the gradients; and the pointers to them.
template <typename T>
struct NormArrays {
  std::vector<T> x, weight, bias;

  NormInput<T> input() const { return {x.data(), weight.data(), bias.data(), 1e-5}; }
  NormTangent<T> tangent() const { return {x.data(), weight.data(), bias.data()}; }
  NormGradient<T> gradient() { return {x.data(), weight.data(), bias.data()}; }
};

template <typename Layout, typename T>
void compare_norm(const PlaneSizes& sizes, bool has_tangents, std::mt19937& random) {
  const int64_t count = sizes.planes() * sizes.plane_size();
  const int64_t pooled = sizes.planes() * sizes.pooled_size();
  const auto laid_out = [&](const std::vector<T>& map) {
    return Layout::kHasChannelsInnermost ? innermost(map, sizes.images, sizes.channels) : map;
  };
  const auto drawn = [&] {
    auto x = draw<T>(count, random), weight = draw<T>(sizes.channels, random);
    return NormArrays<T>{x, weight, draw<T>(sizes.channels, random)};
  };
  const auto expect = [&](const std::vector<T>& ours, const std::vector<T>& cpu, const char* what) {
    compare(ours, cpu, 1e-10, std::string(Layout::kName) + ": " + what);
  };
  const NormArrays<T> at = drawn(), along = drawn();
  const NormArrays<T> at_laid_out{laid_out(at.x), at.weight, at.bias};
  const NormArrays<T> along_laid_out{laid_out(along.x), along.weight, along.bias};
  const auto grad = draw<T>(pooled, random), grad_t = draw<T>(pooled, random);
  const auto grad_laid_out = laid_out(grad), grad_t_laid_out = laid_out(grad_t);
  const auto tangent = has_tangents ? along.tangent() : NormTangent<T>{};
  const auto tangent_laid_out = has_tangents ? along_laid_out.tangent() : NormTangent<T>{};

  std::vector<T> out(pooled), expected(pooled), workspace(cuda::norm_workspace_elements(sizes));
  cpu::inorm_relu_pool<T>(sizes, at.input(), expected.data());
  Layout::template forward<T>(sizes, at_laid_out.input(), out.data(), nullptr);
  expect(out, laid_out(expected), "values");
  cpu::inorm_relu_pool_jvp<T>(sizes, at.input(), tangent, expected.data());
  Layout::template forward_jvp<T>(sizes, at_laid_out.input(), tangent_laid_out, out.data(),
                                  nullptr);
  expect(out, laid_out(expected), "tangents");

  const NormArrays<T> blank{std::vector<T>(count), std::vector<T>(sizes.channels),
                            std::vector<T>(sizes.channels)};
  NormArrays<T> ours = blank, other = blank;
  const auto expect_gradients = [&] {
    expect(ours.x, laid_out(other.x), "gradients of x");
    expect(ours.weight, other.weight, "gradients of weight");
    expect(ours.bias, other.bias, "gradients of bias");
  };
  cpu::inorm_relu_pool_backward<T>(sizes, grad.data(), at.input(), other.gradient());
  Layout::template backward<T>(sizes, grad_laid_out.data(), at_laid_out.input(), ours.gradient(),
                               workspace.data(), nullptr);
  expect_gradients();
  cpu::inorm_relu_pool_backward_jvp<T>(sizes, grad.data(), at.input(),
                                       has_tangents ? grad_t.data() : nullptr, tangent,
                                       other.gradient());
  Layout::template backward_jvp<T>(sizes, grad_laid_out.data(), at_laid_out.input(),
                                   has_tangents ? grad_t_laid_out.data() : nullptr,
                                   tangent_laid_out, ours.gradient(), workspace.data(), nullptr);
  expect_gradients();
}

template <typename Layout, size_t kCases>
void compare_norms(const PlaneSizes (&cases)[kCases], std::mt19937& random) {
  for (const PlaneSizes& sizes : cases) {
    compare_norm<Layout, double>(sizes, true, random);
    compare_norm<Layout, double>(sizes, false, random);
    compare_norm<Layout, float>(sizes, true, random);
  }
}

}  // namespace nsdbench::tests
