"""Coresets: real images, balanced, distinct, drawn by the seed."""

import pytest
import torch

from nsdbench import coresets, data
from nsdbench.errors import TestSplitSealed

NAME = "synthetic:3x1x8x8"


def test_random_draws_distinct_real_training_images_per_class(tmp_path):
    dataset = data.load(NAME)
    artefact = coresets.select("random", dataset, 5, out=tmp_path / "set.safetensors")
    rows = torch.tensor(artefact.metadata["rows"])
    assert len(torch.unique(rows)) == 15
    transform = data.preprocessing("standardise", dataset)
    assert torch.equal(artefact.images(), transform.apply(dataset.train.images[rows]))
    assert torch.equal(artefact.labels(), dataset.train.labels[rows])
    assert artefact.labels().tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_seed_and_draw_name_the_set():
    rows = [
        coresets.select("random", NAME, 2, seed=seed, draw=draw).metadata["rows"]
        for seed, draw in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert rows[0] == rows[1]
    assert len({tuple(r) for r in rows}) == 3


def test_every_row_can_be_drawn():
    dataset = data.load(NAME).without_test()
    seen = set()
    for draw in range(300):
        seen.update(coresets.select("random", dataset, 3, draw=draw).metadata["rows"])
    assert len(seen) > 0.95 * min(len(dataset.train), 2700)


def test_asks_too_much_or_of_the_wrong_method():
    with pytest.raises(ValueError, match="class 0 has .* 100000 were asked for"):
        coresets.select("random", NAME, 100_000)
    with pytest.raises(ValueError, match="'mtt' is of kind distillation"):
        coresets.select("mtt", NAME, 1)


def test_selection_cannot_open_the_test_split(monkeypatch):
    opened = data.load(NAME)

    def peek(real, ipc, stream):
        return sealed.test

    sealed = opened.without_test()
    monkeypatch.setitem(coresets._SELECTIONS, "random", peek)
    with pytest.raises(TestSplitSealed):
        coresets.select("random", opened, 1)
