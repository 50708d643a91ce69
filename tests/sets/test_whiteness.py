"""Sets that are whitened and said not to be, or the other way round, are noticed alone."""

import pytest
import torch

from nsdbench import data
from nsdbench.sets.whiteness import contradiction

KINDS = ("standardise", "zca", "zca_relative")


@pytest.fixture(scope="module", params=["Digits16", "Digits32"])
def dataset(request):
    return data.load(request.param)


@pytest.fixture(scope="module")
def transforms(dataset):
    return {kind: data.preprocessing(kind, dataset) for kind in KINDS}


def draws(dataset, count):
    """Sets of one real image a class."""
    stream = torch.Generator().manual_seed(1)
    for _ in range(count):
        rows = [
            of_class[torch.randint(len(of_class), (), generator=stream)]
            for of_class in map(torch.nonzero, dataset.train.labels == torch.arange(10)[:, None])
        ]
        yield dataset.train.images[torch.cat(rows)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_preprocessing_is_noticed_and_no_right_one(dataset, transforms, kind):
    for images in draws(dataset, 4):
        inputs = transforms[kind].apply(images)
        for said, transform in transforms.items():
            text = contradiction(inputs, dataset, transform)
            is_wrong = (kind == "standardise") != (said == "standardise")
            assert bool(text) == is_wrong, (kind, said, text)
            if is_wrong:
                assert f"{said} is assumed" in text and "--preprocessing" in text


@pytest.mark.parametrize("kind", sorted({*data.KINDS} - {*KINDS}))
def test_nothing_is_said_of_other_kinds_that_are_right(dataset, kind):
    transform = data.preprocessing(kind, dataset)
    assert all(
        not contradiction(transform.apply(images), dataset, transform)
        for images in draws(dataset, 2)
    )


def test_nothing_is_said_of_noise(dataset, transforms):
    for scale in (0.1, 1.0, 10.0):
        for transform in transforms.values():
            noise = scale * torch.randn(10, *dataset.image_shape)
            assert not contradiction(noise, dataset, transform)
    assert not contradiction(torch.zeros(10, *dataset.image_shape), dataset, transform)


def test_images_that_cannot_tell_are_left_alone():
    """Noise of 8 x 8 pixels is as coarse as whitened digits of that size."""
    for name in ("synthetic:3x1x4x4@30+4", "Digits"):
        small = data.load(name)
        transform = data.preprocessing("standardise", small)
        images = data.preprocessing("zca", small).apply(small.train.images[:30])
        assert not contradiction(images, small, transform)
