#pragma once

namespace nsdbench::tests {

// The four passes of the first block, CUDA source beside plain loops and the CPU's norm block, in the thread
// order that is set; throws where they disagree.
void sanitize_first_block();

}  // namespace nsdbench::tests
