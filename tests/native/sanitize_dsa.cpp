// DSA for the sanitizers: sizes on both sides of every vector width, parameters in and far out of the
// range that is drawn.

#include "cpu/dsa.h"
#include "cuda/dsa.cu"  // NOLINT: the very source that nvcc compiles
#include "sanitize.h"

namespace nsdbench::tests {
namespace {

std::vector<double> draw_between(double low, double high, int64_t count, std::mt19937& random) {
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = uniform(random);
  return values;
}

// Floats are run for the sanitizers alone, doubles are compared as well.
template <typename T>
void run(const DsaProblem& problem, const std::vector<double>& parameters, std::mt19937& random) {
  const auto wide = draw_between(-1, 1, problem.images * problem.image_size(), random);
  const std::vector<T> in(wide.begin(), wide.end());
  for (const bool is_transposed : {false, true}) {
    std::vector<T> ours(in.size()), other(in.size());
    (is_transposed ? cpu::dsa_backward<T> : cpu::dsa<T>)(problem, parameters.data(), in.data(),
                                                         ours.data());
    (is_transposed ? cuda::launch_dsa_bwd<T> : cuda::launch_dsa_fwd<T>)(
        problem, parameters.data(), in.data(), other.data(), nullptr);
    for (size_t n = 0; n < in.size() && sizeof(T) == sizeof(double); ++n) {
      if (!(std::fabs(ours[n] - other[n]) <= 1e-10)) throw std::runtime_error("dsa differs");
    }
  }
}

std::vector<double> parameters_of(const DsaProblem& problem, double excess, std::mt19937& random) {
  const int64_t columns = kDsaColumns[static_cast<int>(problem.operation)];
  const double size = static_cast<double>(problem.height + problem.width);
  double low = 0.3, high = 1.5;
  if (problem.operation == Dsa::kCrop || problem.operation == Dsa::kCutout) {
    low = -size * excess / 4;
    high = size * excess;
  } else if (problem.operation == Dsa::kFlip) {
    low = -0.9;
    high = 1.9;
  } else if (problem.operation == Dsa::kScale) {
    low = 1 / (1 + excess);
    high = 1 + excess;
  } else if (problem.operation == Dsa::kRotate) {
    low = -excess;
    high = excess;
  }
  auto values = draw_between(low, high, problem.images * columns, random);
  if (problem.operation == Dsa::kColor || problem.operation == Dsa::kScale ||
      problem.operation == Dsa::kRotate) {
    return values;
  }
  for (double& value : values) value = std::floor(value);
  return values;
}

}  // namespace

void sanitize_dsa() {
  std::mt19937 random(5);
  const int64_t shapes[][3] = {{1, 1, 1}, {3, 7, 7}, {4, 5, 17}, {1, 19, 2}};
  for (const auto& shape : shapes) {
    for (int operation = 0; operation < kDsaOperations; ++operation) {
      for (const double excess : {0.2, 4.0}) {
        const DsaProblem problem{static_cast<Dsa>(operation), 2, shape[0], shape[1], shape[2],
                                 false, excess < 1, false};
        const auto parameters = parameters_of(problem, excess, random);
        run<double>(problem, parameters, random);
        if (excess < 1) run<float>(problem, parameters, random);
      }
    }
  }
}

}  // namespace nsdbench::tests
