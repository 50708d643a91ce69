// What the parts of the module of host-run kernels share.

#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>

namespace nsdbench::tests {

template <typename T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

// Throws what a launcher says went wrong, if anything.
inline void check(const char* error) {
  if (error != nullptr) throw std::runtime_error(error);
}

// Add the launchers of an operator and of its derivatives to the module, each for float32 and float64.
void define_reconstruct(pybind11::module_& m);
void define_dsa(pybind11::module_& m);
void define_inorm_relu_pool(pybind11::module_& m);  // both layouts
void define_first_block(pybind11::module_& m);

}  // namespace nsdbench::tests
