"""results.pth of Wang et al.: a list of steps, the images once an epoch."""

import pytest
import torch

from nsdbench.errors import DataCorrupt


def steps(images, labels, rates):
    """Two steps of four images, for as many epochs as rates allow; rates still need gradients."""
    parts = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    return [
        (*parts[number % 2], torch.tensor([lr], requires_grad=True))
        for number, lr in enumerate(rates)
    ]


def test_images_count_once(read, tmp_path, images, labels):
    rates = [0.02, 0.01, 0.03, 0.02, 0.01, 0.01]
    torch.save(steps(images, labels, rates), tmp_path / "results.pth")
    reading = read("results.pth")
    (one,) = reading.sets
    assert reading.taken_for == "2 steps of dataset distillation (Wang et al.), 3 times each"
    assert torch.equal(one.images, images) and torch.equal(one.labels, labels)
    assert one.lr is None and "differ, from 0.01 to 0.03" in reading.notes[1]
    assert one.ledger().stored_bits == 8 * 3 * 8 * 8 * 32


def test_one_rate_is_the_learned_one(read, tmp_path, images, labels):
    torch.save(steps(images, labels, [0.02, 0.02]), tmp_path / "results.pth")
    reading = read("results.pth")
    assert reading.sets[0].lr == pytest.approx(0.02) and len(reading.notes) == 1
    torch.save([(images, labels, None)], tmp_path / "results.pth")
    assert read("results.pth").sets[0].lr is None


def test_what_is_wrong_is_one_line(read, tmp_path, images, labels):
    torch.save([(images, labels, -1.0)], tmp_path / "results.pth")
    with pytest.raises(DataCorrupt, match="results.pth: the learned rate is -1.0; expected"):
        read("results.pth")
    torch.save([(images, labels, 1.0), 7], tmp_path / "results.pth")
    with pytest.raises(DataCorrupt, match="results.pth: images are a tuple; expected a tensor"):
        read("results.pth")
    torch.save([(images, labels, 0.1), (images[..., :4], labels, 0.1)], tmp_path / "results.pth")
    with pytest.raises(DataCorrupt, match="parts of one set agree"):
        read("results.pth")
