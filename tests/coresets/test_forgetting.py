"""Forgetting: counts by hand, selection with ties, what training keeps, killed runs."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nsdbench import coresets, data, experts, models
from nsdbench.coresets import forgetting_scores, select_highest
from nsdbench.errors import DataCorrupt
from nsdbench.experts import buffer, recording
from nsdbench.seeding import generator
from nsdbench.student import augment

NAME = "synthetic:3x1x8x8@10+2"
ARCH = "convnet1-w4"
RECIPE = experts.ExpertRecipe(
    num_experts=2, epochs=4, batch_size=8, lr=0.05, keeps_correctness=True
)


def record(root, recipe=RECIPE, seed=0, **options):
    dataset = data.load(NAME)
    preprocessing = data.preprocessing("standardise", dataset)
    run = experts.Run(**options)
    return experts.record(dataset, preprocessing, ARCH, recipe, seed=seed, root=root, run=run)


def history(*runs):
    """Turn "0110 1011" (an image a word, an epoch a digit) into [runs, epochs, N]."""
    return torch.tensor(
        [[[digit == "1" for digit in image] for image in run.split()] for run in runs]
    ).transpose(1, 2)


@pytest.mark.parametrize(
    ("script", "scores"),
    [
        ("11111", 0),  # never forgotten
        ("00001", 0),  # learned at last: wrong before is not forgotten
        ("00110", 1),
        ("10000", 1),  # a wrong one that stays wrong is forgotten once
        ("10101", 2),
        ("01010", 2),
        ("00000", 5),  # never learned: as many as there are epochs
    ],
)
def test_scores_of_scripted_histories(script, scores):
    assert forgetting_scores(history(script)).tolist() == [scores]


def test_scores_of_runs_are_added_and_images_kept_apart():
    scores = forgetting_scores(history("1010 0000 1111", "1110 0101 1111", "0000 1000 0011"))
    assert scores.tolist() == [2 + 1 + 4, 4 + 1 + 1, 0]


def test_scores_agree_with_a_loop_over_random_histories():
    is_correct = torch.rand(3, 7, 40, generator=generator(0, "history")) < 0.4
    expected = [0] * 40
    for run in is_correct.tolist():
        for image in range(40):
            outcomes = [epoch[image] for epoch in run]
            if not any(outcomes):
                expected[image] += 7
            for before, now in zip(outcomes, outcomes[1:], strict=False):
                expected[image] += before and not now
    assert forgetting_scores(is_correct).tolist() == expected
    assert len(set(expected)) > 5


def test_the_highest_are_taken_in_order():
    scores = torch.tensor([3, 9, 0, 7, 5])
    assert select_highest(scores, 5, generator(0)).tolist() == [1, 3, 4, 0, 2]
    assert select_highest(scores, 2, generator(1)).tolist() == [1, 3]


def test_ties_are_broken_at_random_and_the_same_for_every_ipc():
    scores = torch.tensor([4, 1, 4, 1, 4, 1, 4])
    drawn = Counter()
    for seed in range(400):
        rows = select_highest(scores, 6, generator(seed, "ties")).tolist()
        assert sorted(rows[:4]) == [0, 2, 4, 6] and set(rows[4:]) < {1, 3, 5}
        for ipc in (1, 3, 5):
            assert select_highest(scores, ipc, generator(seed, "ties")).tolist() == rows[:ipc]
        drawn[rows[0]] += 1
    assert all(abs(drawn[row] - 100) < 5 * 75**0.5 for row in (0, 2, 4, 6))  # binomial


def test_a_class_that_is_too_small_is_named():
    for ipc in (0, 4):
        with pytest.raises(ValueError, match=f"ipc is {ipc}; a class of 3 images allows 1...3"):
            select_highest(torch.zeros(3), ipc, generator(0))


def test_correctness_is_that_before_the_update(tmp_path):
    """Train again by a plain loop and ask the network before every step."""
    found = record(tmp_path, replace(RECIPE, momentum=0.9), seed=5)
    kept = found.correctness()
    assert kept.shape == (2, 4, 30) and kept.dtype == torch.bool
    dataset = data.load(NAME)
    inputs = data.preprocessing("standardise", dataset).apply(dataset.train.images)
    labels = dataset.train.labels
    differing = 0
    for expert in range(2):
        model = models.from_id(ARCH, in_channels=1, image_size=8, num_classes=3)
        models.load_flat(model, found.snapshot(expert, 0))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for epoch in range(4):
            stream = generator(5, "experts", expert, "epoch", epoch)
            expected, after = [None] * 30, [None] * 30
            for rows in torch.randperm(30, generator=stream).split(8):
                draw = augment.sample(RECIPE.dsa_strategy, len(rows), (1, 8, 8), stream)
                x = augment.apply(inputs[rows], draw)
                logits = model(x)
                optimiser.zero_grad()
                F.cross_entropy(logits, labels[rows]).backward()
                optimiser.step()
                for row, before, now in zip(
                    rows.tolist(), logits.argmax(dim=1), model(x).argmax(dim=1), strict=True
                ):
                    expected[row] = bool(before == labels[row])
                    after[row] = bool(now == labels[row])
            assert kept[expert, epoch].tolist() == expected
            differing += expected != after
            share = 100 * sum(expected) / 30
            assert found.manifest["experts"][expert]["accuracy"][epoch] == pytest.approx(share)
    assert differing >= 4, "the epochs cannot tell before from after"


def test_keeping_correctness_changes_no_training(tmp_path):
    kept, plain = record(tmp_path), record(tmp_path, replace(RECIPE, keeps_correctness=False))
    assert kept.path != plain.path
    for expert in range(2):
        assert torch.equal(kept.snapshot(expert, 4), plain.snapshot(expert, 4))
    assert not (plain.path / buffer.CORRECTNESS).exists()
    with pytest.raises(ValueError, match="kept no record .* set experts.keeps_correctness = true"):
        plain.correctness()


class Killed(Exception):
    pass


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("point", ["write_correctness", "write_snapshot", "write_manifest"])
@pytest.mark.parametrize("after", [2, 6])
def test_a_killed_run_ends_with_the_same_counts(tmp_path, monkeypatch, point, after, momentum):
    recipe = replace(RECIPE, momentum=momentum)
    undisturbed = record(tmp_path / "whole", recipe)
    write, count = getattr(recording, point), 0

    def dying(*arguments):
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(recording, point, dying)
        with pytest.raises(Killed):
            record(tmp_path / "cut", recipe)
    resumed = record(tmp_path / "cut", recipe)
    assert torch.equal(resumed.correctness(), undisturbed.correctness())
    assert resumed.manifest == undisturbed.manifest


def test_a_lost_or_damaged_file_is_noticed(tmp_path):
    found = record(tmp_path)
    file = found.path / buffer.CORRECTNESS
    np.save(file, np.zeros((2, 4, 5), np.uint8))
    with pytest.raises(DataCorrupt, match=r"\[2, 4, 5\], its manifest says uint8 \[2, 4, 30\]"):
        experts.ExpertBuffer(found.path)
    file.unlink()
    with pytest.raises(DataCorrupt, match="correctness.npy cannot be read"):
        experts.ExpertBuffer(found.path)
    assert record(tmp_path).correctness().any(), "asked for again, it is trained again"


@pytest.fixture
def tiny_forgetting(tiny_methods):
    head = 'name = "tiny-forgetting"\ntitle = "tiny"\nextends = "forgetting"\n'
    block = (
        '[[settings]]\nsource = "test"\nnetwork = { width = 4, depth = 1 }\n'
        'experts = { num_experts = 2, epochs = 5, batch_size = 8, dsa_strategy = "flip" }\n'
    )
    (tiny_methods / "tiny-forgetting.toml").write_text(head + block)


def test_the_coreset_is_what_was_forgotten_most_in_every_class(tiny_forgetting):
    dataset = data.load(NAME)
    artefact = coresets.select("tiny-forgetting", dataset, 3)
    (entry,) = experts.list_buffers()
    scores = forgetting_scores(experts.ExpertBuffer(entry["path"]).correctness())
    rows = torch.tensor(artefact.metadata["rows"])
    assert torch.equal(dataset.train.labels[rows], torch.arange(3).repeat_interleave(3))
    for label in range(3):
        members = torch.nonzero(dataset.train.labels == label).flatten()
        taken = scores[rows[3 * label : 3 * label + 3]]
        assert taken.tolist() == scores[members].sort(descending=True).values[:3].tolist()
    assert len(set(rows.tolist())) == 9
    larger = coresets.select("tiny-forgetting", dataset, 5).metadata["rows"]
    assert [larger[i] for i in (0, 1, 2, 5, 6, 7, 10, 11, 12)] == rows.tolist()
    assert len(experts.list_buffers()) == 1


def test_another_seed_trains_other_networks(tiny_forgetting):
    rows = [coresets.select("tiny-forgetting", NAME, 3, seed=s).metadata["rows"] for s in (0, 1)]
    assert rows[0] != rows[1] and len(experts.list_buffers()) == 2


def test_experts_that_kept_nothing_are_refused(tiny_forgetting, tiny_methods):
    path = tiny_methods / "tiny-forgetting.toml"
    path.write_text(
        path.read_text() + '[[settings]]\nsource = "test"\n'
        "experts = { keeps_correctness = false }\n"
    )
    with pytest.raises(ValueError, match="kept no record"):
        coresets.select("tiny-forgetting", NAME, 3)
