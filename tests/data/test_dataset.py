"""Splits, the sealed test split, hold-outs and checksums."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdbench import data
from nsdbench.data import Dataset, Split
from nsdbench.data.split import stratified_split
from nsdbench.errors import TestSplitSealed

SPEC = data.spec("synthetic:3x1x4x4@20+4")


def tiny(read_test=None) -> Dataset:
    train = data.load(SPEC.name).train
    return Dataset(SPEC, train, read_test or (lambda: train))


def test_split_refuses_floats_and_missing_labels():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"uint8 \[N, C, H, W\], got torch.float32"):
        Split(images.float(), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"int64 \[2\]"):
        Split(images, torch.zeros(3, dtype=torch.int64))


def test_test_split_is_read_once_and_only_when_used():
    calls = []

    def read() -> Split:
        calls.append("read")
        return data.load(SPEC.name).train

    dataset = tiny(read)
    assert dataset.checksum and len(dataset.train) == 60
    assert calls == []
    assert dataset.test is dataset.test
    assert calls == ["read"]


def test_sealed_dataset_never_reads_its_test_split():
    def read():
        raise AssertionError("the test split was read")

    sealed = tiny(read).without_test()
    assert sealed.train is not None and sealed.checksum == tiny().checksum
    with pytest.raises(TestSplitSealed, match="sealed"):
        sealed.test  # noqa: B018


def test_holdout_of_a_sealed_dataset_opens_the_holdout_only():
    held = tiny().without_test().holdout(9)
    assert len(held.test) == 9 and len(held.train) == 51
    assert held.test.labels.bincount().tolist() == [3, 3, 3]


def test_holdout_partitions_the_training_split():
    dataset = tiny()
    held = dataset.holdout(12, seed=5)
    assert (held.spec.train_size, held.spec.test_size) == (48, 12)
    both = torch.cat([held.train.images, held.test.images]).flatten(1).tolist()
    assert sorted(both) == sorted(dataset.train.images.flatten(1).tolist())


def test_holdout_is_deterministic_and_named():
    dataset = tiny()
    one, same, other = (dataset.holdout(12, seed) for seed in (1, 1, 2))
    assert one.checksum == same.checksum
    assert len({dataset.checksum, one.checksum, other.checksum}) == 3
    assert one.test.checksum == same.test.checksum != other.test.checksum
    assert one.name == f"{SPEC.name}-holdout12-seed1" != other.name


@pytest.mark.parametrize("size", [0, 60, -1])
def test_holdout_size_out_of_range(size):
    with pytest.raises(ValueError, match=rf"1..59 of 60 images, got {size}"):
        tiny().holdout(size)


def test_checksum_sees_every_pixel_label_and_shape():
    split = tiny().train
    pixels = split.images.clone()
    pixels[59, 0, 3, 3] ^= 1
    labels = split.labels.clone()
    labels[59] = (labels[59] + 1) % 3
    sums = {
        split.checksum,
        Split(pixels, split.labels).checksum,
        Split(split.images, labels).checksum,
        Split(split.images.reshape(60, 1, 2, 8), split.labels).checksum,
    }
    assert len(sums) == 4
    assert Split(split.images.clone(), split.labels.clone()).checksum == split.checksum


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.data())
def test_stratified_split_gives_every_class_its_share(classes, choose):
    labels = torch.tensor(classes)
    size = choose.draw(st.integers(1, len(classes) - 1))
    rest, chosen = stratified_split(labels, size, seed=0)
    assert len(chosen) == size
    assert sorted([*rest.tolist(), *chosen.tolist()]) == list(range(len(classes)))
    assert rest.tolist() == sorted(rest.tolist()) and chosen.tolist() == sorted(chosen.tolist())
    for c in set(classes):
        exact = size * classes.count(c) / len(classes)
        assert abs(int((labels[chosen] == c).sum()) - exact) < 1


def test_stratified_split_hands_the_remainder_to_the_largest_fraction():
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)  # shares of 5: 2.5, 1.5, 1.0
    _, chosen = stratified_split(labels, 5, seed=0)
    assert labels[chosen].bincount().tolist() == [3, 1, 1]
