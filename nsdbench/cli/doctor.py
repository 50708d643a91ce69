"""Report what is built and how, what is missing, and whether the native code is right."""

import importlib.metadata
import os
import platform
from dataclasses import asdict

import torch

import nsdbench
from nsdbench.bench import calibration
from nsdbench.bench.cost import Rates
from nsdbench.ops import backend
from nsdbench.student import self_test, unroll

PACKAGES = ("numpy", "scipy", "scikit-learn", "matplotlib", "safetensors", "pooch")


def report() -> dict:
    """Collect the facts; everything in it is JSON.

    Returns:
        A dictionary with the keys `nsdbench`, `python`, `platform`, `packages`, `torch`, `build`
        (empty where nothing is built), `operators` (None, or why they are not available), `cpu`,
        `cuda` (its `rates` are what `plan` knows of a card, None before a calibration), `convnet`
        (device -> code path of a student's step), `datasets` (name -> place or None) and
        `self_test` (one entry per operator and device: largest relative error in float64, the
        tolerance, whether it holds).
    """
    facts = _build_facts()
    architectures = [f"sm_{a}" for a in facts.pop("cuda_architectures", "").split()]
    cuda_compiler = facts.pop("cuda_compiler", "")
    return {
        "nsdbench": {"version": nsdbench.__version__, "folder": str(backend.FOLDER)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torch": {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "built_against": facts.pop("torch", None),
        },
        "build": facts,
        "operators": backend.unavailable_because() or None,
        "cpu": {
            "simd": backend.simd_level(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "openmp": torch.backends.openmp.is_available(),
            "openmp_runtimes": _openmp_runtimes(),
        },
        "cuda": {
            "compiler": cuda_compiler or None,
            "architectures_built": architectures,
            "devices": _devices(),
            "rates": {name: _plain(calibration.rates_of(name)) for name in _devices()},
            "loaded": not backend.cuda_unavailable_because(),
            "reason": backend.cuda_unavailable_because() or None,
        },
        "convnet": {
            device: unroll.code_path(self_test.student().to(device)) for device in backend.devices()
        },
        "datasets": _datasets(),
        "self_test": [test for device in backend.devices() for test in self_test.run(device)],
    }


def render(report: dict) -> str:
    """Format a report for reading.

    Args:
        report: from `report()`.

    Returns:
        Several lines of plain text.
    """
    cpu, cuda, build = report["cpu"], report["cuda"], report["build"]
    torch_facts = report["torch"]
    architectures = ", ".join(cuda["architectures_built"])
    lines = [
        f"nsdbench    {report['nsdbench']['version']} in {report['nsdbench']['folder']}",
        f"python      {report['python']} on {report['platform']}",
        f"torch       {torch_facts['version']} (CUDA {torch_facts['cuda'] or 'none'}); "
        f"built against {torch_facts['built_against'] or 'none: nothing is built'}",
        "packages    " + ", ".join(f"{k} {v or 'missing'}" for k, v in report["packages"].items()),
        "compiler    "
        + (
            f"{build['compiler']}, C++ {build['cxx_standard']}, {build['build_type']}"
            if build
            else "-"
        ),
        "operators   " + (report["operators"] or "loaded"),
        f"cpu         {cpu['simd'] or 'no operators'}, {cpu['threads']} of {cpu['cores']} cores, "
        f"OpenMP {'yes' if cpu['openmp'] else 'no'}",
        "cuda        "
        + (f"built by {cuda['compiler']} for {architectures}" if cuda["compiler"] else "not built"),
        "            " + ("loaded" if cuda["loaded"] else f"not loaded: {cuda['reason']}"),
    ]
    if len(cpu["openmp_runtimes"]) > 1:
        lines.append(
            "warning     more than one OpenMP runtime in this process, which slows threads down: "
            + ", ".join(cpu["openmp_runtimes"])
        )
    lines += [f"device      {name}{_priced(cuda['rates'][name])}" for name in cuda["devices"]]
    lines += [
        f"convnet     students take the {path} path on {device}"
        for device, path in report["convnet"].items()
    ]
    for name, folder in report["datasets"].items():
        lines.append(f"dataset     {name:<14} {folder or 'not found'}")
    for test in report["self_test"]:
        lines.append(
            f"self test   {test['operator']} on {test['device']}: "
            f"{'right' if test['passed'] else 'WRONG'}, "
            f"relative error {test['error']:.1e} (at most {test['tolerance']:.0e})"
        )
    return "\n".join(lines)


def calibrate() -> None:
    """Measure every GPU of this machine, one a name, and keep its rates for `plan`.

    Raises:
        ValueError: there is none, or its times make no sense.
    """
    if not torch.cuda.is_available():
        raise ValueError("--calibrate: torch sees no GPU; only GPUs are calibrated, leave it out")
    numbers = {name: number for number, name in enumerate(_devices())}
    for name, number in numbers.items():
        calibration.keep(name, *calibration.measure(f"cuda:{number}"))


def _devices() -> list[str]:
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _plain(rates: Rates | None) -> dict[str, float] | None:
    return None if rates is None else asdict(rates)


def _priced(rates: dict[str, float] | None) -> str:
    if rates is None:
        return "; not calibrated, `plan` guesses (doctor --calibrate)"
    return (
        f"; calibrated: {rates['flops'] / 1e12:.3g} TFLOP/s in training, "
        f"{1e3 * rates['step_seconds']:.3g} ms a step besides"
    )


def _build_facts() -> dict[str, str]:
    """Return how the native code was built, nothing where it was not."""
    try:
        from nsdbench import _build_info
    except ImportError:
        return {}
    facts = _build_info.facts()
    del facts["version"]
    return facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _openmp_runtimes() -> list[str]:
    """List the OpenMP libraries mapped into this process (Linux only)."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if "omp" in line.rsplit("/", 1)[-1]}
    except OSError:
        return []
    names = ("libgomp", "libomp", "libiomp5")
    return sorted(p for p in paths if os.path.basename(p).startswith(names))


def _datasets() -> dict[str, str | None]:
    places = {}
    for name in nsdbench.data.names():
        folder = nsdbench.data.locate(name)
        places[name] = None if folder is None else str(folder)
    return places
