"""The pictures kept with a record: which images, and that nothing of them is clipped."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nsdbench import data
from nsdbench.bench.pictures import save_pictures
from nsdbench.sets import Artefact


def kept(tmp_path, pictures, labels):
    """Keep pictures [n, 1, 16, 16] of a set of Digits16; returns the arrays of the file."""
    digits = data.load("Digits16")
    transform = data.preprocessing("standardise", digits)
    inputs = transform.apply(pictures)
    stored = SimpleNamespace(
        decode=lambda generator=None: (inputs, labels), labels=labels, soft_labels=None
    )
    metadata = {"preprocessing": transform.kind, "preprocessing_hash": transform.hash}
    save_pictures(Artefact(stored, metadata), digits, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        return dict(file)


def test_images_are_spread_over_all_of_a_class(tmp_path):
    """Two kernel sets of 24 images: five of each are kept, where the first ten were of one."""
    number = torch.arange(480)
    labels = number // 48  # as NSD's: class, kernel set, image
    kernel_set = number % 48 // 24
    pictures = (kernel_set * 0.5 + 0.25).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    arrays = kept(tmp_path, pictures, labels)
    assert np.bincount(arrays["labels"]).tolist() == [10] * 10
    seen = arrays["images"][:, 0, 0, 0].reshape(10, 10)
    assert [sorted(row.tolist()) for row in seen] == [[64] * 5 + [191] * 5] * 10


def test_fewer_images_than_are_kept_are_all_kept_in_order(tmp_path):
    labels = torch.tensor([3, 0, 3, 3])
    pictures = torch.linspace(0, 1, 4).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    arrays = kept(tmp_path, pictures, labels)
    assert arrays["labels"].tolist() == [0, 3, 3, 3]
    assert arrays["images"][:, 0, 0, 0].tolist() == [85, 0, 170, 255]


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.9), (-1.0, 3.0), (0.5, 2.0), (-0.25, 0.75)])
def test_an_image_beyond_black_or_white_has_its_own_contrast(tmp_path, low, high):
    ramp = torch.linspace(low, high, 256).view(1, 1, 16, 16)
    arrays = kept(tmp_path, torch.cat((ramp, ramp * 0 + 0.5)), torch.tensor([0, 1]))
    ends = arrays["range"][0]
    assert ends == pytest.approx([min(low, 0), max(high, 1)], abs=1e-5)
    values = arrays["images"][0] / 255 * (ends[1] - ends[0]) + ends[0]
    assert np.abs(values - ramp[0].numpy()).max() <= (ends[1] - ends[0]) / 255 * 0.51
    assert arrays["range"][1].tolist() == [0, 1] and set(arrays["images"][1].flat) == {128}
