#pragma once

#include <pybind11/pybind11.h>

namespace nsdbench::tests {

// Adds inorm_relu_pool, its tangent, its gradients and their tangent, each for both layouts, float32 and
// float64, to the module of host-run kernels.
void define_inorm_relu_pool(pybind11::module_& m);

}  // namespace nsdbench::tests
