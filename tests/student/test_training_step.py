"""The plain training step: as torch.optim's loop on a CPU, and the same bits through an engine."""

import copy
import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nsdbench import models
from nsdbench.experts.gsam import redirect_gradients
from nsdbench.student import capture
from nsdbench.student.graph import Engine
from nsdbench.student.training_step import TrainingStep
from tests.student.recorder import FakeRecorder, Spoiling


@pytest.fixture
def recorder(monkeypatch):
    recorder = FakeRecorder()
    recorder.engine = Spoiling(recorder)
    monkeypatch.setattr(capture, "engine_for", lambda device: recorder.engine)
    return recorder


def build(name="convnet", **options):
    generator = torch.Generator().manual_seed(0)
    sizes = {"in_channels": 3, "image_size": 8, "num_classes": 4} | options
    model = models.build(name, **sizes)
    models.initialize(model, generator)
    return model


def optimiser(model, name, rate=0.1):
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate)
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)


def batches(sizes=(5, 5, 3, 5, 3)):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, 8, 8, generator=generator),
            torch.randint(4, (size,), generator=generator),
        )
        for size in sizes
    ]


def trained(model, name, is_gsam=False):
    """Train through the one function: a schedule, a fresh optimiser on the way, ragged batches."""

    def loss(x, y):
        logits = model(x)
        return F.cross_entropy(logits, y), logits

    def redirect(x, y):
        redirect_gradients(model.parameters(), lambda: loss(x, y)[0], 0.05, 0.2)

    step = TrainingStep(model, optimiser(model, name), loss, redirect if is_gsam else None)
    seen = []
    for number, (x, y) in enumerate(batches()):
        step.optimiser.param_groups[0]["lr"] = 0.1 / (1 + number)
        if number == 3:
            step.optimiser = optimiser(model, name, 0.01)
        value, logits = step(x, y)
        seen += [value.detach().clone(), logits.detach().clone()]
    return [models.flatten(model), *seen], step


def plain(model, name, is_gsam=False):
    """The same as a loop of torch, without anything under test."""
    descent, seen = optimiser(model, name), []
    for number, (x, y) in enumerate(batches()):
        descent.param_groups[0]["lr"] = 0.1 / (1 + number)
        if number == 3:
            descent = optimiser(model, name, 0.01)
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        if is_gsam:
            redirect_gradients(
                model.parameters(), lambda x=x, y=y: F.cross_entropy(model(x), y), 0.05, 0.2
            )
        descent.step()
        seen += [loss.detach(), logits.detach()]
    return [models.flatten(model), *seen]


@pytest.mark.parametrize("is_captured", [False, True])
@pytest.mark.parametrize(
    ("name", "is_gsam"), [("sgd", False), ("adam", False), ("sgd", True)], ids=str
)
def test_it_is_the_loop_of_torch(name, is_gsam, is_captured, request):
    recorder = request.getfixturevalue("recorder") if is_captured else None
    model = build(width=4, depth=2)
    twin = copy.deepcopy(model)
    ours, step = trained(model, name, is_gsam)
    assert all(map(torch.equal, ours, plain(twin, name, is_gsam)))
    assert step.code_path == ("graph" if is_captured else "native")
    if recorder is not None:
        assert (recorder.captures, recorder.replays) == (2, 5)  # of two sizes


@pytest.mark.parametrize("is_gsam", [False, True])
@pytest.mark.parametrize("name", ["convnet", "alexnet", "vgg11", "resnet18"])
def test_what_is_captured_reads_nothing_back(name, is_gsam, recorder):
    recorder.is_strict = True
    model = build(name, width=4, image_size=32)
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([1, 3])

    def loss(x, y):
        return (F.cross_entropy(model(x), y),)

    def redirect(x, y):
        redirect_gradients(model.parameters(), lambda: loss(x, y)[0], 0.05, 0.2)

    step = TrainingStep(model, optimiser(model, "sgd"), loss, redirect if is_gsam else None)
    step(x, y)
    assert step.code_path == "graph" and recorder.captures == 1


