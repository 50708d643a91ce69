"""Build the native extension with CMake and ninja, and put the result beside the Python package.

Switches (environment):
    NSDBENCH_CUDA   auto (default: build `_C_cuda` if nvcc works), 1 (it must), 0 (leave it out)
    CXX, CUDACXX    compilers; CUDA_HOME is searched for nvcc as well
    MAX_JOBS        parallel compile jobs
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PUBLISHED = "_published"  # results/paper inside an installed package


def fail(message: str) -> None:
    """Stop the build with one line."""
    sys.exit(f"nsdbench: {message}")


def compiles(compiler: str, source: str, suffix: str, *flags: str) -> str:
    """Try to compile a small program; return "" on success, else the compiler's first complaint."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"probe{suffix}")
        path.write_text(source)
        try:
            done = subprocess.run(
                [compiler, *flags, "-c", str(path), "-o", str(path.with_suffix(".o"))],
                capture_output=True,
                text=True,
            )
        except OSError as error:
            return str(error)
    if done.returncode == 0:
        return ""
    lines = (done.stderr + done.stdout).strip().splitlines()
    return next((line for line in lines if "error" in line.lower()), (lines or ["no message"])[0])


def find_cxx() -> str:
    """Return a C++20 compiler, or stop with one line that says what was tried."""
    wishes = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    probe = "#include <concepts>\ntemplate <std::integral T> T f(T x) { return x; }\n"
    probe += "int main() { return f(0); }\n"
    tried = []
    for wish in wishes:
        path = shutil.which(wish)
        complaint = compiles(path, probe, ".cpp", "-std=c++20") if path else "not found"
        if not complaint:
            return path
        tried.append(f"{wish}: {complaint}")
    fail("a C++20 compiler is needed (g++ 11 or later; set CXX) - " + "; ".join(tried))


def find_nvcc(cxx: str) -> str:
    """Return a working nvcc, or "" to build without CUDA (stops if NSDBENCH_CUDA=1)."""
    switch = os.environ.get("NSDBENCH_CUDA", "auto")
    if switch not in ("auto", "0", "1"):
        fail(f"NSDBENCH_CUDA must be auto, 0 or 1, got {switch!r}")
    if switch == "0":
        return ""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [
        os.environ.get("CUDACXX"),
        *(f"{home}/bin/nvcc" for home in homes),
        "nvcc",
        "/usr/local/cuda/bin/nvcc",
    ]
    nvcc = next((path for place in places if place and (path := shutil.which(place))), "")
    probe = "__global__ void f(float* x) { *x = 1; }\n"
    flags = (
        "-std=c++17",
        "-ccbin",
        cxx,
        "-gencode",
        "arch=compute_75,code=sm_75",
        "-gencode",
        "arch=compute_90,code=sm_90",
    )
    complaint = compiles(nvcc, probe, ".cu", *flags) if nvcc else "not found"
    if not complaint:
        return nvcc
    if switch == "1":
        fail(f"NSDBENCH_CUDA=1, but nvcc cannot build for sm_75 to sm_90 - {nvcc}: {complaint}")
    if nvcc:
        print(f"nsdbench: building without CUDA - {nvcc}: {complaint}", file=sys.stderr)
    return ""


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        fail(
            f"{name} is needed to build: use plain `pip install .`, or install {name} before "
            "`pip install --no-build-isolation .`"
        )
    return Path(spec.origin).parent


def find_tool(name: str) -> str:
    """Find cmake or ninja: beside this Python first, then on the PATH."""
    search = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    path = shutil.which(name, path=search)
    if path is None:
        fail(f"{name} is needed to build: pip install {name}")
    return path


class CMakeBuild(build_ext):
    """Configure, build and install with CMake into the package folder."""

    def run(self) -> None:
        cxx = find_cxx()
        nvcc = find_nvcc(cxx)
        torch_dir = package_folder("torch")
        pybind11_dir = package_folder("pybind11")
        python_include = Path(sysconfig.get_path("include"))
        if not (python_include / "Python.h").exists():
            fail(f"Python.h is not in {python_include}: install Python's headers (python3-dev)")
        cmake = find_tool("cmake")
        build = ROOT / "build" / ("editable" if self.inplace else "wheel")
        target = ROOT / "nsdbench" if self.inplace else Path(self.build_lib).resolve() / "nsdbench"
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": find_tool("ninja"),
            "CMAKE_CXX_COMPILER": cxx,
            "TORCH_DIR": torch_dir,
            "PYBIND11_INCLUDE": pybind11_dir / "include",
            "PYTHON_EXECUTABLE": sys.executable,
            "PYTHON_INCLUDE": python_include,
            "EXTENSION_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
            "NSDBENCH_VERSION": self.distribution.get_version(),
            "NSDBENCH_CUDA": "ON" if nvcc else "OFF",
        }
        if nvcc:
            options |= {"CMAKE_CUDA_COMPILER": nvcc, "CMAKE_CUDA_HOST_COMPILER": cxx}
        # A tree configured in another environment (build isolation) names tools that are gone.
        stamp, wanted = build / "options.txt", "\n".join(f"{k}={v}" for k, v in options.items())
        if build.exists() and (not stamp.exists() or stamp.read_text() != wanted):
            shutil.rmtree(build)
        build.mkdir(parents=True, exist_ok=True)
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        steps = [
            [
                cmake,
                "-S",
                str(ROOT),
                "-B",
                str(build),
                "-G",
                "Ninja",
                *(f"-D{key}={value}" for key, value in options.items()),
            ],
            [cmake, "--build", str(build), "--parallel", jobs],
            [cmake, "--install", str(build), "--prefix", str(target)],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode != 0:
                sys.stderr.write(done.stdout[-20000:] + done.stderr[-20000:])
                fail("the native build failed; the compiler's messages are above")
        stamp.write_text(wanted)

    def get_outputs(self) -> list[str]:
        folder = Path(self.build_lib) / "nsdbench"
        return [str(path) for path in folder.glob("*.so")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildPython(build_py):
    """Copy the published tables into the package, so that reports work from a wheel."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "nsdbench" / PUBLISHED
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted((ROOT / "results" / "paper").iterdir()):
            self.copy_file(str(path), str(target / path.name))


setup(
    ext_modules=[Extension("nsdbench._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildPython},
)
