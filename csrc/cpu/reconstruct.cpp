// Work is divided over the pairs (spectrum i, kernel set j): everything a pair needs between reading
// T_i, K_j and writing its images stays in one thread's cache, in a workspace that is kept between
// calls. Sums over pairs are made afterwards in a fixed order, so results do not depend on the
// number of threads.

#include "reconstruct.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "mode_product.h"
#include "workspace.h"

namespace nsdbench::cpu {
namespace {

// The wanted images of every pair that has any, pairs ascending, rows of a pair in the order asked.
struct Grouping {
  std::vector<int64_t> pair;      // [P] pair number
  std::vector<int64_t> start;     // [P + 1] first entry of the pair in `position` and `column`
  std::vector<int64_t> position;  // row of the output
  std::vector<int64_t> column;    // r: column of K1
  bool is_everything;

  int64_t pairs() const { return static_cast<int64_t>(pair.size()); }
  int64_t rows(int64_t p) const { return start[p + 1] - start[p]; }
};

Grouping group_by_pair(const Problem& problem, const Selection& selection) {
  Grouping grouping;
  const int64_t u1 = problem.u[0];
  grouping.is_everything = selection.index == nullptr;
  if (grouping.is_everything) {
    grouping.start.reserve(problem.pairs() + 1);
    for (int64_t p = 0; p < problem.pairs(); ++p) {
      grouping.pair.push_back(p);
      grouping.start.push_back(p * u1);
    }
    grouping.start.push_back(problem.images());
    return grouping;
  }
  std::vector<int64_t> offset(problem.pairs() + 1, 0);
  for (int64_t n = 0; n < selection.count; ++n) ++offset[selection.index[n] / u1 + 1];
  for (int64_t p = 0; p < problem.pairs(); ++p) {
    if (offset[p + 1] > 0) {
      grouping.pair.push_back(p);
      grouping.start.push_back(offset[p]);
    }
    offset[p + 1] += offset[p];
  }
  grouping.start.push_back(selection.count);
  grouping.position.resize(selection.count);
  grouping.column.resize(selection.count);
  for (int64_t n = 0; n < selection.count; ++n) {
    const int64_t slot = offset[selection.index[n] / u1]++;
    grouping.position[slot] = n;
    grouping.column[slot] = selection.index[n] % u1;
  }
  return grouping;
}

Order choose_order(const Problem& problem, const Grouping& grouping) {
  const int64_t pairs = std::max<int64_t>(grouping.pairs(), 1);
  const double rows = static_cast<double>(grouping.start.back()) / static_cast<double>(pairs);
  return cheapest_order(problem, rows, problem.has_kernel[0] || !grouping.is_everything);
}

// Memory of one thread, grown to the largest pair seen.
template <typename T>
T* workspace(int64_t count) {
  thread_local Workspace memory;
  return memory.get<T>(count);
}

// The chain of mode products of one pair, with its intermediate tensors.
template <typename T>
class Pair {
 public:
  Pair(const Problem& problem, const Operands<T>& operands, const Grouping& grouping,
       const Order& order, int64_t p)
      : problem_(problem), grouping_(grouping), order_(order), p_(p), rows_(grouping.rows(p)) {
    const int64_t pair = grouping.pair[p];
    spectrum_ = operands.spectra + pair / problem.num_kernel_sets * problem.spectrum_size();
    for (int n = 0; n < kModes; ++n) {
      kernel_[n] = operands.kernels[n];
      if (kernel_[n] != nullptr) {
        kernel_[n] += pair % problem.num_kernel_sets * problem.kernel_size(n);
      }
    }
    int64_t size[kModes] = {problem.t[0], problem.t[1], problem.t[2], problem.t[3]};
    for (int step = 0; step < order.count; ++step) {
      const int mode = order.mode[step];
      ModeProduct product{1, size[mode], mode == 0 ? rows_ : problem.u[mode], 1};
      for (int n = 0; n < mode; ++n) product.lead *= size[n];
      for (int n = mode + 1; n < kModes; ++n) product.right *= size[n];
      product_[step] = product;
      size[mode] = product.u;
    }
  }

  // Elements of workspace: every intermediate, gathered images, selected columns, a transpose.
  int64_t workspace_size(bool is_backward) const {
    int64_t total = rows_ * problem_.image_size();
    int64_t widest = 0, gradient = 0;
    for (int step = 0; step < order_.count; ++step) {
      total += product_[step].y_size();
      widest = std::max(widest, product_[step].t * product_[step].u);
      gradient = std::max({gradient, product_[step].x_size(), product_[step].y_size()});
    }
    total += problem_.t[0] * rows_ + widest;
    return is_backward ? total + 2 * gradient + widest : total;
  }

