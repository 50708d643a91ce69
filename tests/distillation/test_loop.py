"""The outer loop: seals the test split, resumes bit for bit, stops when it diverges."""

import pytest
import torch

from nsdbench import coresets, data, experts, methods, models
from nsdbench.bench.cost import estimate
from nsdbench.distillation import loop as distillation
from nsdbench.distillation.checkpoint import read_checkpoint
from nsdbench.distillation.objectives import TrajectoryMatching
from nsdbench.errors import DataMissing, Diverged, TestSplitSealed
from nsdbench.evaluation import protocols
from nsdbench.experts import opening
from nsdbench.models import own
from nsdbench.seeding import generator
from nsdbench.sets.artefact import load_artefact

NAME = "synthetic:3x1x8x8"


pytestmark = pytest.mark.usefixtures("tiny_methods")


@pytest.mark.parametrize("method", ["tiny-mtt", "tiny-nsd"])
def test_distils_within_budget_and_moves_the_images(tmp_path, method):
    phases = []
    artefact = distillation.distill(
        method,
        NAME,
        4,
        out=tmp_path / "set.safetensors",
        progress=lambda phase, done, total, note="": phases.append((phase, done, total)),
    )
    ledger = artefact.ledger()
    assert ledger.stored_bits <= 4 * 3 * 64 * 32
    assert artefact.metadata["distillation"]["images_moved"] > 1e-3
    assert artefact.metadata["distillation"]["iterations"] == 6
    assert artefact.metadata["learned"]["lr"] > 0
    assert ("distill", 6, 6) in phases
    assert torch.equal(load_artefact(tmp_path / "set.safetensors").images(), artefact.images())


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("set", "ends in .safetensors, got 'set'; for example .*/set.safetensors"),
        ("set.pt", "ends in .safetensors, got 'set.pt'"),
        (".", "got a folder"),
        ("file/set.safetensors", "the folder .*file cannot be made"),
        ("file/more/set.safetensors", "the folder .*more cannot be made"),
    ],
)
def test_a_place_that_is_none_for_a_set_is_refused_before_the_work(tmp_path, out, message):
    (tmp_path / "file").write_text("")
    for make in (distillation.distill, coresets.select):
        with pytest.raises(ValueError, match=f"^out: .*{message}"):
            make("no such method", "no such data", 4, out=tmp_path / out)


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ValueError, match="out: the folder .* cannot be written"):
        distillation.distill("tiny-mtt", NAME, 4, out=tmp_path / "set.safetensors")


@pytest.mark.parametrize("name", ["../theirs", "/tmp/theirs", "", ".", "a/b"])
def test_a_recipe_names_a_buffer_and_no_path(name):
    with pytest.raises(ValueError, match="experts.buffer: .* cannot name a file"):
        distillation.distill("tiny-mtt", NAME, 1, overrides={"experts.buffer": name})


@pytest.mark.parametrize("method", ["tiny-mtt", "tiny-nsd"])
@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path, method, stop_at):
    def distil(work, progress=distillation.silent):
        return distillation.distill(method, NAME, 4, work=tmp_path / work, progress=progress)

    def interrupt(phase, done, total, note=""):
        if phase == "distill" and done == stop_at:
            raise KeyboardInterrupt

    undisturbed = distil("a")
    with pytest.raises(KeyboardInterrupt):
        distil("b", interrupt)
    resumed = distil("b")
    state, expected = (a.parameterization.state_dict() for a in (resumed, undisturbed))
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    for key in ("learned", "distillation", "recipe_hash"):
        assert resumed.metadata[key] == undisturbed.metadata[key]


def test_the_test_split_is_sealed_from_objective_and_experts(monkeypatch):
    """Whatever an objective or an expert gets hold of, its test split does not open."""
    seen = []
    record = opening.record

    def spy(dataset, *arguments, **options):
        seen.append(dataset)
        return record(dataset, *arguments, **options)

    monkeypatch.setattr(opening, "record", spy)
    opened = data.load(NAME)
    assert len(opened.test) > 0
    distillation.distill("tiny-mtt", opened, 1)
    with pytest.raises(TestSplitSealed):
        seen[0].test  # noqa: B018

    def peek(self, parameterization, step, stream):
        seen[0].test  # noqa: B018

    monkeypatch.setattr(TrajectoryMatching, "loss", peek)
    with pytest.raises(TestSplitSealed):
        distillation.distill("tiny-mtt", opened, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e4])
def test_a_loss_that_explodes_stops_with_the_step(monkeypatch, value):
    loss = TrajectoryMatching.loss

    def explode(self, parameterization, step, stream):
        return loss(self, parameterization, step, stream) * (value if step == 3 else 1)

    monkeypatch.setattr(TrajectoryMatching, "loss", explode)
    with pytest.raises(Diverged, match="step 3 of 6"):
        distillation.distill("tiny-mtt", NAME, 1)


