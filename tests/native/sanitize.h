// What the program for the sanitizers runs, a file each, and what these share.

#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace nsdbench::tests {

// An operator with all its derivatives: CUDA source beside code that does not share it, in the thread order
// that is set; each throws where they disagree.
void sanitize_reconstruct();
void sanitize_dsa();
void sanitize_inorm_relu_pool();
void sanitize_inorm_relu_pool_nhwc();
void sanitize_first_block();

// Normal values around 0.5.
template <typename T>
std::vector<T> draw(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal(0.5);
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

// Floats are run for the sanitizers alone, doubles are compared as well.
template <typename T>
void compare(const std::vector<T>& ours, const std::vector<T>& other, double tolerance,
             const std::string& what) {
  for (size_t n = 0; n < ours.size() && sizeof(T) == sizeof(double); ++n) {
    const double size = 1 + std::fabs(other[n]);
    if (!(std::fabs(ours[n] - other[n]) <= tolerance * size)) {
      throw std::runtime_error(what + " differ");
    }
  }
}

// [images, channels, size] to [images, size, channels].
template <typename T>
std::vector<T> innermost(const std::vector<T>& from, int64_t images, int64_t channels) {
  std::vector<T> to(from.size());
  const int64_t count = static_cast<int64_t>(from.size());
  const int64_t size = count == 0 ? 0 : count / images / channels;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t image = n / (size * channels), c = n / size % channels;
    to[(image * size + n % size) * channels + c] = from[n];
  }
  return to;
}

}  // namespace nsdbench::tests
