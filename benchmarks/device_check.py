"""Check a GPU in one run of at most eight minutes: build, tests on the device, benchmark.

    python -m benchmarks.device_check --out FOLDER [--wheels FOLDER]

Made for a bare machine with Python, torch, CMake, ninja, pybind11 and nvcc, and no network: Python
packages that it lacks are taken from a folder of wheels. Builds in place with the torch that is
there. Leaves device_check.json (what ran, how long, how it ended), device_check.log (all output),
doctor.json and cuda.json. A step that fails or takes too long does not keep the others from
running, but for the build.

Without a CUDA device the host's steps run: the tests with the stand-in for captures, and the
benchmark's dry run. Then the exit status is 3. It is 1 if a step failed, 0 if all is well.
--no-build leaves the build out.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"  # packages from wheels
SECONDS = 480.0
NO_DEVICE = 3


@dataclass(frozen=True)
class Step:
    """One command: arguments of this Python, and the seconds after which it is stopped."""

    name: str
    words: tuple[str, ...]
    seconds: float


def steps(out: Path, has_device: bool, is_built_here: bool, wheels: Path | None) -> list[Step]:
    """List what is to run."""
    found = preparation(is_built_here, wheels)
    found.append(Step("doctor", ("-m", "nsdbench", "doctor", "--json"), 60))
    if has_device:
        tests = ("-n", "8", "-k", "cuda or on_a_device", "tests/ops", "tests/student")
        tests = (*tests, "tests/models")
        benchmark = ("--out", str(out / "cuda.json"))
    else:
        tests = ("tests/student/test_graph.py", "tests/student/test_training_step.py")
        benchmark = ("--dry-run", "--out", str(out / "cuda-dry-run.json"))
    found.append(Step("benchmark", ("-m", "benchmarks.cuda", *benchmark), 240))
    found.append(Step("tests", ("-m", "pytest", "-q", *tests), 180))
    return found


def preparation(is_built_here: bool, wheels: Path | None) -> list[Step]:
    """List what makes the package usable on a bare machine."""
    found = []
    if wheels is not None:
        names = tuple(str(path) for path in sorted(wheels.glob("*.whl")))
        pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(SITE))
        found.append(Step("packages", (*pip, *names), 60))
    if is_built_here:
        found.append(Step("build", ("setup.py", "build_ext", "--inplace"), 180))
    return found


def variables() -> dict[str, str]:
    """Return the environment of the steps: this one, with the packages from wheels."""
    path = os.environ.get("PYTHONPATH", "")
    return os.environ | {
        "PYTHONPATH": f"{SITE}{os.pathsep}{path}" if path else str(SITE),
        "PATH": f"{SITE / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


def run(step: Step, seconds: float, environment: dict[str, str], log: Path) -> dict:
    """Run a step, add its output to the log, and say how it ended."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *step.words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        status: int | str = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the workers that it started
        output, _ = process.communicate()
        status = "stopped"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"===== {step.name}: {' '.join(step.words)}\n{output}\n")
    taken = round(time.monotonic() - started, 1)
    return {"step": step.name, "status": status, "seconds": taken, "output": output}


def told(found: dict) -> str:
    """Print how a step ended, and take its output out of what `run` found."""
    output = found.pop("output")
    last = output.strip().splitlines()[-1:] or [""]
    print(f"{found['step']}: {found['status']} in {found['seconds']} s: {last[0]}", flush=True)
    return output


def has_cuda(environment: dict[str, str]) -> bool:
    """Ask torch, in a process of its own, whether there is a CUDA device."""
    question = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", question], env=environment).returncode == 0


def main(words: list[str] | None = None) -> int:
    """Run the steps one after another, and write what came of them."""
    parser = argparse.ArgumentParser(prog="benchmarks.device_check", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder for what it leaves")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to take packages from")
    parser.add_argument("--no-build", action="store_true", help="take what is built")
    asked = parser.parse_args(words)
    if asked.wheels is not None and not any(asked.wheels.glob("*.whl")):
        parser.error(f"--wheels {asked.wheels}: expected a folder with .whl files")
    started = time.monotonic()
    out = asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    log = out / "device_check.log"
    log.write_text("", encoding="utf-8")
    environment = variables()
    has_device = has_cuda(environment)
    results: list[dict] = []
    for step in steps(out, has_device, not asked.no_build, asked.wheels):
        left = SECONDS - (time.monotonic() - started)
        if left < 5:
            results.append({"step": step.name, "status": "no time left", "seconds": 0.0})
        else:
            found = run(step, min(step.seconds, left), environment, log)
            output = told(found)
            if step.name == "doctor":
                (out / "doctor.json").write_text(output, encoding="utf-8")
            results.append(found)
        facts = {"has_device": has_device, "steps": results}
        (out / "device_check.json").write_text(json.dumps(facts, indent=1) + "\n")
        if step.name == "build" and results[-1]["status"] != 0:
            print(f"the build failed: {log}")
            return 1
    if any(result["status"] != 0 for result in results):
        print(f"not all is well: {log}")
        return 1
    if not has_device:
        print("no CUDA device: only what the host can do was checked, nothing ran on a device")
        return NO_DEVICE
    return 0


if __name__ == "__main__":
    sys.exit(main())
