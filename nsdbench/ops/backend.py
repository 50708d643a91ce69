"""Choose between the compiled operators and their twins, and load the library when it is needed.

NSDBENCH_NATIVE=0 turns every operator off: the plain PyTorch twins serve and nothing is loaded. Use
it to compare speed, to find out whether native code is at fault, or where nothing is built.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from threading import RLock

import torch

from nsdbench.errors import ExtensionUnavailable

VARIABLE = "NSDBENCH_NATIVE"
FOLDER = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64)  # what the compiled operators compute in
_SIMD_LEVELS = ("baseline", "avx2", "avx512")  # csrc/cpu/simd.h


class Library:
    """The compiled operators in a folder: `_C` always, `_C_cuda` when torch itself can use CUDA.

    Attributes:
        folder: where `_C.so` and `_C_cuda.so` are.
        cuda_missing_because: why the CUDA operators are not there, "" where they are; None before
            loading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cuda_missing_because: str | None = None
        self._registrations: list[Callable[[], None]] = []
        self._outdated = ""  # why what was loaded is not of this code
        self._lock = RLock()

    def at_loading(self, register: Callable[[], None]) -> None:
        """Have a function called after loading: fake kernels need the operators they belong to."""
        self._registrations.append(register)
        if self.cuda_missing_because is not None:
            register()

    def load(self) -> None:
        """Load the operators unless they are loaded.

        Raises:
            ExtensionUnavailable: `_C.so` is missing or does not load; the message says why.
        """
        with self._lock:
            if self.cuda_missing_because is not None:
                return
            path = self.folder / "_C.so"
            reason = self._outdated or _load(path) or self._register()
            if reason:
                raise ExtensionUnavailable(
                    f"the compiled operators are not available: {path}: {reason}\n"
                    "Build them with `pip install --no-build-isolation -e .` in the project's "
                    f"folder, or set {VARIABLE}=0 to run on plain PyTorch, which is slower."
                )
            self.cuda_missing_because = self._load_cuda()

    def _register(self) -> str:
        try:
            for register in self._registrations:
                register()
        except AttributeError as error:  # it is not taken back: nothing registers twice
            self._outdated = f"it was built from other sources, without the operator {error.name}"
        return self._outdated

    def _load_cuda(self) -> str:
        if torch.version.cuda is None:
            return "this torch is built without CUDA"
        if not torch.cuda.is_available():
            return "no CUDA device is available"
        path = self.folder / "_C_cuda.so"
        if not path.exists():
            return "not built: nvcc was not found when nsdbench was installed"
        reason = _load(path)
        return reason and f"could not load {path}: {reason}"


library = Library(FOLDER)


def is_native(device: torch.device = CPU) -> bool:
    """Say whether the compiled operators compute for tensors on a device; load them if so.

    The environment is read here alone, and at every call, so that a test or a benchmark may switch.

    Returns:
        True on the CPU, and on CUDA where the CUDA operators are loaded, unless NSDBENCH_NATIVE=0.

    Raises:
        ExtensionUnavailable: they are to be used and do not load.
        ValueError: NSDBENCH_NATIVE is neither 0 nor 1.
    """
    wish = os.environ.get(VARIABLE, "1")
    if wish != "1":
        if wish != "0":
            raise ValueError(f"{VARIABLE}: expected 0 or 1, got {wish!r}")
        return False
    if library.cuda_missing_because is None:
        library.load()
    return device.type == "cpu" or (device.type == "cuda" and not library.cuda_missing_because)


def operators() -> torch._ops._OpNamespace:
    """Return the compiled operators, `torch.ops.nsdbench`, loaded whatever NSDBENCH_NATIVE says.

    Raises:
        ExtensionUnavailable: they do not load.
    """
    library.load()
    return torch.ops.nsdbench


def unavailable_because() -> str:
    """Try to load the operators; return "" if they load, else why not."""
    try:
        library.load()
    except ExtensionUnavailable as error:
        return str(error)
    return ""


def cuda_unavailable_because() -> str:
    """Try to load the CUDA operators; return "" if they load, else why not."""
    return unavailable_because() or library.cuda_missing_because or ""


def devices() -> list[str]:
    """List the devices whose operators load."""
    if unavailable_because():
        return []
    return ["cpu"] if library.cuda_missing_because else ["cpu", "cuda"]


def simd_level() -> str | None:
    """Name the instruction set of the CPU operators: baseline, avx2, avx512; None without them."""
    return None if unavailable_because() else _SIMD_LEVELS[torch.ops.nsdbench.simd_level()]


def _load(path: Path) -> str:
    """Load a shared object; return "" or what the loader says."""
    if not path.exists():
        return "no such file"
    if _is_cut_short(path):
        return "the file is cut short"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return str(error.__cause__ or error).removeprefix(f"{path}: ")
    return ""


def _is_cut_short(path: Path) -> bool:
    """Say whether an ELF file ends before its section table; the loader would crash on it."""
    with path.open("rb") as file:
        header = file.read(64)
    if len(header) < 64 or header[:5] != b"\x7fELF\x02":
        return False  # the loader says what is wrong with it
    (table,) = struct.unpack_from("<Q", header, 40)
    size, count = struct.unpack_from("<HH", header, 58)
    return path.stat().st_size < table + size * count
