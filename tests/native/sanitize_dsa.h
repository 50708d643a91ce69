#pragma once

namespace nsdbench::tests {

// Every operation and its transpose, CUDA source and CPU code, in the thread order that is set; throws
// where they disagree.
void sanitize_dsa();

}  // namespace nsdbench::tests
