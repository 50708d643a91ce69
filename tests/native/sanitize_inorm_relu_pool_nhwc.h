#pragma once

namespace nsdbench::tests {

// inorm_relu_pool with channels innermost and all its derivatives, CUDA source and CPU code, in the thread
// order that is set; throws where they disagree.
void sanitize_inorm_relu_pool_nhwc();

}  // namespace nsdbench::tests
