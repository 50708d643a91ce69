// What an operator says when it refuses. No iostreams: libc10 may export constructors of its own copy
// of libstdc++'s, and an operator linked to another copy crashes (seen with torch 2.11 for CUDA 13).

#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace nsdbench::ops {

using Shape = std::vector<int64_t>;

inline Shape shape_of(const torch::stable::Tensor& tensor) {
  Shape shape(tensor.dim());
  for (int64_t d = 0; d < tensor.dim(); ++d) shape[d] = tensor.size(d);
  return shape;
}

inline std::string text_of(const std::string& text) { return text; }

inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.size(); ++d) text += (d > 0 ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

template <typename Number>
  requires std::is_arithmetic_v<Number>
std::string text_of(Number number) {
  return std::to_string(number);
}

// A function: it throws what arrives in Python as ValueError "name: parts".
struct Refusal {
  const char* name;

  template <typename... Parts>
  [[noreturn]] void operator()(const Parts&... parts) const {
    throw std::invalid_argument(((std::string(name) + ": ") + ... + text_of(parts)));
  }
};

}  // namespace nsdbench::ops
