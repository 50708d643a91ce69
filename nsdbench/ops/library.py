"""Load the compiled operators: `_C` always, `_C_cuda` when torch itself can use CUDA."""

from pathlib import Path

import torch

from nsdbench.errors import ExtensionUnavailable

FOLDER = Path(__file__).resolve().parent.parent
SIMD_LEVELS = ("baseline", "avx2", "avx512")  # csrc/cpu/matrix.h


def _load_cpu() -> None:
    path = FOLDER / "_C.so"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise ExtensionUnavailable(
            f"could not load the compiled operators from {path}: {error}\n"
            "Likely causes, most common first:\n"
            f"  1. not built: {'the file is there' if path.exists() else 'the file is missing'}; "
            "run `pip install --no-build-isolation -e .` in the project's folder\n"
            f"  2. torch is too old: this one is {torch.__version__}, at least 2.13 is needed\n"
            "  3. built by a newer compiler than this system's libstdc++ knows: rebuild here\n"
            "  4. built for another processor architecture: rebuild here"
        ) from error


def _load_cuda() -> str:
    """Return "" if the CUDA operators were loaded, else the reason why they were not."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "no CUDA device is available"
    path = FOLDER / "_C_cuda.so"
    if not path.exists():
        return "not built: nvcc was not found when nsdbench was installed"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"could not load {path}: {error}"
    return ""


_load_cpu()
cuda_unavailable_because = _load_cuda()


def devices() -> list[str]:
    """List the devices whose operators are loaded."""
    return ["cpu"] if cuda_unavailable_because else ["cpu", "cuda"]


def simd_level() -> str:
    """Name the instruction set the CPU operators use: "baseline", "avx2" or "avx512"."""
    return SIMD_LEVELS[torch.ops.nsdbench.simd_level()]
