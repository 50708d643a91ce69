"""What the CUDA code gains on a GPU, measured side by side: `python -m benchmarks.cuda`.

Ways of doing a job take turns; a time is the median over rounds of calls that end with a
synchronisation, so it holds what the host spends on launching as well. Every way says the code
path it takes, and operators are compared with what they are measured against. All of it runs in one
process: the device's allocator counts memory by itself, captures included. Prints a table and
writes results/benchmarks/cuda.json, or what --out names, after every group. Convolutions are
cuDNN's, with TensorFloat-32 as PyTorch sets it.

    graph               our step, captured once and replayed
    fused               our step, launched by Python (NSDBENCH_GRAPH=0)
    stock PyTorch       the modules of the same network (NSDBENCH_NATIVE=0)
    torch.compile       these through torch.compile, mode="reduce-overhead"
    autograd            PyTorch's modules, one graph through all steps

--dry-run goes the same ways on the CPU with tiny shapes and measures nothing worth keeping.
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

import torch

from benchmarks import cuda_jobs
from benchmarks.cuda_bench import Bench
from benchmarks.headline import RESULTS, machine
from nsdbench import files

GROUPS = {  # what matters most comes first: a run that is cut short keeps what it has
    "outer_step": cuda_jobs.measure_outer_steps,
    "training_step": cuda_jobs.measure_training,
    "gradient_error": cuda_jobs.measure_gradient_errors,
    "expert_epoch": cuda_jobs.measure_expert,
    "judging": cuda_jobs.measure_judging,
    "determinism": cuda_jobs.measure_determinism,
    "operators": cuda_jobs.measure_operators,
}


def show(group: str, found: dict) -> None:
    """Print what a group found."""
    if group == "gradient_error":
        for name, error in found.items():
            print(f"gradient error, {name:30} {error:.1e}")
        return
    cases = {group: found} if group in ("expert_epoch", "judging") else found
    for name, ways in cases.items():
        for way, facts in ways.items():
            peak = f"{facts['peak_mib']:9.1f} MiB" if "peak_mib" in facts else ""
            print(f"{name:46} {way:26} {1e3 * facts['seconds']:9.3f} ms {peak}")


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.cuda", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "cuda.json", help="file to write")
    parser.add_argument("--groups", default=",".join(GROUPS), help="some of them, as a,b")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    asked = parser.parse_args(words)
    groups = asked.groups.split(",")
    if unknown := [name for name in groups if name not in GROUPS]:
        parser.error(f"unknown group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    if asked.dry_run and asked.out == RESULTS / "cuda.json":
        parser.error("a dry run measures nothing worth keeping: give --out another file")
    if not asked.dry_run and not torch.cuda.is_available():
        print("no CUDA device is available: nothing was measured")
        return 2
    bench, result = Bench(asked.dry_run), {"machine": machine()}
    if not asked.dry_run:
        result["machine"] |= {
            "gpu": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "threads": torch.get_num_threads(),
        }
    started, failed = time.perf_counter(), False
    for group in groups:
        try:
            result[group] = GROUPS[group](bench)
            show(group, result[group])
        except Exception:  # time on a device is scarce: the other groups may still be measured
            traceback.print_exc()
            failed = True
        result["machine"]["seconds"] = round(time.perf_counter() - started, 1)
        text = json.dumps(result, indent=1) + "\n"
        files.write_atomically(asked.out, lambda path, text=text: path.write_text(text))
        print(f"({group}: {result['machine']['seconds']:.0f} s since the start)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