def test_what_the_last_step_leaves_behind_is_checked(monkeypatch):
    """The loss of the only step is finite; the images that its update leaves behind are not."""
    step = torch.optim.SGD.step

    def leap(optimiser):
        for group in optimiser.param_groups:
            group["lr"] = 1e30
        step(optimiser)

    overrides = {"optimiser.iterations": 1}
    distillation.distill("tiny-nsd", NAME, 4, overrides=overrides)  # its experts are recorded
    monkeypatch.setattr(torch.optim.SGD, "step", leap)
    with pytest.raises(Diverged, match="after step 1: images is not finite"):
        distillation.distill("tiny-nsd", NAME, 4, overrides=overrides)


def test_a_hold_out_keeps_the_recipe_of_its_data_set(tiny_methods):
    """A search on a hold-out must run the settings that the table will run."""
    block = '[[settings]]\nwhen = { dataset = "synthetic:3x1x8x8" }\nsource = "test"\n'
    path = tiny_methods / "tiny-mtt.toml"
    path.write_text(path.read_text() + block + "optimiser = { iterations = 2 }\n")
    held_out = data.load(NAME).holdout(30)
    artefact = distillation.distill("tiny-mtt", held_out, 1)
    assert artefact.metadata["distillation"]["iterations"] == 2
    assert artefact.metadata["dataset"] == held_out.name
    assert len(coresets.select("random", held_out, 1).labels()) == 3