  void forward(T* memory, T* images) {
    place(memory);
    T* target = output(images);
    const T* x = spectrum_;
    for (int step = 0; step < order_.count; ++step) {
      T* y = step + 1 == order_.count ? target : y_[step];
      apply(step, x, y);
      x = y;
    }
    if (order_.count == 0) std::copy_n(x, rows_ * problem_.image_size(), target);
    if (target == gathered_) {
      for (int64_t n = 0; n < rows_; ++n) {
        std::copy_n(target + n * problem_.image_size(), problem_.image_size(),
                    images + position(n) * problem_.image_size());
      }
    }
  }

  // Gradients of this pair alone. grad_kernel[0] is [t1, u1] also when only some rows are wanted.
  void backward(T* memory, const T* grad_images, T* grad_spectrum, T* const* grad_kernel) {
    T* rest = place(memory);
    int64_t widest = 0, gradient = 0;
    for (int step = 0; step < order_.count; ++step) {
      widest = std::max(widest, product_[step].t * product_[step].u);
      gradient = std::max({gradient, product_[step].x_size(), product_[step].y_size()});
    }
    T* buffer[2] = {rest, rest + gradient};
    T* kernel_scratch = rest + 2 * gradient;

    int last_kernel_step = -1;  // intermediates are needed up to here
    int first_kernel_step = order_.count;
    for (int step = 0; step < order_.count; ++step) {
      if (grad_kernel[order_.mode[step]] == nullptr) continue;
      last_kernel_step = step;
      first_kernel_step = std::min(first_kernel_step, step);
    }
    const T* x = spectrum_;
    for (int step = 0; step < last_kernel_step; ++step) {
      apply(step, x, y_[step]);
      x = y_[step];
    }

    const T* grad = gather(grad_images);
    for (int step = order_.count - 1; step >= 0; --step) {
      const int mode = order_.mode[step];
      if (grad_kernel[mode] != nullptr) {
        const T* input = step == 0 ? spectrum_ : y_[step - 1];
        const bool is_selection = mode == 0 && !grouping_.is_everything;
        T* target = is_selection ? kernel_scratch : grad_kernel[mode];
        mode_product_backward_kernel(product_[step], input, grad, target);
        if (is_selection) add_columns(target, grad_kernel[0]);
      }
      if (grad_spectrum == nullptr && first_kernel_step >= step) return;
      T* grad_x = step == 0 ? grad_spectrum : buffer[step % 2];
      apply_transposed(step, grad, grad_x);
      grad = grad_x;
    }
    if (order_.count == 0 && grad_spectrum != nullptr) {
      std::copy_n(grad, problem_.spectrum_size(), grad_spectrum);
    }
  }

 private:
  int64_t position(int64_t row) const {
    return grouping_.is_everything ? grouping_.start[p_] + row
                                   : grouping_.position[grouping_.start[p_] + row];
  }

  bool is_one_block() const {
    for (int64_t n = 1; n < rows_; ++n) {
      if (position(n) != position(0) + n) return false;
    }
    return true;
  }

  T* place(T* memory) {
    gathered_ = memory;
    memory += rows_ * problem_.image_size();
    for (int step = 0; step < order_.count; ++step) {
      y_[step] = memory;
      memory += product_[step].y_size();
    }
    columns_ = memory;
    memory += problem_.t[0] * rows_;
    scratch_ = memory;
    for (int step = 0; step < order_.count; ++step) {
      memory = std::max(memory, scratch_ + product_[step].t * product_[step].u);
    }
    if (!grouping_.is_everything && kernel_[0] != nullptr) {
      const int64_t* column = grouping_.column.data() + grouping_.start[p_];
      for (int64_t s = 0; s < problem_.t[0]; ++s) {
        for (int64_t n = 0; n < rows_; ++n) {
          columns_[s * rows_ + n] = kernel_[0][s * problem_.u[0] + column[n]];
        }
      }
      kernel_[0] = columns_;
    }
    return memory;
  }

  T* output(T* images) {
    return is_one_block() ? images + position(0) * problem_.image_size() : gathered_;
  }

  const T* gather(const T* grad_images) {
    const int64_t size = problem_.image_size();
    if (is_one_block()) return grad_images + position(0) * size;
    for (int64_t n = 0; n < rows_; ++n) {
      std::copy_n(grad_images + position(n) * size, size, gathered_ + n * size);
    }
    return gathered_;
  }

  void apply(int step, const T* x, T* y) {
    const ModeProduct& product = product_[step];
    const int mode = order_.mode[step];
    if (kernel_[mode] != nullptr) return mode_product(product, x, kernel_[mode], y);
    for (int64_t n = 0; n < rows_; ++n) {  // selected samples without a K1
      const int64_t r = grouping_.column[grouping_.start[p_] + n];
      std::copy_n(x + r * product.right, product.right, y + n * product.right);
    }
  }

