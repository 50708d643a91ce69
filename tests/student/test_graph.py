"""Steps through an engine equal the steps as they are, bit for bit; captures fail in words.

On the host, with a stand-in that runs what was captured again (recorder.py).
"""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nsdbench import models
from nsdbench.student import augment, capture, convnet_step, graph, unroll
from nsdbench.student.graph import Engine, GraphStep
from nsdbench.student.selection import select_step
from tests.student.recorder import FakeRecorder, Spoiling

STRATEGY = "color_crop_cutout_flip_scale_rotate"


@pytest.fixture
def recorder(monkeypatch, fused_on_cpu):
    """Have ConvNets take the path of CUDA, and its steps be captured by a stand-in."""
    recorder = FakeRecorder()
    engine = Spoiling(recorder)
    recorder.engine = engine
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    return recorder


NUM_CLASSES = 6


def build(width=6, depth=2, channels=3, size=8, num_classes=NUM_CLASSES, dtype=torch.float32):
    """A ConvNet whose theta fills whole lines of 64 bytes.

    Else the rows of a trajectory start anywhere, and the last bits of products on a CPU depend on
    where their operands start.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = {"in_channels": channels, "image_size": size, "num_classes": num_classes}
    model = models.build("convnet", **sizes, width=width, depth=depth)
    models.initialize(model, generator)
    assert models.num_parameters(model) % 16 == 0
    return model.to(dtype), generator


def gradients(
    model,
    generator,
    lengths,
    *,
    momentum=0.0,
    is_soft=False,
    siamese=None,
    is_learned=True,
    dtype=torch.float32,
    mode="exact",
):
    """theta_N and the gradients of a scalar of it, for draws that depend on the arguments alone."""
    generator.manual_seed(1)
    shape = model.image_shape
    images = torch.randn(9, *shape, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(4, (9,), generator=generator)
    if is_soft:
        num_classes = model.classifier.out_features
        labels = torch.rand(9, num_classes, generator=generator, dtype=dtype).requires_grad_()
    lr = torch.tensor(0.05, dtype=dtype, requires_grad=is_learned)
    theta = models.flatten(model).requires_grad_()
    batches = [torch.randperm(9, generator=generator)[:length] for length in lengths]
    draws = None
    if siamese is not None:
        draws = [
            augment.sample(STRATEGY, length, shape, generator, siamese=siamese)
            for length in lengths
        ]
    target = torch.randn(len(theta), generator=generator, dtype=dtype)
    end = unroll.unrolled_sgd(
        model,
        theta,
        images,
        labels,
        batches,
        lr if is_learned else 0.05,
        momentum=momentum,
        augment=draws,
        mode=mode,
    )
    wanted = [t for t in (theta, images, labels, lr) if t.requires_grad]
    return [end.detach(), *torch.autograd.grad((end - target).square().sum(), wanted)]


CASES = {
    "plain": {"lengths": [5, 5, 5]},
    "momentum": {"lengths": [5, 5, 5], "momentum": 0.9},
    "ragged": {"lengths": [5, 4, 5, 2, 4]},
    "ragged, momentum, soft, per image": {
        "lengths": [4, 5, 4, 1],
        "momentum": 0.5,
        "is_soft": True,
        "siamese": False,
    },
    "soft": {"lengths": [3, 3], "is_soft": True},
    "siamese": {"lengths": [5, 5, 3], "siamese": True},
    "per image": {"lengths": [5] * 6, "siamese": False},
    "a number as step size": {"lengths": [5, 5], "is_learned": False},
    "first order": {"lengths": [5, 4, 5], "mode": "first_order", "momentum": 0.9},
    "float64": {"lengths": [5, 5], "dtype": torch.float64},
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_those_without_a_graph(name, recorder, monkeypatch):
    options = dict(CASES[name])
    model, generator = build(dtype=options.get("dtype", torch.float32))
    assert unroll.code_path(model) == "graph"
    ours = gradients(model, generator, **options)
    again = gradients(model, generator, **options)
    steps = len(options["lengths"])
    assert recorder.replays == 4 * steps  # every step and every adjoint, of both calls
    monkeypatch.setattr(capture, "engine_for", lambda device: None)
    assert unroll.code_path(model) == "fused"
    eager = gradients(model, generator, **options)
    assert recorder.replays == 4 * steps
    assert len(ours) == len(eager) >= 3 and all(tensor.abs().sum() > 0 for tensor in ours)
    assert all(map(torch.equal, ours, eager))
    assert all(map(torch.equal, again, eager))


@pytest.mark.parametrize(
    ("depth", "channels", "size", "num_classes"), [(1, 1, 8, 16), (3, 3, 8, 16), (4, 1, 28, 12)]
)
def test_any_number_of_blocks(depth, channels, size, num_classes, recorder, monkeypatch):
    model, generator = build(4, depth, channels, size, num_classes)
    ours = gradients(model, generator, [3, 3, 2], siamese=False)
    monkeypatch.setattr(capture, "engine_for", lambda device: None)
    assert all(map(torch.equal, ours, gradients(model, generator, [3, 3, 2], siamese=False)))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_is_captured_reads_nothing_back(momentum, recorder):
    recorder.is_strict = True
    model, generator = build()
    gradients(model, generator, [5, 3], momentum=momentum, is_soft=True, siamese=False)
    theta = models.flatten(model)
    y = torch.full((5, NUM_CLASSES), 1 / NUM_CLASSES)
    select_step(model, "exact").gradient(theta, torch.zeros(5, 3, 8, 8), y)
    assert recorder.captures > 4


def test_the_stand_in_notices_what_reads_back(recorder):
    recorder.is_strict = True
    for function in (lambda x: [x * x.sum().item()], lambda x: [x[x > 0]]):
        with pytest.raises(AssertionError, match="cannot be captured"):
            recorder.engine.run("reads back", function, function, [torch.ones(3)])


def test_one_graph_a_shape_and_replays_after_other_shapes(recorder):
    model, generator = build()
    first = gradients(model, generator, [5, 4, 5])
    # a step and an adjoint for each of two sizes, and before the first step: its h_theta is wanted
    assert recorder.captures == len(recorder.engine) == 4
    other, other_generator = build(width=12, num_classes=4)
    gradients(other, other_generator, [5, 5], is_soft=True)
    assert recorder.captures == 6
    assert all(map(torch.equal, first, gradients(model, generator, [5, 4, 5])))
    gradients(model, generator, [5, 4], momentum=0.9)  # the same adjoints, other steps
    assert recorder.captures == 8


def test_what_a_step_returns_outlives_the_next(recorder):
    model, generator = build()
    theta = models.flatten(model)
    x = torch.randn(5, 3, 8, 8, generator=generator)
    y, lr = torch.tensor([0, 1, 2, 3, 0]), torch.tensor(0.1)
    step = select_step(model, "exact", theta)
    assert isinstance(step, GraphStep)
    kept = [
        step.gradient(theta, x, y),
        *step.advance(theta, None, x, y, lr, 0.9),
        *step.adjoint(theta, x, y, theta, (True, False, False))[1][:1],
    ]
    copies = [tensor.clone() for tensor in kept]
    step.gradient(-theta, x, y)
    step.advance(-theta, theta, x, y, lr, 0.9)
    step.adjoint(-theta, x, y, theta, (True, False, False))
    assert all(map(torch.equal, kept, copies))


def test_operands_are_left_alone_and_may_be_views(recorder):
    model, generator = build()
    eager = convnet_step.FusedStep(model, models.native_shape(model))
    trajectory = torch.stack([models.flatten(model)] * 2)
    x = torch.randn(5, 8, 8, 3, generator=generator).permute(0, 3, 1, 2)
    y = torch.tensor(2).expand(5)  # one class, as gradient matching has it
    before = [trajectory.clone(), x.clone()]
    ours = select_step(model, "exact").gradient(trajectory[1], x, y)
    assert torch.equal(ours, eager.gradient(trajectory[1], x, y))
    assert torch.equal(trajectory, before[0]) and torch.equal(x, before[1])


def test_a_setting_that_chooses_kernels_makes_another_graph(recorder):
    model, generator = build()
    gradients(model, generator, [5])
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        gradients(model, generator, [5])
    assert recorder.captures == 4
    gradients(model, generator, [5])
    assert recorder.captures == 4


def test_the_oldest_graph_gives_way(fused_on_cpu, monkeypatch):
    recorder = FakeRecorder()
    engine = Engine(recorder, max_graphs=3)
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    model, generator = build()
    ours = gradients(model, generator, [5, 4, 3, 2, 5])
    assert len(engine) == 3 and recorder.captures > 3 and recorder.waits > 0
    monkeypatch.setattr(capture, "engine_for", lambda device: None)
    assert all(map(torch.equal, ours, gradients(model, generator, [5, 4, 3, 2, 5])))


def test_a_capture_that_fails_takes_the_other_way_once(recorder, monkeypatch, caplog):
    model, generator = build()
    gradients(model, generator, [5])
    recorder.fails = 1
    ours = gradients(model, generator, [4, 4])
    # All graphs went, their memory was given back, and the second step was captured after all.
    assert recorder.releases == 1 and recorder.waits == 1 and len(recorder.engine) == 2
    assert [record.message for record in caplog.records] == [
        "a step could not be captured (the GPU's memory is full): it runs without a graph this once"
    ]
    assert unroll.code_path(model) == "graph"
    monkeypatch.setattr(capture, "engine_for", lambda device: None)
    assert all(map(torch.equal, ours, gradients(model, generator, [4, 4])))


def test_a_network_that_fails_twice_is_given_up(recorder, caplog):
    model, generator = build()
    recorder.fails = 99
    gradients(model, generator, [5, 5, 5])
    assert recorder.releases == graph.MAX_FAILURES and recorder.replays == 0
    assert [record.message.rpartition("graph ")[2] for record in caplog.records] == [
        "this once",
        "from now on",
    ]
    assert unroll.code_path(model) == "fused"
    recorder.fails = 0
    other, generator = build(width=12, num_classes=4)
    assert unroll.code_path(other) == "graph"


def test_memory_that_is_full_before_the_capture_counts_as_a_failure():
    engine, calls = Engine(FakeRecorder()), []

    def function(x):
        calls.append(x)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("full")
        return [x + 1]

    assert engine.run("f", "add", function, [torch.zeros(2)]) is None
    (found,) = engine.run("f", "add", function, [torch.ones(2)])
    assert found.tolist() == [2, 2]


def test_a_fault_of_the_arguments_is_no_failed_capture(recorder):
    model, _ = build()
    step = select_step(model, "exact")
    with pytest.raises(ValueError, match="theta: expected shape"):
        step.gradient(models.flatten(model)[:-1], torch.zeros(2, 3, 8, 8), torch.zeros(2).long())
    assert recorder.releases == 0 and unroll.code_path(model) == "graph"


def test_forgotten_graphs_are_dropped():
    recorder = FakeRecorder()
    engine = Engine(recorder)
    for family in ("one", "two"):
        engine.run(family, "double", lambda x: [2 * x], [torch.ones(2)])
    engine.forget("one")
    engine.forget("three")
    assert len(engine) == 1 and recorder.waits == 0, "it may be a finaliser amid a capture"
    engine.run("two", "double", lambda x: [2 * x], [torch.ones(2)])
    assert len(engine._graphs) == 1 and recorder.waits == 1 and recorder.captures == 2


@pytest.mark.parametrize("kind", ["resnet18", "batch norm off", "bfloat16", "native", "full"])
def test_what_is_not_captured(kind, monkeypatch, request):
    """Other modules, other dtypes, the CPU's own operators, and the mode that keeps graphs."""
    engine = Engine(FakeRecorder())
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    if kind != "native":
        request.getfixturevalue("fused_on_cpu")
    model, _ = build()
    if kind == "resnet18":
        model = models.build("resnet18", in_channels=3, image_size=32, num_classes=4, width=4)
    if kind == "batch norm off":
        model = models.build(
            "convnet",
            in_channels=3,
            image_size=8,
            num_classes=4,
            width=4,
            depth=1,
            norm="batch_norm",
        ).eval()
    theta = models.flatten(model)
    if kind == "bfloat16":
        theta = theta.bfloat16()
    step = select_step(model, "full" if kind == "full" else "exact", theta)
    assert step.name == ("native" if kind == "native" else "generic")


