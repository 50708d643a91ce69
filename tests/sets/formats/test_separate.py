"""Files as MTT's and DATM's code saves them: images, labels and the rate, a file each."""

import re

import numpy as np
import pytest
import torch

from nsdbench.errors import DataCorrupt


def save(folder, **files):
    for name, content in files.items():
        torch.save(content, folder / f"{name}.pt")


def test_mtt(read, tmp_path, images, labels):
    save(tmp_path, images_best=images, labels_best=labels)
    reading = read("images_best.pt", "labels_best.pt")
    (one,) = reading.sets
    assert reading.taken_for == "images and labels, as MTT's code saves them"
    assert torch.equal(one.images, images) and torch.equal(one.labels, labels)
    assert one.lr is None and one.origin == str(tmp_path / "images_best.pt")
    assert one.ledger().stored_bits == 8 * 3 * 8 * 8 * 32
    assert one.ledger().listed == ("hard labels implied by order",)


def test_datm(read, tmp_path, images):
    """Labels are logits, and count; the rate is a tensor without dimensions."""
    logits = torch.randn(8, 4)
    save(tmp_path, images_best=images, labels_best=logits, lr_best=torch.tensor(0.02))
    reading = read("images_best.pt", "labels_best.pt", "lr_best.pt")
    (one,) = reading.sets
    assert "DATM" in reading.taken_for and "logits" in reading.notes[0]
    assert one.meaning.labels_are == "logits" and one.lr == pytest.approx(0.02)
    assert [entry.kind for entry in one.entries] == ["coefficient", "label"]
    assert one.ledger().stored_bits == 32 * (8 * 3 * 8 * 8 + 8 * 4)
    assert one.ledger().listed == ("learned step size",)

    save(tmp_path, labels_best=logits.softmax(1))
    reading = read("lr_best.pt", "labels_best.pt", "images_best.pt")  # in any order
    assert reading.sets[0].meaning.labels_are is None and reading.notes == ()


def test_pictures_that_mtt_has_unwhitened(read, tmp_path, images, labels):
    save(tmp_path, images_zca_500=images.sigmoid(), labels_500=labels)
    reading = read("images_zca_500.pt", "labels_500.pt")
    meaning = reading.sets[0].meaning
    assert (meaning.preprocessing, meaning.pixels) == ("zca", "unit") and reading.notes


def test_arrays_and_parts(read, tmp_path, images, labels):
    for part in range(2):
        np.save(tmp_path / f"x{part}.npy", images[4 * part : 4 * part + 4].numpy())
        np.save(tmp_path / f"y{part}.npy", labels[4 * part : 4 * part + 4].numpy())
    reading = read("x0.npy", "x1.npy", "y0.npy", "y1.npy")
    (one,) = reading.sets
    assert reading.taken_for == "images and labels, in .npy files, in 2 parts"
    assert torch.equal(one.images, images) and torch.equal(one.labels, labels)
    assert one.ledger().stored_bits == 8 * 3 * 8 * 8 * 32


def test_what_is_wrong_is_one_line(read, tmp_path, images, labels):
    save(tmp_path, x=images, y=labels, short=labels[:3], lr=torch.tensor(0.1))
    save(tmp_path, lr_other=torch.tensor([0.2]), lr_nan=torch.tensor(float("nan")))
    save(tmp_path, wide=images[..., :4])
    for names, message in (
        (["x.pt"], "x.pt: holds images alone; the file of their labels is needed"),
        (["y.pt"], "y.pt: holds no images"),
        (["lr.pt"], "lr.pt: holds no images"),
        (["x.pt", "y.pt", "y.pt"], "x.pt: 1 file of images, 2 files of labels; expected one of"),
        (["x.pt", "short.pt"], "8 images but .*short.pt holds 3 labels"),
        (
            ["x.pt", "y.pt", "lr.pt", "lr_other.pt"],
            "lr_other.pt: the learned rate is 0.2",
        ),
        (["x.pt", "y.pt", "lr_nan.pt"], "lr_nan.pt: the learned rate is .*expected one positive"),
        (["x.pt", "y.pt", "wide.pt", "y.pt"], r"images are \[3, 8, 4\], in .* \[3, 8, 8\]; parts"),
    ):
        with pytest.raises(DataCorrupt, match=message) as caught:
            read(*names)
        assert "\n" not in str(caught.value)
        assert re.match(f"{tmp_path}/", str(caught.value))
