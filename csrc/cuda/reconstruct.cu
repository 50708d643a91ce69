// Launches the mode products of a reconstruction in the cheapest order, one kernel per product over
// the whole batch. With an index the sample mode comes first: it turns every wanted image into one
// batch element, and nothing needs sorting or a look at the index from the host.

#include "cuda/reconstruct.h"

#include <algorithm>

#include "kernels/mode_product.cuh"

namespace nsdbench::cuda {
namespace {

using kernels::Batch;
using kernels::Key;
using kernels::ProductArguments;

struct Step {
  int mode;
  ProductArguments arguments;
  int64_t in_size, out_size;  // elements of one batch element
};

struct Chain {
  Batch batch;
  int count = 0;
  Step step[kModes];
};

Chain make_chain(const Problem& problem, const int64_t* index, bool has_index, int64_t count) {
  Chain chain;
  chain.batch = {index, has_index ? count : problem.pairs(), problem.num_spectra,
                 problem.num_kernel_sets, problem.u[0]};
  Order order;
  if (has_index) {
    Problem single = problem;
    single.t[0] = 1;
    const Order rest = cheapest_order(single, 1, false);
    order = {rest.count + 1, {0}};
    for (int n = 0; n < rest.count; ++n) order.mode[n + 1] = rest.mode[n];
  } else {
    order = cheapest_order(problem, static_cast<double>(problem.u[0]), problem.has_kernel[0]);
  }
  int64_t size[kModes] = {problem.t[0], problem.t[1], problem.t[2], problem.t[3]};
  for (; chain.count < order.count; ++chain.count) {
    Step& step = chain.step[chain.count];
    const int mode = step.mode = order.mode[chain.count];
    const bool is_selection = has_index && mode == 0;
    ProductArguments& a = step.arguments;
    a = {1, size[mode], is_selection ? 1 : problem.u[mode], 1, problem.u[mode], is_selection,
         chain.count == 0};
    for (int n = 0; n < mode; ++n) a.lead *= size[n];
    for (int n = mode + 1; n < kModes; ++n) a.right *= size[n];
    step.in_size = a.lead * a.t * a.right;
    step.out_size = a.lead * a.u * a.right;
    size[mode] = a.u;
  }
  return chain;
}

int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

template <typename T, bool kTransposed>
void launch_mode_product(ProductArguments a, const Batch& batch, const T* in, const T* kernel,
                         T* out, void* stream) {
  const int64_t outer = kTransposed ? a.t : a.u;
  if (kTransposed) a.is_shared_input = false;  // gradients exist per batch element
  simt::launch(kernels::mode_product_fwd_kernel<T, kTransposed>,
               {tiles(a.lead * a.right, kernels::kTile), tiles(outer, kernels::kTile),
                std::min(batch.count, simt::kMaxGridYZ)},
               {kernels::kTile, kernels::kTile, 1}, 0, stream, a, batch, in, kernel, out);
}

template <typename T>
void launch_sum_by_key(const Batch& batch, Key key, int64_t keys, int64_t size, const T* partial,
                       T* out, void* stream) {
  simt::launch(kernels::sum_by_key_kernel<T>,
               {tiles(size, kernels::kSumThreads), std::min(keys, simt::kMaxGridYZ), 1},
               {kernels::kSumThreads, 1, 1}, 0, stream, batch, key, keys, size, partial, out);
}

// The output of each step but the last, one after another in the workspace.
template <typename T>
T* place_intermediates(const Chain& chain, T* workspace, T** out) {
  for (int n = 0; n + 1 < chain.count; ++n) {
    out[n] = workspace;
    workspace += chain.batch.count * chain.step[n].out_size;
  }
  return workspace;
}

struct BackwardSizes {
  int64_t gradient = 0, partial = 0;  // elements of one batch element
};

BackwardSizes backward_sizes(const Chain& chain) {
  BackwardSizes sizes;
  for (int n = 0; n < chain.count; ++n) {
    const Step& step = chain.step[n];
    sizes.gradient = std::max(sizes.gradient, step.in_size);
    sizes.partial = std::max(sizes.partial, step.arguments.t * step.arguments.u);
  }
  return sizes;
}

}  // namespace

int64_t workspace_elements(const Problem& problem, bool has_index, int64_t count,
                           bool is_backward) {
  const Chain chain = make_chain(problem, nullptr, has_index, count);
  int64_t each = 0;
  for (int n = 0; n + 1 < chain.count; ++n) each += chain.step[n].out_size;
  if (is_backward) {
    const BackwardSizes sizes = backward_sizes(chain);
    each += 2 * sizes.gradient + sizes.partial;
  }
  return chain.batch.count * each;
}

template <typename T>
const char* launch_reconstruct_fwd(const Call<T>& call, T* images) {
  const Chain chain = make_chain(call.problem, call.index, call.index != nullptr, call.count);
  T* out[kModes] = {};
  place_intermediates(chain, call.workspace, out);
  const T* in = call.spectra;
  for (int n = 0; n < chain.count; ++n) {
    const Step& step = chain.step[n];
    T* target = n + 1 == chain.count ? images : out[n];
    launch_mode_product<T, false>(step.arguments, chain.batch, in, call.kernels[step.mode], target,
                                  call.stream);
    in = target;
  }
  return simt::last_error();
}

template <typename T>
const char* launch_reconstruct_bwd(const Call<T>& call, const T* grad_images,
                                   const Gradients<T>& gradients) {
  const Problem& problem = call.problem;
  const Chain chain = make_chain(problem, call.index, call.index != nullptr, call.count);
  const Batch& batch = chain.batch;
  const BackwardSizes sizes = backward_sizes(chain);
  T* out[kModes] = {};
  T* rest = place_intermediates(chain, call.workspace, out);
  T* buffer[2] = {rest, rest + batch.count * sizes.gradient};
  T* partial = rest + 2 * batch.count * sizes.gradient;

  int first = chain.count, last = -1;  // steps whose kernel has a gradient
  for (int n = 0; n < chain.count; ++n) {
    if (gradients.kernels[chain.step[n].mode] == nullptr) continue;
    first = std::min(first, n);
    last = n;
  }
  const T* in = call.spectra;
  for (int n = 0; n < last; ++n) {
    const Step& step = chain.step[n];
    launch_mode_product<T, false>(step.arguments, batch, in, call.kernels[step.mode], out[n],
                                  call.stream);
    in = out[n];
  }
  const T* grad = grad_images;
  for (int n = chain.count - 1; n >= 0; --n) {
    const Step& step = chain.step[n];
    const ProductArguments& a = step.arguments;
    if (T* grad_kernel = gradients.kernels[step.mode]) {
      simt::launch(kernels::mode_product_bwd_kernel<T>,
                   {tiles(a.u, kernels::kTile), tiles(a.t, kernels::kTile),
                    std::min(batch.count, simt::kMaxGridYZ)},
                   {kernels::kTile, kernels::kTile, 1}, 0, call.stream, a, batch,
                   n == 0 ? call.spectra : static_cast<const T*>(out[n - 1]), grad, partial);
      launch_sum_by_key<T>(batch, a.is_selection ? Key::kKernelColumn : Key::kKernelSet,
                           problem.num_kernel_sets * (a.is_selection ? problem.u[0] : 1),
                           a.t * a.u, partial, grad_kernel, call.stream);
    }
    if (gradients.spectra == nullptr && first >= n) break;
    launch_mode_product<T, true>(a, batch, grad, call.kernels[step.mode], buffer[n % 2],
                                 call.stream);
    grad = buffer[n % 2];
    if (n == 0) {
      launch_sum_by_key<T>(batch, Key::kSpectrum, problem.num_spectra, problem.spectrum_size(),
                           grad, gradients.spectra, call.stream);
    }
  }
  return simt::last_error();
}

#define NSDBENCH_INSTANTIATE(T)                                          \
  template const char* launch_reconstruct_fwd<T>(const Call<T>&, T*);    \
  template const char* launch_reconstruct_bwd<T>(const Call<T>&, const T*, const Gradients<T>&);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cuda
