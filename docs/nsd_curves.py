"""Draw docs/nsd-curves.png from the records of the searches: python docs/nsd_curves.py."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parents[1]
CELL = "FashionMNIST-holdout5000-seed0-ipc1-{}-convnet3-w32-common-{}ep.json"
SEARCH, K = "nsd-search+", "optimiser.lr_kernels=0.3"
PANELS = {
    "NSD with guided loss (gamma 0.3)": {
        "start: T 100, K 0.1": ("nsd-search", 100),
        "K 0.3": (SEARCH + K, 100),
        "K 1": (SEARCH + "optimiser.lr_kernels=1.0", 100),
        "K 0.3, T 10": (SEARCH + f"optimiser.iterations=400+{K}+optimiser.lr_syn=10.0", 100),
        "K 0.3, 800 iterations": (SEARCH + f"optimiser.iterations=800+{K}", 100),
        "K 0.3, starts < 8": (SEARCH + f"objective.max_start_epoch=8+{K}", 100),
        "the same, step size fixed": (
            SEARCH + f"objective.max_start_epoch=8+{K}+optimiser.lr_lr=1e-07", 100),
    },
    "no guided loss": {
        "NSD, K 0.3": (SEARCH + f"objective.guided_weight=0.0+{K}", 100),
        "MTT": ("mtt+optimiser.iterations=200", 300),
        "MTT from noise": ("mtt+optimiser.iterations=200+parameterization.init=noise", 300),
        "DWT": ("dwt+optimiser.iterations=200", 300),
        "DCT": ("dct+optimiser.iterations=200", 300),
    },
}  # fmt: skip


def smoothed(curve: list[list[float]], window: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and running means of a thinned loss curve."""
    steps, losses = np.array(curve).T
    return steps[window - 1 :], np.convolve(losses, np.ones(window) / window, "valid")


figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
for axis, (title, curves) in zip(axes, PANELS.items(), strict=True):
    for label, (method, epochs) in curves.items():
        file = ROOT / "results" / "records" / "small" / CELL.format(method, epochs)
        record = json.loads(file.read_text())
        accuracy = record["accuracy"]["mean"]
        axis.plot(*smoothed(record["distillation"]["curve"]), label=f"{label}: {accuracy:.1f} %")
    axis.set(title=title, xlabel="iteration", ylim=(0.3, 2.0))
    axis.legend(title="held-out accuracy", fontsize=8)
axes[0].set_ylabel("loss, running mean")
figure.tight_layout()
figure.savefig(ROOT / "docs" / "nsd-curves.png", dpi=90)