def test_when_a_device_has_an_engine(monkeypatch):
    asked = []
    monkeypatch.setattr(graph, "engine", lambda *place: asked.append(place) or "engine")
    stream = SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    cuda = torch.device("cuda:1")
    assert capture.engine_for(torch.device("cpu")) is None
    assert capture.engine_for(cuda) == "engine" and asked == [(1, 77)]
    assert torch.func.grad(lambda x: x * (capture.engine_for(cuda) is None))(torch.ones(())) == 1
    monkeypatch.setenv("NSDBENCH_GRAPH", "0")
    assert capture.engine_for(cuda) is None
    monkeypatch.setenv("NSDBENCH_GRAPH", "yes")
    with pytest.raises(ValueError, match="NSDBENCH_GRAPH: expected 0 or 1, got 'yes'"):
        capture.engine_for(cuda)
    monkeypatch.delenv("NSDBENCH_GRAPH")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert capture.engine_for(cuda) is None


def test_work_side_by_side_goes_step_by_step():
    seen = []

    def work(name, steps):
        for step in range(steps):
            seen.append(f"{name}{step}")
            yield
        return name

    ends = capture.run_side_by_side([work("a", 1), work("b", 3), work("c", 0)], torch.device("cpu"))
    assert ends == ["a", "b", "c"] and seen == ["a0", "b0", "b1", "b2"]


