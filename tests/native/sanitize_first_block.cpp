// The first block for the sanitizers: grey and colour, even and odd maps, tiles that the map cuts, more tiles
// than slices, one and several groups of channels, what is not wanted left out, no images.

#include <limits>

#include "cpu/inorm_relu_pool.h"
#include "cuda/first_block.cu"  // NOLINT: the very source that nvcc compiles
#include "sanitize.h"

namespace nsdbench::tests {
namespace {

constexpr double kTolerance = 1e-9;

// Calls body(place in x, place in the weights, place in the map) for every multiply-add of the convolution.
template <typename Body>
void for_each_product(const FirstBlockSizes& s, const Body& body) {
  const int64_t rows = s.map_height(), columns = s.map_width();
  for (int64_t n = 0; n < s.images * s.channels * rows * columns; ++n) {
    const int64_t w = n % columns, h = n / columns % rows;
    const int64_t c = n / columns / rows % s.channels, image = n / columns / rows / s.channels;
    for (int64_t k = 0; k < s.taps(); ++k) {
      const int64_t y = h + k / 3 % 3 - s.padding, x = w + k % 3 - s.padding;
      if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
      body(((image * s.in_channels + k / 9) * s.height + y) * s.width + x, c * s.taps() + k, n);
    }
  }
}

template <typename T>
void run(const FirstBlockSizes& sizes, bool needs_weight, bool needs_x, std::mt19937& random) {
  const PlaneSizes planes{sizes.images, sizes.channels, sizes.map_height(), sizes.map_width()};
  const int64_t map = planes.planes() * planes.plane_size();
  const int64_t pixels = sizes.images * sizes.in_channels * sizes.height * sizes.width;
  const int64_t channels = sizes.channels, taps = sizes.taps() * channels;
  const auto x = draw<T>(pixels, random);
  const auto weight = draw<T>(taps, random), weight_t = draw<T>(taps, random);
  const auto gamma = draw<T>(channels, random), gamma_t = draw<T>(channels, random);
  const auto beta = draw<T>(channels, random), beta_t = draw<T>(channels, random);
  const auto grad = draw<T>(sizes.pooled_size(), random);
  const auto grad_t = draw<T>(sizes.pooled_size(), random);

  // Plain loops, and the norm block of the CPU.
  std::vector<T> z(map), z_t(map), dz(map), dz_t(map);
  for_each_product(sizes, [&](int64_t pixel, int64_t tap, int64_t place) {
    z[place] += x[pixel] * weight[tap];
    z_t[place] += x[pixel] * weight_t[tap];
  });
  const NormInput<T> input{z.data(), gamma.data(), beta.data(), 1e-5};
  const NormTangent<T> tangent{z_t.data(), gamma_t.data(), beta_t.data()};
  std::vector<T> out(sizes.pooled_size()), out_t(sizes.pooled_size());
  cpu::inorm_relu_pool<T>(planes, input, out.data());
  cpu::inorm_relu_pool_jvp<T>(planes, input, tangent, out_t.data());
  std::vector<T> of_gamma(channels), of_beta(channels), of_gamma_t(channels), of_beta_t(channels);
  cpu::inorm_relu_pool_backward<T>(planes, grad.data(), input,
                                   {dz.data(), of_gamma.data(), of_beta.data()});
  cpu::inorm_relu_pool_backward_jvp<T>(planes, grad.data(), input, grad_t.data(), tangent,
                                       {dz_t.data(), of_gamma_t.data(), of_beta_t.data()});
  std::vector<T> of_weight(taps), of_weight_t(taps), of_x_t(pixels);
  for_each_product(sizes, [&](int64_t pixel, int64_t tap, int64_t place) {
    of_weight[tap] += x[pixel] * dz[place];
    of_weight_t[tap] += x[pixel] * dz_t[place];
    of_x_t[pixel] += weight[tap] * dz_t[place] + weight_t[tap] * dz[place];
  });

  const auto grad_inner = innermost(grad, sizes.images, channels);
  const auto grad_t_inner = innermost(grad_t, sizes.images, channels);
  std::vector<T> ours(sizes.pooled_size()), moments(sizes.moments_size()), workspace;
  std::vector<T> moments_t(sizes.moments_size()), w(taps), g(channels), b(channels);
  cuda::FirstBlockCall<T> call{
      sizes, x.data(), {weight.data(), gamma.data(), beta.data()}, nullptr};
  const auto with = [&](int64_t elements) {
    workspace.assign(static_cast<size_t>(elements), std::numeric_limits<T>::quiet_NaN());
    call.workspace = workspace.data();
    return call;
  };
  const FirstBlockWeights<T> along{weight_t.data(), gamma_t.data(), beta_t.data()};
  cuda::launch_first_block_fwd<T>(with(cuda::first_block_workspace(sizes)), 1e-5, ours.data(),
                                  moments.data(), nullptr);
  compare(ours, innermost(out, sizes.images, channels), kTolerance, "first_block: values");
  cuda::launch_first_block_jvp<T>(with(cuda::first_block_workspace(sizes)), moments.data(), along,
                                  ours.data(), moments_t.data(), nullptr);
  compare(ours, innermost(out_t, sizes.images, channels), kTolerance, "first_block: tangents");
  cuda::launch_first_block_bwd<T>(with(cuda::first_block_bwd_workspace(sizes)), moments.data(),
                                  grad_inner.data(), {w.data(), g.data(), b.data()}, nullptr);
  compare(w, of_weight, kTolerance, "first_block: gradients of weight");
  compare(g, of_gamma, kTolerance, "first_block: gradients of gamma");
  compare(b, of_beta, kTolerance, "first_block: gradients of beta");
  std::vector<T> images(pixels);
  cuda::launch_first_block_bwd_jvp<T>(
      with(cuda::first_block_bwd_jvp_workspace(sizes, needs_x)), moments.data(), grad_inner.data(),
      moments_t.data(), along, grad_t_inner.data(),
      {needs_weight ? w.data() : nullptr, g.data(), b.data()}, needs_x ? images.data() : nullptr,
      nullptr);
  if (needs_weight) compare(w, of_weight_t, kTolerance, "first_block: tangents of weight's gradient");
  if (needs_x) compare(images, of_x_t, kTolerance, "first_block: tangents of x's gradient");
  compare(g, of_gamma_t, kTolerance, "first_block: tangents of gamma's gradient");
  compare(b, of_beta_t, kTolerance, "first_block: tangents of beta's gradient");
}

}  // namespace

void sanitize_first_block() {
  std::mt19937 random(12);
  // images, channels of them, height, width, padding, channels of the map
  const FirstBlockSizes cases[] = {{1, 1, 2, 2, 1, 1},  {2, 1, 3, 4, 3, 3},  {9, 3, 5, 7, 1, 2},
                                   {2, 3, 4, 6, 1, 35}, {2, 3, 17, 22, 1, 4}, {0, 3, 4, 4, 1, 2}};
  for (const FirstBlockSizes& sizes : cases) {
    run<double>(sizes, true, true, random);
    run<float>(sizes, true, true, random);
  }
  run<double>(cases[1], false, true, random);
  run<double>(cases[1], true, false, random);
}

}  // namespace nsdbench::tests
