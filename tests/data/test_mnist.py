"""MNIST: FashionMNIST's format; the two are told apart by their content."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from nsdbench import data
from nsdbench.data import catalog
from nsdbench.data.readers import fashion_mnist, mnist
from nsdbench.errors import DataCorrupt

from . import test_fashion_mnist as format_test

SPEC = replace(data.spec("MNIST"), image_shape=(1, 3, 2), train_size=12, test_size=5)


@pytest.mark.parametrize("is_compressed", [True, False])
def test_reads_what_was_written(tmp_path, is_compressed):
    arrays = format_test.write(tmp_path, is_compressed=is_compressed)
    for part, (images, labels) in fashion_mnist.FILES.items():
        split = mnist.read(tmp_path, SPEC, part, checksums={})
        assert np.array_equal(split.images.numpy(), arrays[images][:, None])
        assert np.array_equal(split.labels.numpy(), arrays[labels])


def test_files_of_another_data_set_are_refused(tmp_path):
    format_test.write(tmp_path)
    with pytest.raises(DataCorrupt, match="not that of the published file .* FashionMNIST have"):
        mnist.read(tmp_path, SPEC, "train")


def test_damage_is_said(tmp_path):
    format_test.write(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-1]))
    with pytest.raises(DataCorrupt, match="expected 88 bytes .* got 87"):
        mnist.read(tmp_path, SPEC, "train")


def test_its_folder_is_not_that_of_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NSDBENCH_DATA", raising=False)
    (tmp_path / "FashionMNIST").mkdir()
    format_test.write(tmp_path / "FashionMNIST")
    format_test.write(tmp_path)
    assert data.locate("MNIST", tmp_path) is None
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    format_test.write(raw, is_compressed=False)
    assert data.locate("MNIST", tmp_path) == raw


def test_what_is_published():
    spec, source = catalog.DATASETS["MNIST"]
    assert (spec.dsa_strategy, spec.mean, spec.std) == (
        "color_crop_cutout_scale_rotate", (0.1307,), (0.3081,),
    )  # fmt: skip
    assert mnist.CONTENT_SHA256.keys() == fashion_mnist.CONTENT_SHA256.keys()
    assert not set(mnist.CONTENT_SHA256.values()) & set(fashion_mnist.CONTENT_SHA256.values())
    assert [file.name for file in source.downloads] == [f"{n}.gz" for n in mnist.CONTENT_SHA256]
