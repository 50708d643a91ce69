"""Expert recording against a plain training loop, under kills and rivals."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace

import pytest
import torch
from torch.nn import functional as F

from nsdbench import data, experts, methods, models
from nsdbench.errors import Diverged, TestSplitSealed
from nsdbench.experts import buffer, buffer_manifest, recording
from nsdbench.seeding import generator
from nsdbench.student import augment
from tests.experts.recorded import ARCH, DATASET, RECIPE, Killed, content, record


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.01)])
def test_snapshots_are_those_of_a_plain_loop(dataset, tmp_path, momentum, weight_decay):
    recipe = replace(RECIPE, momentum=momentum, weight_decay=weight_decay)
    found = record(tmp_path, dataset, recipe, seed=5)
    inputs = data.preprocessing("standardise", dataset).apply(dataset.train.images)
    labels = dataset.train.labels
    for expert in range(2):
        model = models.from_id(ARCH, in_channels=1, image_size=8, num_classes=3)
        models.initialize(model, generator(5, "experts", expert, "initialize"))
        assert torch.equal(found.snapshot(expert, 0), models.flatten(model))
        velocity = {}
        for epoch in range(3):
            stream = generator(5, "experts", expert, "epoch", epoch)
            order = torch.randperm(30, generator=stream)
            for rows in (order[:8], order[8:16], order[16:24], order[24:]):
                draw = augment.sample(recipe.dsa_strategy, len(rows), (1, 8, 8), stream)
                logits = model(augment.apply(inputs[rows], draw))
                loss = F.cross_entropy(logits, labels[rows])
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                with torch.no_grad():
                    for n, (p, g) in enumerate(zip(model.parameters(), gradients, strict=True)):
                        velocity[n] = momentum * velocity.get(n, 0) + g + weight_decay * p
                        p -= recipe.lr * velocity[n]
            torch.testing.assert_close(found.snapshot(expert, epoch + 1), models.flatten(model))
    assert not torch.equal(found.snapshot(0, 0), found.snapshot(1, 0))


@pytest.mark.parametrize("prepared_bytes", [recording.PREPARED_BYTES, 0])
def test_batches_are_standardised_before_augmentation(
    dataset, tmp_path, monkeypatch, prepared_bytes
):
    """HaBa's experts: less the batch's mean, over its sample standard deviation, in tests too."""
    monkeypatch.setattr(recording, "PREPARED_BYTES", prepared_bytes)
    recipe = replace(RECIPE, num_experts=1, epochs=1, standardises_batches=True)
    found = record(tmp_path, dataset, recipe)
    inputs = data.preprocessing("standardise", dataset).apply(dataset.train.images)
    labels = dataset.train.labels
    model = models.from_id(ARCH, in_channels=1, image_size=8, num_classes=3)
    models.load_flat(model, found.snapshot(0, 0))
    stream = generator(0, "experts", 0, "epoch", 0)
    order = torch.randperm(30, generator=stream)
    for rows in order.split(8):
        x = (inputs[rows] - inputs[rows].mean()) / inputs[rows].var(correction=1).sqrt()
        x = augment.apply(x, augment.sample(recipe.dsa_strategy, len(x), (1, 8, 8), stream))
        loss = F.cross_entropy(model(x), labels[rows])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= recipe.lr * gradient
    torch.testing.assert_close(found.snapshot(0, 1), models.flatten(model))
    correct = 0
    for rows in torch.randperm(30, generator=generator(0, "experts", "measure")).split(8):
        x = (inputs[rows] - inputs[rows].mean()) / inputs[rows].std()
        correct += int((model(x).argmax(1) == labels[rows]).sum())
    expected = pytest.approx(100 * correct / 30)
    assert found.manifest["experts"][0]["final_train_accuracy"] == expected


def test_nesterov_and_milestones_are_those_of_a_plain_loop(dataset, tmp_path):
    """v = 0.9 v + g, p -= lr (g + 0.9 v); the rate drops by 0.2 after the first and second epoch.

    A recording that is interrupted after the first epoch ends at the same parameters.
    """
    recipe = replace(
        RECIPE, num_experts=1, momentum=0.9, nesterov=True, lr_milestones=(1, 2), lr_factor=0.2
    )
    found = record(tmp_path / "whole", dataset, recipe)
    assert found.manifest["recipe"]["lr_milestones"] == [1, 2]
    assert content(record(tmp_path / "whole", dataset, recipe)) == content(found)
    inputs = data.preprocessing("standardise", dataset).apply(dataset.train.images)
    labels = dataset.train.labels
    model = models.from_id(ARCH, in_channels=1, image_size=8, num_classes=3)
    models.load_flat(model, found.snapshot(0, 0))
    velocity = {}
    for epoch, lr in enumerate((0.05, 0.01, 0.002)):
        stream = generator(0, "experts", 0, "epoch", epoch)
        for rows in torch.randperm(30, generator=stream).split(8):
            draw = augment.sample(recipe.dsa_strategy, len(rows), (1, 8, 8), stream)
            loss = F.cross_entropy(model(augment.apply(inputs[rows], draw)), labels[rows])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for n, (p, g) in enumerate(zip(model.parameters(), gradients, strict=True)):
                    velocity[n] = 0.9 * velocity.get(n, 0) + g
                    p -= lr * (g + 0.9 * velocity[n])
        torch.testing.assert_close(found.snapshot(0, epoch + 1), models.flatten(model))

    def stop(phase, done, total, note=""):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "stopped", dataset, recipe, progress=stop)
    assert content(record(tmp_path / "stopped", dataset, recipe)) == content(found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nesterov": True}, "nesterov asks for momentum above 0, which is 0"),
        ({"lr_milestones": (2, 1), "lr_factor": 0.2}, r"lr_milestones are \[2, 1\]; .*ascending"),
        ({"lr_milestones": (0,), "lr_factor": 0.2}, r"lr_milestones are \[0\]"),
        ({"lr_milestones": (1,)}, r"lr_factor is 1.0 with lr_milestones \[1\]"),
        ({"lr_factor": 0.2}, r"lr_factor is 0.2 with lr_milestones \[\]"),
        ({"lr_milestones": (1,), "lr_factor": 0.0}, "lr_factor is 0.0"),
    ],
)
def test_schedules_that_cannot_be_kept(settings, message):
    with pytest.raises(ValueError, match=message):
        experts.ExpertRecipe(**settings)


def test_experts_of_fewer_epochs_are_the_first_part_of_those_of_more(dataset, tmp_path):
    """So that a recipe may leave out epochs that no start or target reaches."""
    short, long = (record(tmp_path, dataset, replace(RECIPE, epochs=n)) for n in (2, 4))
    for expert in range(2):
        for epoch in range(3):
            assert torch.equal(short.snapshot(expert, epoch), long.snapshot(expert, epoch))
    draws = [
        [
            (part.expert, part.start)
            for part in (
                found.sample(stream, max_start_epoch=1, expert_epochs=1) for _ in range(20)
            )
        ]
        for found, stream in ((x, torch.Generator().manual_seed(0)) for x in (short, long))
    ]
    assert draws[0] == draws[1]


def test_snapshots_are_copies_of_distinct_epochs(dataset, tmp_path):
    found = record(tmp_path, dataset)
    for expert in range(2):
        snapshots = [found.snapshot(expert, epoch) for epoch in range(4)]
        for epoch in range(3):
            assert (snapshots[epoch] - snapshots[epoch + 1]).abs().max() > 0
    first = found.snapshot(0, 0)
    first.zero_()
    assert found.snapshot(0, 0).abs().max() > 0


def test_snapshots_of_batch_norm_are_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="convnet1-w4-bn cannot be recorded.*running statistics"):
        record(tmp_path, dataset, arch="convnet1-w4-bn")
    assert not list(tmp_path.iterdir())


def test_a_recipe_may_name_a_network_of_fixed_depth():
    """Only a network whose depth can be chosen gets that of the data set."""
    spec = data.spec("Digits16")
    named = {"network.name": "lenet", "network.width": 6}
    recipe = methods.resolve("dm", "Digits16", 1, "smoke", named)
    assert experts.student_arch(recipe, spec) == "lenet"
    recipe = methods.resolve("dm", "Digits16", 1, "smoke", {"network.width": 8})
    assert experts.student_arch(recipe, spec) == "convnet2-w8"


def test_defaults_are_those_of_mtt():
    recipe = experts.ExpertRecipe()
    assert (recipe.num_experts, recipe.epochs, recipe.batch_size) == (100, 50, 256)
    assert (recipe.lr, recipe.momentum, recipe.weight_decay) == (0.01, 0.0, 0.0)
    assert recipe.dsa_strategy == "color_crop_cutout_flip_scale_rotate"


def test_experts_learn_and_the_manifest_says_how(tmp_path):
    dataset = data.load("synthetic:3x1x8x8@100+2")
    found = record(tmp_path, dataset, replace(RECIPE, epochs=6))
    manifest = found.manifest
    assert manifest["complete"] and manifest["dataset_checksum"] == dataset.checksum
    assert (manifest["arch"], manifest["seed"]) == (ARCH, 0)
    assert manifest["recipe_hash"] == replace(RECIPE, epochs=6).hash
    for entry in manifest["experts"]:
        assert len(entry["loss"]) == len(entry["accuracy"]) == entry["epochs_done"] == 6
        assert entry["loss"][-1] < entry["loss"][0]
        assert entry["final_train_accuracy"] > 60  # chance is 33
    model = models.from_id(ARCH, in_channels=1, image_size=8, num_classes=3)
    models.load_flat(model, found.snapshot(1, 6))
    inputs = data.preprocessing("standardise", dataset).apply(dataset.train.images)
    right = (model(inputs).argmax(dim=1) == dataset.train.labels).sum()
    expected = 100 * int(right) / 300  # of all 300 images, fewer than MEASURED_IMAGES
    assert manifest["experts"][1]["final_train_accuracy"] == pytest.approx(expected)


def test_test_split_stays_shut(dataset, tmp_path):
    def open_test():
        raise AssertionError("the test split was opened")

    guarded = data.Dataset(dataset.spec, dataset.train, open_test)
    seen = []

    class Watching:
        kind, hash = "standardise", "watched"

        def apply(self, images):
            seen.append(len(images))
            return images.float() / 255

    experts.record(guarded, Watching(), ARCH, RECIPE, seed=0, root=tmp_path)
    assert sum(seen) == 30
    with pytest.raises(TestSplitSealed):
        guarded.without_test().test  # noqa: B018


def test_a_second_call_opens_what_is_there(dataset, tmp_path):
    calls = []
    first = record(tmp_path, dataset, progress=lambda *done: calls.append(done))
    assert calls == [("experts", n, 6) for n in range(1, 7)]
    before = content(first)
    calls.clear()
    second = record(tmp_path, dataset, progress=lambda *done: calls.append(done))
    assert not calls and second.path == first.path and content(second) == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"arch": "convnet1-w8"},
        {"recipe": replace(RECIPE, lr=0.02)},
        {"recipe": replace(RECIPE, dsa_strategy="flip")},
    ],
)
def test_what_differs_is_kept_apart(dataset, tmp_path, change):
    assert record(tmp_path, dataset).path != record(tmp_path, dataset, **change).path


def test_training_data_and_preprocessing_are_part_of_the_key(dataset, tmp_path):
    path = record(tmp_path, dataset).path
    holdout = dataset.holdout(6)
    assert record(tmp_path, holdout).path != path
    whitening = data.preprocessing("zca", dataset)
    found = experts.record(dataset, whitening, ARCH, RECIPE, seed=0, root=tmp_path)
    assert found.path != path


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("point", ["create", "manifest", "snapshot", "progress"])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_resumed_is_bit_identical(dataset, tmp_path, monkeypatch, point, after, momentum):
    """Recording is cut off at every kind of write, after several counts of it, and run again."""
    recipe = replace(RECIPE, momentum=momentum)
    undisturbed = record(tmp_path / "whole", dataset, recipe)
    count = 0

    def die(function):
        def dying(*arguments):
            nonlocal count
            count += 1
            if count > after:
                raise Killed
            return function(*arguments)

        return dying

    with monkeypatch.context() as patch:
        names = {
            "create": "create_arrays",
            "manifest": "write_manifest",
            "snapshot": "write_snapshot",
        }
        progress = experts.silent
        if point == "progress":
            progress = die(lambda *done: None)
        else:
            patch.setattr(recording, names[point], die(getattr(recording, names[point])))
        if point == "create":
            count = after  # it is called once: die there
        with pytest.raises(Killed):
            record(tmp_path / "cut", dataset, recipe, progress=progress)
    resumed = record(tmp_path / "cut", dataset, recipe)
    assert content(resumed) == content(undisturbed)
    assert resumed.manifest == undisturbed.manifest


def test_resume_trusts_no_damaged_snapshot(dataset, tmp_path):
    """The last snapshot is overwritten with noise: the expert is trained again from its start."""
    undisturbed = record(tmp_path / "whole", dataset)

    def stop(phase, done, total):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        record(tmp_path / "cut", dataset, progress=stop)
    folder = next((tmp_path / "cut").iterdir())
    buffer.write_snapshot(folder, 0, 2, torch.randn(undisturbed.num_parameters))
    assert content(record(tmp_path / "cut", dataset)) == content(undisturbed)


RECORD = f"""
import sys, warnings
from nsdbench import data, experts
dataset = data.load("{DATASET}")
recipe = experts.ExpertRecipe(num_experts=4, epochs=10, batch_size=8, lr=0.05)
preprocessing = data.preprocessing("standardise", dataset)

