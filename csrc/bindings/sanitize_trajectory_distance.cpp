// The trajectory distance for the sanitizers: sizes on both sides of a vector, of a block and of a
// chunk, with and without every gradient.

#include "sanitize_trajectory_distance.h"

#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "cpu/trajectory_distance.h"
#include "cuda/trajectory_distance.cu"  // NOLINT: the very source that nvcc compiles

namespace nsdbench::bindings {
namespace {

template <typename T>
std::vector<T> draw(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

template <typename T>
void require_equal(const std::vector<T>& ours, const std::vector<T>& other, double tolerance) {
  for (size_t n = 0; n < ours.size(); ++n) {
    if (!(std::fabs(ours[n] - other[n]) <= tolerance * (1 + std::fabs(ours[n])))) {
      throw std::runtime_error("trajectory_distance differs");
    }
  }
}

template <typename T>
void run(int64_t count, int wanted, std::mt19937& random) {
  const auto theta = draw<T>(count, random), start = draw<T>(count, random);
  const auto target = draw<T>(count, random);
  const TrajectoryDistance<T> problem{count, theta.data(), start.data(), target.data()};
  std::vector<double> workspace(
      static_cast<size_t>(cuda::trajectory_distance_workspace(count)));
  std::vector<double> sums[2] = {std::vector<double>(2), std::vector<double>(2)};
  std::vector<T> distance[2] = {std::vector<T>(1), std::vector<T>(1)};
  cpu::trajectory_distance(problem, sums[0].data(), distance[0].data());
  cuda::launch_trajectory_distance_fwd(problem, workspace.data(), sums[1].data(),
                                       distance[1].data(), nullptr);
  const T grad = 2;
  std::vector<T> results[2][3];
  for (int side = 0; side < 2; ++side) {
    T* pointers[3] = {};
    for (int n = 0; n < 3; ++n) {
      if ((wanted >> n & 1) == 0) continue;
      results[side][n].resize(theta.size());
      pointers[n] = results[side][n].data();
    }
    const TrajectoryGradients<T> gradients{pointers[0], pointers[1], pointers[2]};
    if (side == 0) {
      cpu::trajectory_distance_backward(problem, sums[0].data(), &grad, gradients);
    } else {
      cuda::launch_trajectory_distance_bwd(problem, sums[1].data(), &grad, gradients, nullptr);
    }
  }
  if (count == 0) return;  // 0 / 0
  const double tolerance = sizeof(T) == sizeof(double) ? 1e-12 : 1e-6;
  require_equal(sums[0], sums[1], 1e-12);
  require_equal(distance[0], distance[1], tolerance);
  for (int n = 0; n < 3; ++n) require_equal(results[0][n], results[1][n], tolerance);
}

template <typename T>
void run_all(std::mt19937& random) {
  for (const int64_t count : {0, 1, 15, 17, 255, 257, 1025, 4099}) {
    for (const int wanted : {0, 1, 2, 4, 7}) run<T>(count, wanted, random);
  }
}

}  // namespace

void sanitize_trajectory_distance() {
  std::mt19937 random(9);
  run_all<float>(random);
  run_all<double>(random);
}

}  // namespace nsdbench::bindings
