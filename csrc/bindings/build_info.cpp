// What this copy was built with, as a Python dictionary. CMake passes the facts as definitions.

#include <pybind11/pybind11.h>

namespace py = pybind11;

PYBIND11_MODULE(_build_info, m) {
  m.doc() = "Facts about the build of nsdbench's native code.";
  m.def("facts", [] {
    py::dict facts;
    facts["version"] = NSDBENCH_VERSION;
    facts["compiler"] = NSDBENCH_COMPILER;
    facts["cxx_standard"] = static_cast<long>(__cplusplus);
    facts["build_type"] = NSDBENCH_BUILD_TYPE;
    facts["torch"] = NSDBENCH_TORCH_VERSION;
    facts["cuda_compiler"] = NSDBENCH_CUDA_COMPILER;
    facts["cuda_architectures"] = NSDBENCH_CUDA_ARCHITECTURES;
#ifdef __SANITIZE_ADDRESS__
    facts["sanitizers"] = true;
#else
    facts["sanitizers"] = false;
#endif
    return facts;
  });
}
