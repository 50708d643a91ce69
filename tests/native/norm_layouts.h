// The launchers of inorm_relu_pool by the layout of its maps, for tests that go through both.

#pragma once

#include "cuda/inorm_relu_pool.h"
#include "cuda/inorm_relu_pool_nhwc.h"

namespace nsdbench::tests {

struct Nchw {
  static constexpr const char* kName = "inorm_relu_pool";
  static constexpr bool kHasChannelsInnermost = false;
  template <typename T>
  static constexpr auto* forward = &cuda::launch_inorm_relu_pool_fwd<T>;
  template <typename T>
  static constexpr auto* forward_jvp = &cuda::launch_inorm_relu_pool_jvp<T>;
  template <typename T>
  static constexpr auto* backward = &cuda::launch_inorm_relu_pool_bwd<T>;
  template <typename T>
  static constexpr auto* backward_jvp = &cuda::launch_inorm_relu_pool_bwd_jvp<T>;
};

struct Nhwc {
  static constexpr const char* kName = "inorm_relu_pool_nhwc";
  static constexpr bool kHasChannelsInnermost = true;
  template <typename T>
  static constexpr auto* forward = &cuda::launch_inorm_relu_pool_nhwc_fwd<T>;
  template <typename T>
  static constexpr auto* forward_jvp = &cuda::launch_inorm_relu_pool_nhwc_jvp<T>;
  template <typename T>
  static constexpr auto* backward = &cuda::launch_inorm_relu_pool_nhwc_bwd<T>;
  template <typename T>
  static constexpr auto* backward_jvp = &cuda::launch_inorm_relu_pool_nhwc_bwd_jvp<T>;
};

}  // namespace nsdbench::tests
