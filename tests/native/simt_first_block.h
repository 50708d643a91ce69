#pragma once

#include <pybind11/pybind11.h>

namespace nsdbench::tests {

// Adds the four passes of the first block, each for float32 and float64, to the module of host-run kernels.
void define_first_block(pybind11::module_& m);

}  // namespace nsdbench::tests
