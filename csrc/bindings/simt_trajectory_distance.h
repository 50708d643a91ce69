#pragma once

#include <pybind11/pybind11.h>

namespace nsdbench::bindings {

// Adds trajectory_distance and trajectory_distance_backward, both _float32 and _float64, to the module
// of host-run kernels.
void define_trajectory_distance(pybind11::module_& m);

}  // namespace nsdbench::bindings
