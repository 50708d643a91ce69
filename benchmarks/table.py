"""The tables of speed in README.md and docs/speed.md, rendered from results/benchmarks.

`python -m benchmarks.table` prints them; a test compares them with what the pages say.
"""

import json
import statistics

from tabulate import tabulate

from benchmarks.headline import RESULTS

# (what, group in headline.json, slower arm, faster arm)
HEADLINE = (
    ("exact outer step, 3x32x32, batch 64, N = 8 / full autograd, as MTT's code",
     "outer_step", "autograd", "native"),
    ("the same, both tuned / full autograd", "outer_step", "autograd, tuned", "native, tuned"),
    ("the same, both tuned / double backward step by step",
     "outer_step", "checkpointed, tuned", "native, tuned"),
    ("training step, 3x32x32, batch 256 / stock PyTorch",
     "training_step", "stock 3x32x32", "native 3x32x32"),
    ("training step, 3x32x32, batch 256 / PyTorch, tuned",
     "training_step", "stock, tuned 3x32x32", "native 3x32x32"),
    ("training step, 1x28x28, batch 256 / stock PyTorch",
     "training_step", "stock 1x28x28", "native 1x28x28"),
    ("training step at width 32, 1x28x28, batch 256 / PyTorch, tuned",
     "width_32", "stock, tuned training_step", "native training_step"),
    ("50 steps of judging 100 images at width 32 / PyTorch, tuned",
     "width_32", "stock, tuned judging", "native judging"),
)  # fmt: skip
# (what, group of bench.json, slower benchmark, faster benchmark)
OPERATORS = (
    *(
        (f"reconstruct, {name} / fastest order of einsum",
         f"reconstruct {name} forward+backward",
         f"test_reconstruct[{name}-einsum-forward+backward]",
         f"test_reconstruct[{name}-native-forward+backward]")
        for name in ("cifar10-ipc1", "cifar10-ipc10", "imagenet-subset-ipc1")
    ),
    *(
        (f"norm, ReLU, pool, {name} / PyTorch's three layers",
         f"inorm_relu_pool {name} forward+backward",
         f"test_inorm_relu_pool[{name}-composed-forward+backward]",
         f"test_inorm_relu_pool[{name}-native-forward+backward]")
        for name in ("32px-block1", "32px-block3", "128px-block1")
    ),
    ("inference, 3x32x32, batch 256 / stock PyTorch", "inference 3x32x32, allocator stock",
     "test_training[inference-3-32-generic-stock]", "test_training[inference-3-32-native-stock]"),
)  # fmt: skip


# A gradient that is so far off has a ReLU that flipped: rounding moves it a hundredth of that.
FLIPPED = 1e-4


def read(name: str) -> dict:
    """Read one committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def duration(seconds: float) -> str:
    """Write a time with three significant digits."""
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"


def row(what: str, fast: str, slow: str, ratio: float) -> list[str]:
    """Write one line of a table."""
    return [*what.split(" / "), f"{fast} / {slow}", f"{ratio:.1f}"]


def timed_row(what: str, fast: float, slow: float) -> list[str]:
    """Write one line of times in seconds."""
    return row(what, duration(fast), duration(slow), slow / fast)


def table(header: str, sides: str, rows: list[list[str]]) -> str:
    """Write a Markdown table whose columns stand to the left ("l") or to the right ("r")."""
    align = [{"l": "left", "r": "right"}[side] for side in sides]
    return tabulate(rows, header.split(" | "), "pipe", colalign=align, disable_numparse=True)


def headline() -> str:
    """Render the README's table, from headline.json."""
    measured = read("headline")
    rows = []
    for what, group, slow, fast in HEADLINE:
        arms = measured[group]
        rows.append(timed_row(what, arms[fast]["seconds"], arms[slow]["seconds"]))
    peaks = {name: arm["peak_mib"] for name, arm in measured["memory_of_24_steps"].items()}
    ours, other = peaks["native"], peaks["autograd"]
    what = "peak memory above the start, N = 24 / full autograd"
    rows.append(row(what, f"{ours} MiB", f"{other:,} MiB", other / ours))
    return table("what | against | time | ratio", "llrr", rows)


def operators() -> str:
    """Render the table of single operators, from bench.json."""
    entries = read("bench")["benchmarks"]
    seconds = {(entry["group"], entry["name"]): entry["stats"]["median"] for entry in entries}
    rows = [
        timed_row(what, seconds[group, fast], seconds[group, slow])
        for what, group, slow, fast in OPERATORS
    ]
    against = {"pytorch": "vectorised PyTorch", "reference_loop": "loop over images"}
    for entry in entries:
        if not entry["name"].startswith("test_dsa"):
            continue
        dataset, _, operation = entry["param"].rpartition("-")
        times = entry["extra_info"]["milliseconds"]
        for other in (key for key in against if key in times):
            what = f"DSA, {dataset}, {operation} / {against[other]}"
            rows.append(timed_row(what, times["native"] / 1e3, times[other] / 1e3))
    return table("operator | against | time | ratio", "llrr", rows)


def cuda() -> str:
    """Render what the CUDA code gains on a GPU, from cuda.json: times, then peak memory."""
    measured = read("cuda")
    rivals = {
        "outer_step": ("outer step, ", "autograd"),
        "training_step": ("training step, ", "stock PyTorch", "torch.compile"),
    }
    rows = []
    for group in ("outer_step", "training_step", "operators"):
        for name, ways in measured[group].items():
            ours = next(way for way in ("graph", "fused", "native") if way in ways)
            if group == "training_step" and not name.startswith("B "):
                name = f"B 256, {name}"  # as the first files left out
            before, *others = rivals.get(group, ("", *(way for way in ways if way != ours)))
            for other in (way for way in others if way in ways):
                fast, slow = ways[ours], ways[other]
                times = timed_row(f"{before}{name} / {other}", fast["seconds"], slow["seconds"])
                rows.append([*times, f"{fast['peak_mib']:,.0f} / {slow['peak_mib']:,.0f} MiB"])
    return table("what | against | time | ratio | peak memory", "llrrr", rows)


def profile() -> str:
    """Render where an outer step spends its time, from profile.json."""
    rows = [[f"{x['percent']} %", x["kind"], x["what"]] for x in read("profile")["rows"]]
    return table("share | kind | what", "rll", rows)


def convolution_errors() -> str:
    """Render how one convolution and its gradients round, from errors.json."""
    rows = [
        [way, size, *(f"{error:.1e}" for error in errors.values())]
        for size, ways in read("errors")["convolution"].items()
        for way, errors in ways.items()
    ]
    return table("convolution | maps | output | data gradient | weight gradient", "llrrr", rows)


def gradient_errors() -> str:
    """Render how dJ/dimages rounds, from errors.json: draws without a flipped ReLU, and all."""
    rows = []
    for steps, draws in read("errors")["gradient"].items():
        for way in draws[0]:
            errors = sorted(draw[way] for draw in draws)
            smooth = [error for error in errors if error < FLIPPED]
            largest = f"{smooth[-1]:.1e}" if smooth else "-"
            rows.append([steps, way, f"{len(smooth)} of {len(errors)}", largest,
                         f"{statistics.median(errors):.1e}"])  # fmt: skip
    header = "steps | convolutions | draws without a flip | largest error there | median of all"
    return table(header, "llrrr", rows)


RENDERERS = (headline, operators, cuda, profile, convolution_errors, gradient_errors)

if __name__ == "__main__":
    print(*(render() for render in RENDERERS), sep="\n\n")
