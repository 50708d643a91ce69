#pragma once

#include <pybind11/pybind11.h>

namespace nsdbench::tests {

// Adds dsa_float32 and dsa_float64 to the module of host-run kernels.
void define_dsa(pybind11::module_& m);

}  // namespace nsdbench::tests
