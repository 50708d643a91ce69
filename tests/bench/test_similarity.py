"""Figure 4: similarities against loops over slices, what is kept of them, and who may be seen."""

import json
import math

import numpy as np
import pytest
import torch

from nsdbench import data
from nsdbench.bench import figures, similarity, tables
from nsdbench.bench.run import Outcome
from nsdbench.bench.tables import Similarity
from nsdbench.experts import Run

NAME = "synthetic:3x2x4x6@12+2"


def images(dataset: str, label: int, number: int) -> Similarity:
    return Similarity(dataset=dataset, label=label, num_images=number)


WANTED = images(NAME, 1, 5)


def slice_of(images, dimension, i):
    """Collect the values of one slice in plain lists."""
    batch, channels, height, width = images.shape
    return [
        float(images[b, c, h, w])
        for b in range(batch)
        for c in range(channels)
        for h in range(height)
        for w in range(width)
        if (b, c, h, w)[dimension] == i
    ]


def cosine(a, b):
    product = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return product / lengths if lengths else 0.0


@pytest.mark.parametrize(("dimension", "length"), [(0, 5), (2, 4), (3, 6)])
def test_similarities_are_cosines_of_slices(dimension, length):
    images = data.load(NAME).train.images[:5].clone()
    images[:, :, 2] = 0  # a black row
    found = similarity.cosine_similarity(images, dimension)
    assert found.dtype == torch.float64 and found.shape == (length, length)
    for i in range(length):
        for j in range(length):
            expected = cosine(slice_of(images, dimension, i), slice_of(images, dimension, j))
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-12)
    if dimension == 2:
        assert (found[2] == 0).all()
    assert len({round(float(x), 6) for x in found.flatten()}) > length


def test_what_is_kept_can_be_recomputed_from_training_images_of_the_class(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the test split was read")

    monkeypatch.setattr(data.Dataset, "test", property(refuse))
    path = tmp_path / "figure.npz"
    similarity.compute(WANTED, path)
    train = data.load(NAME).train
    own = {row.numpy().tobytes() for row in train.images[train.labels == 1]}
    drawn = similarity._draw(WANTED, data.load(NAME))
    seen = {row.numpy().tobytes() for row in drawn}
    assert len(seen) == 5 and seen <= own
    with np.load(path) as arrays:
        about = json.loads(str(arrays["about"]))
        for name, dimension in (("batch", 0), ("height", 2), ("width", 3)):
            expected = similarity.cosine_similarity(drawn, dimension).numpy()
            np.testing.assert_allclose(arrays[name], expected, atol=5e-4)
    assert about["checksum"] == data.load(NAME).checksum
    assert (about["dataset"], about["label"], about["num_images"]) == (NAME, 1, 5)


def test_done_means_these_images(tmp_path):
    path = tmp_path / "figure.npz"
    assert not figures.is_computed(WANTED, path)
    path.write_bytes(b"PK damaged")
    assert not figures.is_computed(WANTED, path)
    similarity.compute(WANTED, path)
    assert figures.is_computed(WANTED, path)
    for other in (images(NAME, 2, 5), images(NAME, 1, 4), images("Digits", 1, 5)):
        assert not figures.is_computed(other, path)


@pytest.mark.parametrize(("label", "number"), [(1, 13), (3, 1)])
def test_images_that_are_not_there_are_refused(tmp_path, label, number):
    with pytest.raises(ValueError, match=f"^{number} images of class {label} were asked for; syn"):
        similarity.compute(images(NAME, label, number), tmp_path / "figure.npz")


def test_a_run_computes_what_is_left_and_names_what_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    monkeypatch.delenv("NSDBENCH_DATA", raising=False)
    for name, wanted in (("here", WANTED), ("away", images("CIFAR10", 0, 10))):
        (tmp_path / f"{name}.toml").write_text(
            f'name = "{name}"\ntitle = "t"\nsource = "s"\nrows = []\n[scales.smoke]\nsimilarity = '
            f'{{ dataset = "{wanted.dataset}", label = {wanted.label}, num_images = '
            f"{wanted.num_images} }}\n"
        )
    chosen = tables.choose(["here", "away", "table1"], "smoke")
    planned = figures.plan_figures(chosen, "smoke", tmp_path / "results")
    assert [str(figure).rpartition(": ")[::2] for figure in planned] == [
        (f"here: similarity of 5 training images of class 1 of {NAME}", "todo"),
        ("away: similarity of 10 training images of class 0 of CIFAR10", "todo"),
    ]
    outcome = Outcome()
    similarity.run_figures(planned, Run(tmp_path / "results"), outcome)
    assert outcome.done == ["here"] and outcome.exit_code == 3
    assert outcome.failed["away"].startswith("CIFAR10 is not on this machine")
    (done, left) = figures.plan_figures(chosen, "smoke", tmp_path / "results")
    assert (done.is_done, left.is_done) == (True, False)
    assert done.path == tmp_path / "results" / "figures" / "smoke" / "here.npz"


@pytest.mark.parametrize("scale", tables.SCALES)
def test_figure_4_compares_images_of_one_class_everywhere(scale):
    wanted = tables.load("figure4").settings(scale).similarity
    spec = data.spec(wanted.dataset)
    assert wanted.label < spec.num_classes
    assert wanted.num_images <= spec.train_size // spec.num_classes
    if scale == "paper":  # sec. 4.6: 1,000 airplanes of CIFAR10, which are its class 0
        assert wanted == images("CIFAR10", 0, 1000)
