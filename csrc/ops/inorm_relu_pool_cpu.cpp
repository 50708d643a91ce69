// Binds inorm_relu_pool's CPU implementation. Maps with channels innermost are copied to its layout and
// back: that operator is for CUDA, and is here so that what runs there can be tested anywhere.

#include <vector>

#include "cpu/inorm_relu_pool.h"
#include "cpu/parallel.h"
#include "inorm_relu_pool_ops.h"

namespace nsdbench::ops::inorm_relu_pool {
namespace {

struct Cpu {
  static constexpr Layout kLayout = Layout::kNchw;
  explicit Cpu(const Tensor&) {}

  template <typename T>
  void forward(const PlaneSizes& sizes, const NormInput<T>& input, T* out) const {
    cpu::inorm_relu_pool<T>(sizes, input, out);
  }
  template <typename T>
  void forward_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                   const NormTangent<T>& tangent, T* out_t) const {
    cpu::inorm_relu_pool_jvp<T>(sizes, input, tangent, out_t);
  }
  template <typename T>
  void backward(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                const NormGradient<T>& result) const {
    cpu::inorm_relu_pool_backward<T>(sizes, grad, input, result);
  }
  template <typename T>
  void backward_jvp(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                    const T* grad_t, const NormTangent<T>& tangent,
                    const NormGradient<T>& result) const {
    cpu::inorm_relu_pool_backward_jvp<T>(sizes, grad, input, grad_t, tangent, result);
  }
};

// to[i, c, r] = from[i, r, c]; null stays null.
template <typename T>
const T* transposed(int64_t images, int64_t rows, int64_t columns, const T* from, T* to) {
  if (from == nullptr) return nullptr;
  cpu::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * rows * columns;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          to[first + c * rows + r] = from[first + r * columns + c];
        }
      }
    }
  });
  return to;
}

// Copies of maps in the layout that the CPU code takes, and results in it on their way back.
template <typename T>
class Copies {
 public:
  explicit Copies(const PlaneSizes& sizes) : sizes_(sizes) {}

  const T* map(const T* from, std::vector<T>& to) const {
    return copy(sizes_.plane_size(), from, to);
  }
  const T* pooled(const T* from, std::vector<T>& to) const {
    return copy(sizes_.pooled_size(), from, to);
  }
  T* result(int64_t size, std::vector<T>& to) const {
    to.resize(sizes_.planes() * size);
    return to.data();
  }
  void give_back(int64_t size, const std::vector<T>& from, T* to) const {
    transposed<T>(sizes_.images, sizes_.channels, size, from.data(), to);
  }

 private:
  const T* copy(int64_t size, const T* from, std::vector<T>& to) const {
    if (from != nullptr) to.resize(sizes_.planes() * size);
    return transposed<T>(sizes_.images, size, sizes_.channels, from, to.data());
  }

  PlaneSizes sizes_;
};

struct CpuNhwc {
  static constexpr Layout kLayout = Layout::kNhwc;
  explicit CpuNhwc(const Tensor&) {}

  template <typename T>
  void forward(const PlaneSizes& sizes, NormInput<T> input, T* out) const {
    const Copies<T> copies(sizes);
    std::vector<T> x, result;
    input.x = copies.map(input.x, x);
    cpu::inorm_relu_pool<T>(sizes, input, copies.result(sizes.pooled_size(), result));
    copies.give_back(sizes.pooled_size(), result, out);
  }
  template <typename T>
  void forward_jvp(const PlaneSizes& sizes, NormInput<T> input, NormTangent<T> tangent,
                   T* out_t) const {
    const Copies<T> copies(sizes);
    std::vector<T> x, x_t, result;
    input.x = copies.map(input.x, x);
    tangent.x = copies.map(tangent.x, x_t);
    cpu::inorm_relu_pool_jvp<T>(sizes, input, tangent,
                                copies.result(sizes.pooled_size(), result));
    copies.give_back(sizes.pooled_size(), result, out_t);
  }
  template <typename T>
  void backward(const PlaneSizes& sizes, const T* grad, NormInput<T> input,
                NormGradient<T> result) const {
    const Copies<T> copies(sizes);
    std::vector<T> x, grad_out, grad_x;
    input.x = copies.map(input.x, x);
    T* const target = result.x;
    result.x = copies.result(sizes.plane_size(), grad_x);
    cpu::inorm_relu_pool_backward<T>(sizes, copies.pooled(grad, grad_out), input, result);
    copies.give_back(sizes.plane_size(), grad_x, target);
  }
  template <typename T>
  void backward_jvp(const PlaneSizes& sizes, const T* grad, NormInput<T> input, const T* grad_t,
                    NormTangent<T> tangent, NormGradient<T> result) const {
    const Copies<T> copies(sizes);
    std::vector<T> x, x_t, grad_out, grad_out_t, grad_x;
    input.x = copies.map(input.x, x);
    tangent.x = copies.map(tangent.x, x_t);
    T* const target = result.x;
    result.x = copies.result(sizes.plane_size(), grad_x);
    cpu::inorm_relu_pool_backward_jvp<T>(sizes, copies.pooled(grad, grad_out), input,
                                         copies.pooled(grad_t, grad_out_t), tangent, result);
    copies.give_back(sizes.plane_size(), grad_x, target);
  }
};

}  // namespace
}  // namespace nsdbench::ops::inorm_relu_pool

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  namespace op = nsdbench::ops::inorm_relu_pool;
  m.impl("inorm_relu_pool", TORCH_BOX(&op::forward<op::Cpu>));
  m.impl("inorm_relu_pool_jvp", TORCH_BOX(&op::forward_jvp<op::Cpu>));
  m.impl("inorm_relu_pool_backward", TORCH_BOX(&op::backward<op::Cpu>));
  m.impl("inorm_relu_pool_backward_jvp", TORCH_BOX(&op::backward_jvp<op::Cpu>));
  m.impl("inorm_relu_pool_nhwc", TORCH_BOX(&op::forward<op::CpuNhwc>));
  m.impl("inorm_relu_pool_nhwc_jvp", TORCH_BOX(&op::forward_jvp<op::CpuNhwc>));
  m.impl("inorm_relu_pool_nhwc_backward", TORCH_BOX(&op::backward<op::CpuNhwc>));
  m.impl("inorm_relu_pool_nhwc_backward_jvp", TORCH_BOX(&op::backward_jvp<op::CpuNhwc>));
}
