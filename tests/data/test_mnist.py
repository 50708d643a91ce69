"""MNIST: FashionMNIST's format; the two are told apart by their folders and their content."""

from nsdbench import data
from nsdbench.data import catalog
from nsdbench.data.readers import fashion_mnist, mnist

from . import test_idx as format_test


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
    assert mnist.PUBLISHED.keys() == fashion_mnist.PUBLISHED.keys()
    sums, others = (
        {file.sha256 for file in files.values()}
        for files in (mnist.PUBLISHED, fashion_mnist.PUBLISHED)
    )
    assert len(sums) == len(others) == 4 and not sums & others
    assert [file.name for file in source.downloads] == [f"{name}.gz" for name in mnist.PUBLISHED]
