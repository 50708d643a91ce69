// Launches, for a pass of the first block, one kernel that pads the images, one over images and groups of
// channels, and those that add up what its blocks leave.

#include "cuda/first_block.h"

#include <type_traits>

#include "kernels/first_block.cuh"

namespace nsdbench::cuda {
namespace {

constexpr const char* kFirstBlockTooLarge = "images of more than 2^30 elements are not supported";

// Where everything is in the workspace, in elements; each part starts where 16 bytes do.
struct Workspace {
  explicit Workspace(const FirstBlockSizes& sizes) {
    const kernels::FirstBlockMap map = kernels::first_block_map(sizes);
    const int64_t groups = simt::divided_up(sizes.channels, kernels::kFirstChannels);
    padded = 0;
    patches = padded + aligned(sizes.images * sizes.in_channels * map.padded_plane);
    parts = patches + aligned(sizes.images * sizes.taps());
    sums = parts + aligned(sizes.images * (sizes.taps() + 2) * sizes.channels);
    pieces = sums + aligned(2 * sizes.moments_size());
    end = pieces + groups * sizes.images * map.tiles * sizes.in_channels * kernels::kPatch;
  }
  static int64_t aligned(int64_t count) { return simt::divided_up(count, 4) * 4; }

  int64_t padded, patches, parts, sums, pieces, end;
};

bool is_first_block_too_large(const FirstBlockSizes& sizes) {
  const int64_t height = sizes.map_height() + 3, width = sizes.map_width() + 7;  // with padding
  return height * width * sizes.in_channels > kernels::kMaxFirstBlock ||
         height * width * sizes.channels / 4 > kernels::kMaxFirstBlock ||
         (sizes.taps() + 2) * sizes.channels > kernels::kMaxFirstBlock;
}

template <typename T>
kernels::FirstBlockPoint<T> point_of_call(const FirstBlockCall<T>& call) {
  const Workspace workspace(call.sizes);
  return {call.workspace + workspace.padded, call.workspace + workspace.patches, call.weights};
}

// Calls body(channels of an image), an integral constant.
template <typename Body>
void with_in_channels(const FirstBlockSizes& sizes, const Body& body) {
  sizes.in_channels == 1 ? body(std::integral_constant<int, 1>{})
                         : body(std::integral_constant<int, 3>{});
}

template <typename T, int kIn>
void pad_images(const FirstBlockCall<T>& call, void* stream) {
  const FirstBlockSizes& sizes = call.sizes;
  const Workspace workspace(sizes);
  simt::launch(kernels::pad_images_kernel<T, kIn>, {sizes.images, 1, 1},
               {kernels::kFirstThreads, 1, 1}, 0, stream, kernels::first_block_map(sizes),
               static_cast<int>(sizes.height), static_cast<int>(sizes.width),
               static_cast<int>(sizes.padding), call.x, call.workspace + workspace.padded,
               call.workspace + workspace.patches);
}

template <typename... Parameters, typename... Arguments>
void launch_over_groups(void (*kernel)(kernels::FirstBlockMap, int64_t, Parameters...),
                        const FirstBlockSizes& sizes, void* stream, Arguments... arguments) {
  const int64_t groups = simt::divided_up(sizes.channels, kernels::kFirstChannels);
  simt::launch(kernel, {sizes.images * groups, 1, 1}, {kernels::kFirstThreads, 1, 1}, 0, stream,
               kernels::first_block_map(sizes), sizes.images * sizes.channels, arguments...);
}

template <typename T>
void launch_first_block_sum(const FirstBlockSizes& sizes, const T* parts,
                            const FirstBlockGradient<T>& result, void* stream) {
  const int64_t columns = (sizes.taps() + 2) * sizes.channels;
  simt::launch(kernels::sum_first_block_kernel<T>,
               {simt::divided_up(columns, kernels::kFirstSumColumns), 1, 1},
               {kernels::kFirstSumColumns, kernels::kFirstSumRows, 1}, 0, stream, sizes.images,
               static_cast<int>(sizes.taps()), static_cast<int>(sizes.channels), parts, result);
}

}  // namespace

int64_t first_block_workspace(const FirstBlockSizes& sizes) { return Workspace(sizes).parts; }

int64_t first_block_bwd_workspace(const FirstBlockSizes& sizes) { return Workspace(sizes).sums; }

int64_t first_block_bwd_jvp_workspace(const FirstBlockSizes& sizes, bool needs_images) {
  const Workspace workspace(sizes);
  return needs_images ? workspace.end : workspace.sums;
}

template <typename T>
const char* launch_first_block_fwd(const FirstBlockCall<T>& call, double eps, T* out, T* moments,
                                   void* stream) {
  if (is_first_block_too_large(call.sizes)) return kFirstBlockTooLarge;
  with_in_channels(call.sizes, [&](auto in) {
    pad_images<T, in>(call, stream);
    launch_over_groups(kernels::first_block_fwd_kernel<T, in, kernels::kFirstPerLane<T>>,
                       call.sizes, stream, static_cast<T>(eps), point_of_call(call), out, moments);
  });
  return simt::last_error();
}

template <typename T>
const char* launch_first_block_jvp(const FirstBlockCall<T>& call, const T* moments,
                                   const FirstBlockWeights<T>& tangent, T* out_t, T* moments_t,
                                   void* stream) {
  if (is_first_block_too_large(call.sizes)) return kFirstBlockTooLarge;
  with_in_channels(call.sizes, [&](auto in) {
    pad_images<T, in>(call, stream);
    launch_over_groups(kernels::first_block_jvp_kernel<T, in>, call.sizes, stream,
                       point_of_call(call), moments, tangent, out_t, moments_t);
  });
  return simt::last_error();
}

template <typename T>
const char* launch_first_block_bwd(const FirstBlockCall<T>& call, const T* moments, const T* grad,
                                   const FirstBlockGradient<T>& result, void* stream) {
  if (is_first_block_too_large(call.sizes)) return kFirstBlockTooLarge;
  T* const parts = call.workspace + Workspace(call.sizes).parts;
  with_in_channels(call.sizes, [&](auto in) {
    pad_images<T, in>(call, stream);
    launch_over_groups(kernels::first_block_bwd_kernel<T, in, kernels::kFirstPerLane<T>>,
                       call.sizes, stream, grad, point_of_call(call), moments, parts);
  });
  launch_first_block_sum<T>(call.sizes, parts, result, stream);
  return simt::last_error();
}

template <typename T>
const char* launch_first_block_bwd_jvp(const FirstBlockCall<T>& call, const T* moments,
                                       const T* grad, const T* moments_t,
                                       const FirstBlockWeights<T>& tangent, const T* grad_t,
                                       const FirstBlockGradient<T>& result, T* images,
                                       void* stream) {
  if (is_first_block_too_large(call.sizes)) return kFirstBlockTooLarge;
  const FirstBlockSizes& sizes = call.sizes;
  const Workspace workspace(sizes);
  T* const parts = call.workspace + workspace.parts;
  T* const sums = images == nullptr ? nullptr : call.workspace + workspace.sums;
  T* const pieces = call.workspace + workspace.pieces;
  with_in_channels(sizes, [&](auto in) {
    pad_images<T, in>(call, stream);
    launch_over_groups(kernels::first_block_bwd_jvp_kernel<T, in>, sizes, stream, grad,
                       point_of_call(call), moments, grad_t, tangent, moments_t, parts, sums,
                       result.weight != nullptr);
    if (images == nullptr) return;
    launch_over_groups(kernels::first_block_images_bwd_jvp_kernel<T, in>, sizes, stream, grad,
                       point_of_call(call), moments, grad_t, tangent, moments_t, sums, pieces);
    const int64_t pixels = sizes.images * sizes.in_channels * sizes.height * sizes.width;
    simt::launch(kernels::gather_images_kernel<T, in>,
                 {simt::divided_up(pixels, kernels::kFirstThreads), 1, 1},
                 {kernels::kFirstThreads, 1, 1}, 0, stream, kernels::first_block_map(sizes),
                 sizes.images, static_cast<int>(sizes.height), static_cast<int>(sizes.width),
                 static_cast<int>(sizes.padding), pieces, images);
  });
  launch_first_block_sum<T>(sizes, parts, result, stream);
  return simt::last_error();
}

#define NSDBENCH_INSTANTIATE(T)                                                                   \
  template const char* launch_first_block_fwd<T>(const FirstBlockCall<T>&, double, T*, T*, void*); \
  template const char* launch_first_block_jvp<T>(const FirstBlockCall<T>&, const T*,              \
                                                 const FirstBlockWeights<T>&, T*, T*, void*);     \
  template const char* launch_first_block_bwd<T>(const FirstBlockCall<T>&, const T*, const T*,    \
                                                 const FirstBlockGradient<T>&, void*);            \
  template const char* launch_first_block_bwd_jvp<T>(                                             \
      const FirstBlockCall<T>&, const T*, const T*, const T*, const FirstBlockWeights<T>&,        \
      const T*, const FirstBlockGradient<T>&, T*, void*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)
#undef NSDBENCH_INSTANTIATE

}  // namespace nsdbench::cuda