  void apply_transposed(int step, const T* grad_y, T* grad_x) {
    const ModeProduct& product = product_[step];
    const int mode = order_.mode[step];
    if (kernel_[mode] != nullptr) {
      return mode_product_backward_tensor(product, grad_y, kernel_[mode], scratch_, grad_x);
    }
    std::fill_n(grad_x, product.x_size(), T(0));
    for (int64_t n = 0; n < rows_; ++n) {
      const int64_t r = grouping_.column[grouping_.start[p_] + n];
      for (int64_t q = 0; q < product.right; ++q) {
        grad_x[r * product.right + q] += grad_y[n * product.right + q];
      }
    }
  }

  void add_columns(const T* selected, T* grad_kernel) const {
    const int64_t* column = grouping_.column.data() + grouping_.start[p_];
    std::fill_n(grad_kernel, problem_.kernel_size(0), T(0));
    for (int64_t s = 0; s < problem_.t[0]; ++s) {
      for (int64_t n = 0; n < rows_; ++n) {
        grad_kernel[s * problem_.u[0] + column[n]] += selected[s * rows_ + n];
      }
    }
  }

  const Problem& problem_;
  const Grouping& grouping_;
  const Order& order_;
  int64_t p_, rows_;
  const T* spectrum_;
  const T* kernel_[kModes];
  ModeProduct product_[kModes];
  T* gathered_ = nullptr;
  T* y_[kModes] = {};
  T* columns_ = nullptr;
  T* scratch_ = nullptr;
};

// total[key, e] = sum over the pairs p with that key of partial[p, e], pairs ascending.
template <typename T, typename Key>
void sum_pairs(const Grouping& grouping, const T* partial, int64_t keys, int64_t size, Key key,
               T* total) {
  constexpr int64_t kChunk = 4096;
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  parallel_for(0, keys * chunks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % chunks * kChunk;
      const int64_t length = std::min(kChunk, size - first);
      T* target = total + item / chunks * size + first;
      std::fill_n(target, length, T(0));
      for (int64_t p = 0; p < grouping.pairs(); ++p) {
        if (key(grouping.pair[p]) != item / chunks) continue;
        const T* source = partial + p * size + first;
        for (int64_t e = 0; e < length; ++e) target[e] += source[e];
      }
    }
  });
}

}  // namespace

template <typename T>
void reconstruct(const Problem& problem, const Operands<T>& operands, const Selection& selection,
                 T* images) {
  const Grouping grouping = group_by_pair(problem, selection);
  const Order order = choose_order(problem, grouping);
  parallel_for(0, grouping.pairs(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      Pair<T> pair(problem, operands, grouping, order, p);
      pair.forward(workspace<T>(pair.workspace_size(false)), images);
    }
  });
}

template <typename T>
void reconstruct_backward(const Problem& problem, const Operands<T>& operands,
                          const Selection& selection, const T* grad_images,
                          const Gradients<T>& gradients) {
  const Grouping grouping = group_by_pair(problem, selection);
  const Order order = choose_order(problem, grouping);

  // One slot of partial gradients per pair; the slots are summed below.
  int64_t slot_size[kModes + 1], offset[kModes + 2] = {0};
  for (int n = 0; n <= kModes; ++n) {
    const bool is_wanted = n == 0 ? gradients.spectra != nullptr
                                  : gradients.kernels[n - 1] != nullptr;
    const int64_t size = n == 0 ? problem.spectrum_size() : problem.kernel_size(n - 1);
    slot_size[n] = is_wanted ? size : 0;
    offset[n + 1] = offset[n] + grouping.pairs() * slot_size[n];
  }
  const std::unique_ptr<T[]> partial(new T[offset[kModes + 1]]);
  parallel_for(0, grouping.pairs(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      T* slot[kModes + 1];
      for (int n = 0; n <= kModes; ++n) {
        slot[n] = slot_size[n] == 0 ? nullptr : partial.get() + offset[n] + p * slot_size[n];
      }
      Pair<T> pair(problem, operands, grouping, order, p);
      pair.backward(workspace<T>(pair.workspace_size(true)), grad_images, slot[0], slot + 1);
    }
  });
  const int64_t sets = problem.num_kernel_sets;
  if (gradients.spectra != nullptr) {
    sum_pairs(grouping, partial.get() + offset[0], problem.num_spectra, slot_size[0],
              [sets](int64_t pair) { return pair / sets; }, gradients.spectra);
  }
  for (int n = 0; n < kModes; ++n) {
    if (gradients.kernels[n] == nullptr) continue;
    sum_pairs(grouping, partial.get() + offset[n + 1], sets, slot_size[n + 1],
              [sets](int64_t pair) { return pair % sets; }, gradients.kernels[n]);
  }
}

#define NSDBENCH_INSTANTIATE(T)                                                                \
  template void reconstruct<T>(const Problem&, const Operands<T>&, const Selection&, T*);      \
  template void reconstruct_backward<T>(const Problem&, const Operands<T>&, const Selection&, \
                                        const T*, const Gradients<T>&);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