def test_time_adds_up_over_interruptions(tmp_path):
    def interrupt(phase, done, total, note=""):
        if (phase, done) == ("distill", 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distillation.distill("tiny-nsd", NAME, 4, work=tmp_path, progress=interrupt)
    (checkpoint,) = tmp_path.glob("*.pt")
    before = read_checkpoint(checkpoint)["seconds"]
    after = distillation.distill("tiny-nsd", NAME, 4, work=tmp_path).metadata["cost"]["distill"]
    assert after > before > 0


def test_another_seed_is_another_set():
    first, second = (distillation.distill("tiny-nsd", NAME, 4, seed=seed) for seed in (0, 1))
    assert not torch.equal(first.images(), second.images())


def test_a_run_that_is_stopped_between_two_steps_repeats_none(tmp_path):
    """Checkpoints are written on the way and where the run is stopped, as by its time limit."""
    before, after = [], []

    def stop(phase, done, total, note=""):
        if phase == "distill":
            before.append(done)
            if done == 7:
                raise KeyboardInterrupt

    def watch(phase, done, total, note=""):
        if phase == "distill":
            after.append(done)

    options = {"work": tmp_path, "overrides": {"optimiser.iterations": 200}}  # 10 a checkpoint
    with pytest.raises(KeyboardInterrupt):
        distillation.distill("tiny-nsd", NAME, 4, progress=stop, **options)
    distillation.distill("tiny-nsd", NAME, 4, progress=watch, **options)
    assert before == list(range(1, 8)) and after == list(range(8, 201))


def test_runs_of_one_recipe_keep_their_checkpoints_apart(tmp_path):
    """The same recipe at another ipc, seed or data set must not take up this one's checkpoint."""
    alone = distillation.distill("tiny-nsd", NAME, 5, seed=1)
    for name, ipc, seed in ((NAME, 4, 1), (NAME, 5, 0), ("synthetic:3x1x8x8@50+20", 5, 1)):
        distillation.distill("tiny-nsd", name, ipc, seed=seed, work=tmp_path)
    beside = distillation.distill("tiny-nsd", NAME, 5, seed=1, work=tmp_path)
    assert torch.equal(alone.images(), beside.images())


def test_imported_experts_serve_a_recipe_that_names_them(tmp_path):
    spec = data.spec(NAME)
    stream = generator(0, "trajectory")
    model = models.from_id("convnet1-w8", in_channels=1, image_size=8, num_classes=3)
    parameters = [parameter.detach() for parameter in model.parameters()]
    trajectory = [
        [p + 0.1 * epoch * torch.randn(p.shape, generator=stream) for p in parameters]
        for epoch in range(4)
    ]
    torch.save([trajectory], tmp_path / "replay_buffer_0.pt")
    experts.import_mtt(
        [tmp_path / "replay_buffer_0.pt"],
        arch_id="convnet1-w8",
        spec=spec,
        preprocessing="standardise",
        name="theirs",
    )
    artefact = distillation.distill("tiny-mtt", NAME, 1, overrides={"experts.buffer": "theirs"})
    assert artefact.metadata["distillation"]["experts"]["name"] == "theirs"
    for overrides, phases in (
        ({}, {"experts", "distill", "evaluate"}),
        ({"experts.buffer": "theirs"}, {"distill", "evaluate"}),
    ):
        recipe = methods.resolve("tiny-mtt", NAME, 1, "smoke", overrides)
        cost = estimate(recipe, spec, 1, "convnet1-w8", protocols.get("common-2ep"), 1, 1)
        assert {work.phase for work in cost.work} == phases, "imported experts are not trained"
    with pytest.raises(ValueError, match="holds convnet1-w8 .* needs convnet1-w16"):
        distillation.distill(
            "tiny-mtt", NAME, 1, overrides={"experts.buffer": "theirs", "network.width": 16}
        )
    with pytest.raises(ValueError, match="with standardise, this recipe needs .* with zca"):
        distillation.distill(
            "tiny-mtt", NAME, 1, overrides={"experts.buffer": "theirs", "data.preprocessing": "zca"}
        )
    with pytest.raises(DataMissing, match="nobodys"):
        distillation.distill("tiny-mtt", NAME, 1, overrides={"experts.buffer": "nobodys"})


def test_overrides_change_the_recipe_and_its_hash():
    plain = distillation.distill("tiny-mtt", NAME, 1)
    shorter = distillation.distill("tiny-mtt", NAME, 1, overrides={"optimiser.iterations": 2})
    assert shorter.metadata["distillation"]["iterations"] == 2
    assert shorter.metadata["recipe_hash"] != plain.metadata["recipe_hash"]


@pytest.mark.parametrize("method", ["frepo", "dm"])
def test_images_that_a_network_cannot_take_are_refused_before_the_work(monkeypatch, method):
    monkeypatch.setattr(distillation, "preprocessing", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ValueError, match="depth 5 needs images of at least 28 px, got 16 px"):
        distillation.distill(method, "Digits16", 1, overrides={"network.depth": 5})


@pytest.mark.parametrize("method", ["mtt", "dm"])
def test_labels_that_nothing_would_learn_are_refused_before_the_work(monkeypatch, method):
    monkeypatch.setattr(distillation, "preprocessing", lambda *_: pytest.fail("work has begun"))
    overrides = {"parameterization.learned_labels": True, "optimiser.lr_labels": 0.1}
    with pytest.raises(ValueError, match="would leave learned labels as they start"):
        distillation.distill(method, "Digits16", 1, overrides=overrides)


@pytest.mark.parametrize("method", ["mtt", "dm", "rtp"])
def test_batch_norm_is_refused_before_the_work_where_steps_cannot_be_replayed(monkeypatch, method):
    monkeypatch.setattr(distillation, "preprocessing", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ValueError, match="takes no networks with batch norm.*replay.*network.norm"):
        distillation.distill(method, "Digits16", 1, overrides={"network.norm": "batch_norm"})


def test_a_network_of_the_users_own_distils_in_the_version_that_is_named(tmp_path):
    """Experts and student are of it; the recipe says which version, how deep and how wide."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "def Net(in_channels, image_size, num_classes, depth, width):\n"
        "    first = nn.Conv2d(in_channels, width, 3, 4, 1)\n"
        "    last = nn.Linear(width * (image_size // 4) ** 2, num_classes)\n"
        "    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), last)\n"
    )
    name = own.with_digest(f"{path}:Net")
    with pytest.raises(ValueError, match=f"name it with the digest of its source, {name}"):
        distillation.distill("tiny-mtt", NAME, 4, overrides={"network.name": f"{path}:Net"})
    recipe = methods.resolve("tiny-mtt", NAME, 4, "smoke", {"network.name": name})
    assert recipe.values["network"] == {"name": name, "depth": 1, "width": 8}
    assert experts.student_arch(recipe, data.spec(NAME)) == f"{name}-d1-w8"
    plain = methods.resolve("mtt", "Digits16", 1, "smoke", {"network.name": name})
    width = plain.values["network"]["width"]
    assert experts.student_arch(plain, data.spec("Digits16")) == f"{name}-w{width}"
    artefact = distillation.distill("tiny-mtt", NAME, 4, overrides={"network.name": name})
    assert artefact.metadata["distillation"]["images_moved"] > 1e-3
    (buffer,) = experts.list_buffers(experts.default_root())
    assert buffer["arch"] == f"{name}-d1-w8"
    path.write_text(path.read_text() + "# another version\n")
    with pytest.raises(ValueError, match="has changed: its source is version"):
        distillation.distill("tiny-mtt", NAME, 4, overrides={"network.name": name})


def test_a_misspelt_setting_is_named():
    with pytest.raises(ValueError, match="syn_step"):
        distillation.distill("tiny-mtt", NAME, 1, overrides={"objective.syn_step": 2})
    with pytest.raises(ValueError, match="unknown key `experts.epoch`"):
        distillation.distill("tiny-mtt", NAME, 1, overrides={"experts.epoch": 2})
    with pytest.raises(ValueError, match="coreset; there is nothing to distil|kind coreset"):
        distillation.distill("random", NAME, 1)