def test_any_module_is_captured(recorder):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    twin = copy.deepcopy(model)
    ours, step = trained(model, "sgd")
    assert step.code_path == "graph"
    assert all(map(torch.equal, ours, plain(twin, "sgd")))


def test_training_time_state_is_not_captured(recorder):
    model = build(width=4, depth=1, norm="batch_norm")
    twin = copy.deepcopy(model)
    ours, step = trained(model, "sgd")
    assert all(map(torch.equal, ours, plain(twin, "sgd"))) and recorder.captures == 0
    assert torch.equal(model.features[1].running_mean, twin.features[1].running_mean)
    assert step.code_path == "generic"


def test_code_of_a_user_is_not_captured(recorder, tmp_path):
    """It counts its passes, as a graph would not, and changes its mind at the third."""
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Moody(torch.nn.Linear):\n"
        "    def __init__(self, in_channels, image_size, num_classes):\n"
        "        super().__init__(in_channels * image_size**2, num_classes)\n"
        "        self.passes = 0\n"
        "    def forward(self, x):\n"
        "        self.passes += 1\n"
        "        return super().forward(x.flatten(1)) * (-1 if self.passes > 4 else 1)\n"
    )
    model = build(f"{tmp_path}/mine.py:Moody")
    twin = copy.deepcopy(model)
    ours, step = trained(model, "sgd")
    assert all(map(torch.equal, ours, plain(twin, "sgd"))) and recorder.captures == 0
    assert step.code_path == "generic" and model.network.passes == twin.network.passes > 4


def test_parameters_may_be_overwritten_but_move_to_another_graph(recorder):
    model = nn.Linear(2, 2, bias=False)
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    step = TrainingStep(model, sgd, lambda x, y: (F.cross_entropy(model(x), y),))
    x, y = torch.eye(2), torch.tensor([0, 1])
    for weight in (torch.zeros(2, 2), 3 * torch.eye(2)):
        with torch.no_grad():
            model.weight.copy_(weight)
        (loss,) = step(x, y)
        assert torch.equal(loss, F.cross_entropy(x @ weight.T, y))
    assert recorder.captures == 1
    model.weight.data = -torch.eye(2)
    (loss,) = step(x, y)
    assert torch.equal(loss, F.cross_entropy(-x, y)) and recorder.captures == 2


def test_a_failed_capture_trains_as_it_stands(recorder, caplog):
    model = build(width=4, depth=1)
    twin = copy.deepcopy(model)
    recorder.fails = 99
    ours, step = trained(model, "sgd")
    assert all(map(torch.equal, ours, plain(twin, "sgd")))
    assert step.code_path == "native" and len(caplog.records) == 2


def test_its_graphs_go_with_it(monkeypatch):
    """A recorder that keeps only what a graph keeps: no function, so not the step either."""

    class Forgetful(FakeRecorder):
        def capture(self, function):
            super().capture(function)
            return lambda: None

    engine = Engine(Forgetful())
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    model = build(width=4, depth=1)
    _, step = trained(model, "sgd")
    assert len(engine) == 2
    del step
    gc.collect()
    assert len(engine) == 0


def test_on_a_device():
    """A network trained by replays ends where one trained without does, twice the same."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    ends = []
    for wish in ("1", "1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NSDBENCH_GRAPH", wish)
            model = build(width=8, depth=2).cuda()
            sgd = optimiser(model, "sgd")
            step = TrainingStep(model, sgd, lambda x, y, m=model: (F.cross_entropy(m(x), y),))
            for x, y in batches():
                step(x.cuda(), y.cuda())
            assert step.code_path == ("graph" if wish == "1" else "fused")
            ends.append(models.flatten(model))
    assert torch.equal(ends[0], ends[1])
    assert (ends[0] - ends[2]).norm() <= 1e-5 * ends[2].norm()