def progress(phase, done, total):
    print(phase, done, flush=True)
    sys.stdin.readline()  # may it go on? nobody asks where there is no input

experts.record(
    dataset, preprocessing, "{ARCH}", recipe, seed=0, root=sys.argv[1],
    run=experts.Run(progress=progress),
)
"""


def start_recording(root, stdin=subprocess.DEVNULL):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RECORD, str(root)]
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.campaign
@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    """Every attempt may do eleven of the 40 epochs, so that none ends before it is killed."""
    undisturbed = start_recording(tmp_path / "whole")
    assert undisturbed.communicate()[0].splitlines()[-1] == "experts 40"
    assert undisturbed.returncode == 0
    moments = torch.rand(3, generator=torch.Generator().manual_seed(0)).tolist()
    for moment in moments:
        with start_recording(tmp_path / "killed", subprocess.PIPE) as process:
            process.stdout.readline()  # the first epoch of this attempt is done
            process.stdin.write("\n" * 10)
            process.stdin.flush()
            time.sleep(0.05 * moment)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    last = start_recording(tmp_path / "killed")
    last.communicate()
    assert last.returncode == 0
    whole, killed = (next((tmp_path / name).iterdir()) for name in ("whole", "killed"))
    for name in (buffer.TRAJECTORIES, buffer_manifest.MANIFEST):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


@pytest.mark.slow
def test_two_processes_share_one_recording(tmp_path):
    """The second waits; together they report each epoch once and leave one good buffer."""
    processes = [start_recording(tmp_path) for _ in range(2)]
    reports = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    epochs = [line for report in reports for line in report if "waiting" not in line]
    assert sorted(epochs) == sorted(f"experts {n}" for n in range(1, 41))
    found = experts.ExpertBuffer(next(tmp_path.iterdir()))
    found.verify()


def test_waiting_is_reported(dataset, tmp_path):
    path = record(tmp_path, dataset).path
    manifest = buffer_manifest.read_manifest(path)
    buffer_manifest.write_manifest(path, {**manifest, "complete": False})
    lines, is_waiting = [], threading.Event()

    def progress(*line):
        lines.append(line)
        is_waiting.set()

    rival = recording.FileLock(path / ".lock")
    rival.acquire()
    waiting = threading.Thread(target=lambda: record(tmp_path, dataset, progress=progress))
    waiting.start()
    assert is_waiting.wait(timeout=60)
    buffer_manifest.write_manifest(path, manifest)
    rival.release()
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    assert lines == [("experts (waiting for another process)", 0, 6)]


def test_divergence_stops_with_a_reason(dataset, tmp_path):
    with pytest.raises(Diverged, match="expert 0 of .*: the training loss of .* at lr 1e\\+38"):
        record(tmp_path, dataset, replace(RECIPE, lr=1e38))


def test_large_training_sets_are_prepared_by_batch(dataset, tmp_path, monkeypatch):
    whole = record(tmp_path / "whole", dataset)
    monkeypatch.setattr(recording, "PREPARED_BYTES", 0)
    assert content(record(tmp_path / "batches", dataset)) == content(whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recording_on_cuda(dataset, tmp_path):
    """Starts are bit-identical to the CPU's, and training goes the same way."""
    on_cpu = record(tmp_path / "cpu", dataset)
    on_cuda = record(tmp_path / "cuda", dataset, device="cuda")
    for expert in range(2):
        assert torch.equal(on_cpu.snapshot(expert, 0), on_cuda.snapshot(expert, 0))
        torch.testing.assert_close(
            on_cpu.snapshot(expert, 3), on_cuda.snapshot(expert, 3), rtol=1e-2, atol=1e-2
        )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_experts", 0),
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("dsa_strategy", "zoom"),
    ],
)
def test_recipes_out_of_range(setting, value):
    with pytest.raises(ValueError, match=f"{setting}|'zoom'"):
        experts.ExpertRecipe(**{setting: value})


def test_recipe_hash_tells_every_setting():
    changed = {
        "num_experts": 1,
        "epochs": 1,
        "lr": 0.5,
        "momentum": 0.5,
        "weight_decay": 0.5,
        "batch_size": 1,
        "dsa_strategy": "flip",
        "optimiser": "gsam",
        "keeps_correctness": True,
        "standardises_batches": True,
    }
    gsam = replace(RECIPE, optimiser="gsam")
    recipes = [replace(RECIPE, **{name: value}) for name, value in changed.items()]
    recipes += [RECIPE, replace(gsam, rho=0.5), replace(gsam, alpha=0.5)]
    recipes.append(replace(RECIPE, momentum=0.5, nesterov=True))
    for schedule in (((1,), 0.5), ((2,), 0.5), ((1,), 0.2)):
        recipes.append(replace(RECIPE, lr_milestones=schedule[0], lr_factor=schedule[1]))
    assert {name for recipe in recipes for name in recipe.settings()} == {
        field.name for field in fields(RECIPE)
    }
    assert len({recipe.hash for recipe in recipes}) == len(recipes)
    assert replace(RECIPE).hash == RECIPE.hash
