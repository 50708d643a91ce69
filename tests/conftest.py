"""Fixtures that every part of the tests may use."""

import pytest
import torch

from nsdbench import methods
from nsdbench.bench.measure import measure
from nsdbench.bench.plan import Task
from nsdbench.evaluation import protocols
from nsdbench.experts import Run
from nsdbench.models.nets import convnet
from nsdbench.ops import is_native_enabled


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ),
    ]
)
def device(request) -> torch.device:
    """Run a test on the CPU and, where there is one, on a CUDA device."""
    return torch.device(request.param)


@pytest.fixture
def fused_on_cpu(monkeypatch):
    """Have ConvNets take on the CPU the path that they take on CUDA."""
    monkeypatch.setattr(
        convnet,
        "_device_path",
        lambda device: "fused" if is_native_enabled(device) else "generic",
    )


@pytest.fixture
def measure_cell():
    """Measure a cell that no table has to declare."""

    def measure_one(cell, results, *, seeds=1, repeats=1, **shared):
        recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
        protocol = protocols.get(cell.protocol)
        return measure(Task(cell, recipe, protocol, seeds, repeats), Run(results, **shared))

    return measure_one


_TINY = """
[[settings]]
source = "test"
[settings.network]
width = 8
depth = 1
[settings.experts]
num_experts = 2
epochs = 3
batch_size = 32
[settings.objective]
syn_steps = 3
expert_epochs = 1
max_start_epoch = 2
lr_inner = 0.02
batch_syn = 8
[settings.optimiser]
iterations = 6
lr_syn = 1.0
lr_lr = 1e-5
"""


@pytest.fixture
def tiny_methods(tmp_path, monkeypatch):
    """Provide methods tiny-nsd and tiny-mtt that run in about a second, and an empty cache.

    Returns:
        The folder of the methods.
    """
    folder = tmp_path / "methods"
    folder.mkdir()
    nsd = "[settings.parameterization]\nnum_kernel_sets = 1\n"
    for parent, more in (("nsd", nsd), ("mtt", "")):
        head = f'name = "tiny-{parent}"\ntitle = "tiny"\nextends = "{parent}"\n'
        (folder / f"tiny-{parent}.toml").write_text(head + _TINY + more)
    monkeypatch.setenv("NSDBENCH_METHODS", str(folder))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    return folder
