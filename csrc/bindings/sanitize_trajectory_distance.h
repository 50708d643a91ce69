#pragma once

namespace nsdbench::bindings {

// The distance and its gradients, CUDA source and CPU code, in the thread order that is set; throws
// where they disagree.
void sanitize_trajectory_distance();

}  // namespace nsdbench::bindings
