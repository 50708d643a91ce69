"""Draw docs/nsd-curves.png from records of the search and the tables: python docs/nsd_curves.py."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parents[1]
SEARCH, K = "FashionMNIST-holdout5000-seed0-ipc1-nsd-search+", "optimiser.lr_kernels=0.3"
PANELS = {  # panel: {label: (cell, protocol)}
    "First round, ipc 1 (held-out accuracy)": {
        "start: T 100, K 0.1": (SEARCH.removesuffix("+"), "common-100ep"),
        "K 0.3": (SEARCH + K, "common-100ep"),
        "K 0.3, 800 iterations": (f"{SEARCH}optimiser.iterations=800+{K}", "common-100ep"),
        "the same, no guided loss": (
            f"{SEARCH}objective.guided_weight=0.0+optimiser.iterations=800+{K}", "common-100ep"),
        "K 0.3, starts < 8": (f"{SEARCH}objective.max_start_epoch=8+{K}", "common-100ep"),
        "the same, step size fixed": (
            f"{SEARCH}objective.max_start_epoch=8+{K}+optimiser.lr_lr=1e-07", "common-100ep"),
    },
    **{
        f"Tables 2 and 6, ipc {ipc} (test accuracy)": {
            title: (f"FashionMNIST-ipc{ipc}-{method}", "common-300ep")
            for title, method in (
                ("MTT", "mtt"), ("DCT", "dct"), ("LDCT", "ldct"),
                ("NSD, no guided loss", "nsd-unguided"), ("NSD", "nsd"))
        }
        for ipc in (1, 10)
    },
}  # fmt: skip


def smoothed(curve: list[list[float]], window: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and running means of a thinned loss curve."""
    steps, losses = np.array(curve).T
    return steps[window - 1 :], np.convolve(losses, np.ones(window) / window, "valid")


figure, axes = plt.subplots(1, len(PANELS), figsize=(16, 4.2), sharey=True)
for axis, (title, curves) in zip(axes, PANELS.items(), strict=True):
    for label, (cell, protocol) in curves.items():
        file = ROOT / "results" / "records" / "small" / f"{cell}-convnet3-w32-{protocol}.json"
        record = json.loads(file.read_text())
        accuracy = record["accuracy"]["mean"]
        axis.plot(*smoothed(record["distillation"]["curve"]), label=f"{label}: {accuracy:.1f} %")
    axis.set(title=title, xlabel="iteration", ylim=(0.3, 2.0))
    axis.legend(fontsize=8)
axes[0].set_ylabel("loss, running mean")
figure.tight_layout()
figure.savefig(ROOT / "docs" / "nsd-curves.png", dpi=80)