def test_work_on_cuda_has_streams_of_its_own_that_wait_and_are_waited_for(monkeypatch):
    log = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

        def __enter__(self):
            log.append(f"in {self.name}")

        def __exit__(self, *exception):
            pass

    lanes = {}
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("default"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(
        graph, "lane", lambda index, number: lanes.setdefault((index, number), Stream(number))
    )
    works = [(_ for _ in [None]) for _ in range(2)]
    assert capture.run_side_by_side(works, torch.device("cuda:3")) == [None, None]
    assert list(lanes) == [(3, 0), (3, 1)]
    assert log == [
        *("0 waits for default", "1 waits for default"),
        *("in 0", "in 1", "in 0", "in 1"),
        *("default waits for 0", "default waits for 1"),
    ]


NOT_LOADED = """
import sys, torch
from nsdbench import models, unroll
model = models.build("convnet", in_channels=3, image_size=8, num_classes=4, width=4, depth=1)
images, theta = torch.randn(4, 3, 8, 8).requires_grad_(), models.flatten(model)
labels, batches = torch.zeros(4, dtype=torch.int64), torch.arange(4).expand(2, -1)
unroll.unrolled_sgd(model, theta, images, labels, batches, 0.1).sum().backward()
assert images.grad.abs().sum() > 0
print("nsdbench.student.graph" in sys.modules)
"""


def test_the_engine_is_not_loaded_on_a_cpu():
    done = subprocess.run([sys.executable, "-c", NOT_LOADED], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_on_a_device():
    """Gradients through real captures equal those without, and so do repeated ones."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    generator = torch.Generator().manual_seed(0)
    model = models.build("convnet", in_channels=3, image_size=16, num_classes=4, width=8, depth=2)
    models.initialize(model, generator)
    model.cuda()
    images = torch.randn(12, 3, 16, 16, generator=generator).cuda().requires_grad_()
    labels = torch.randint(4, (12,), generator=generator).cuda()
    lr = torch.tensor(0.02, device="cuda", requires_grad=True)
    batches = [torch.randperm(12, generator=generator)[:n] for n in (8, 8, 4, 8)]
    draws = [augment.sample(STRATEGY, len(b), (3, 16, 16), generator) for b in batches]

    def run():
        end = unroll.unrolled_sgd(
            model, models.flatten(model), images, labels, batches, lr, momentum=0.5, augment=draws
        )
        return torch.autograd.grad(end.square().sum(), (images, lr))

    assert unroll.code_path(model) == "graph"
    ours, again = run(), run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSDBENCH_GRAPH", "0")
        assert unroll.code_path(model) == "fused"
        eager = run()
    assert all(map(torch.equal, ours, again))
    for a, b in zip(ours, eager, strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()
