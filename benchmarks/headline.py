"""The headline ratios, measured side by side: `make bench-quick`.

Arms take turns, so that whatever else the machine does hits all of them; a ratio is that of two
medians. Prints a table and writes results/benchmarks/headline.json.
"""

import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.arms import MIB, Arm, Job
from nsdbench import files, provenance

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"

OUTER = {
    "autograd": Job("outer_step", "generic", mode="full"),
    "autograd, tuned": Job("outer_step", "generic", "tuned", mode="full"),
    "checkpointed, tuned": Job("outer_step", "generic", "tuned", mode="exact"),
    "native": Job("outer_step", "native", mode="exact"),
    "native, tuned": Job("outer_step", "native", "tuned", mode="exact"),
    "first order, native": Job("outer_step", "native", mode="first_order"),
}
TRAINING = {
    f"{name} {channels}x{size}x{size}": Job(
        "training_step", code_path, allocator, batch_size=256, channels=channels, size=size
    )
    for channels, size in ((3, 32), (1, 28))
    for name, code_path, allocator in (
        ("stock", "generic", "stock"),
        ("stock, tuned", "generic", "tuned"),
        ("native", "native", "stock"),
    )
}
NARROW = {
    f"{name} {task}": Job(
        task,
        code_path,
        allocator,
        num_steps=50,
        batch_size=batch_size,
        channels=1,
        size=28,
        width=32,
    )
    for task, batch_size in (("training_step", 256), ("judging", 100))
    for name, code_path, allocator in (
        ("stock", "generic", "stock"),
        ("stock, tuned", "generic", "tuned"),
        ("native", "native", "stock"),
    )
}
MEMORY = {
    "autograd": Job("outer_step", "generic", mode="full", num_steps=24),
    "native": Job("outer_step", "native", mode="exact", num_steps=24),
}
# (what, arms, slower arm, faster arm, at least, aim): the targets of the project, None where it has
# none
RATIOS = (
    ("exact outer step vs full autograd, time", OUTER, "autograd", "native", 2.7, 3.5),
    ("the same, both allocators tuned", OUTER, "autograd, tuned", "native, tuned", 4.0, 4.3),
    ("vs the generic exact path, both tuned", OUTER, "checkpointed, tuned", "native, tuned",
     1.5, 2.0),
    ("training step vs stock PyTorch, 3x32x32", TRAINING, "stock 3x32x32", "native 3x32x32",
     2.2, 3.0),
    ("training step vs stock PyTorch, 1x28x28", TRAINING, "stock 1x28x28", "native 1x28x28",
     2.2, 3.0),
    ("vs stock PyTorch, allocator tuned, 3x32x32", TRAINING, "stock, tuned 3x32x32",
     "native 3x32x32", 3.0, 3.3),
    ("width 32, allocator tuned, 1x28x28", NARROW, "stock, tuned training_step",
     "native training_step", None, None),
    ("training on 100 images, width 32, the same", NARROW, "stock, tuned judging",
     "native judging", None, None),
)  # fmt: skip


def take_turns(jobs: dict[str, Job], rounds: int) -> dict[str, dict]:
    """Run every arm once for warmth, then `rounds` times in turn; return medians and peaks."""
    with ExitStack() as stack:
        arms = {name: stack.enter_context(Arm(job)) for name, job in jobs.items()}
        for arm in arms.values():
            arm.warm_up()
        runs = [{name: arm.run() for name, arm in arms.items()} for _ in range(rounds)]
    return {
        name: {
            "seconds": statistics.median(run[name]["seconds"] for run in runs),
            "all_seconds": [round(run[name]["seconds"], 4) for run in runs],
            "peak_mib": round(runs[-1][name]["peak_bytes"] / MIB),
            "code_path": job.code_path,
        }
        for name, job in jobs.items()
    }


def peaks(jobs: dict[str, Job]) -> dict[str, dict]:
    """Run every job once in a fresh process; return peak memory above its start."""
    found = {}
    for name, job in jobs.items():
        with Arm(job) as arm:
            run = arm.run()
        found[name] = {"peak_mib": round(run["peak_bytes"] / MIB), "seconds": run["seconds"]}
    return found


def machine() -> dict:
    """Facts that the numbers depend on."""
    commit, is_dirty = provenance.commit()
    return {
        **provenance.machine("cpu"),
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit,
        "dirty": is_dirty,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_before": os.getloadavg()[0],
    }


def save(name: str, result: dict) -> None:
    """Write results/benchmarks/NAME.json."""
    text = json.dumps(result, indent=1) + "\n"
    files.write_atomically(RESULTS / f"{name}.json", lambda path: path.write_text(text))


def main(rounds: int = 2) -> int:
    """Measure, print, write; the exit status is 1 if a ratio misses what it should be at least."""
    result = {"machine": machine()}
    outer, training = take_turns(OUTER, rounds), take_turns(TRAINING, rounds)
    narrow = take_turns(NARROW, rounds)
    memory = peaks(MEMORY)
    measured = {id(OUTER): outer, id(TRAINING): training, id(NARROW): narrow}
    rows = []
    for what, arms, slow, fast, least, aim in RATIOS:
        seconds = {name: facts["seconds"] for name, facts in measured[id(arms)].items()}
        rows.append((what, seconds[slow] / seconds[fast], least, aim))
    ratio = memory["autograd"]["peak_mib"] / memory["native"]["peak_mib"]
    rows.append(("peak memory above the start, N = 24", ratio, 10, 20))
    result |= {
        "outer_step": outer,
        "training_step": training,
        "width_32": narrow,
        "memory_of_24_steps": memory,
        "ratios": {what: round(ratio, 2) for what, ratio, _, _ in rows},
    }
    save("headline", result)

    for title, arms in (
        ("outer step, N = 8, B = 64", outer),
        ("training step, B = 256", training),
        ("width 32, 1x28x28: step of B = 256, 50 steps on 100 images", narrow),
        ("outer step, N = 24, one run", memory),
    ):
        print(f"\n{title}")
        for name, facts in arms.items():
            print(f"  {name:28} {facts['seconds']:8.3f} s  {facts['peak_mib']:6} MiB")
    print()
    for what, ratio, least, aim in rows:
        target = "" if least is None else f"   at least {least}, aim {aim}"
        print(f"{what:46} {ratio:6.2f}x{target}")
    return int(any(least is not None and ratio < least for _, ratio, least, _ in rows))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
