"""Artefacts: the file holds exactly what is counted, and comes back as it was."""

import json

import numpy
import pytest
import safetensors
import torch

from nsdbench import data
from nsdbench.errors import DataCorrupt
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.foreign import load_tensors, read_set

SPEC = data.spec("Digits16")


def artefact(name="spectral"):
    module = parameterizations.build({"name": name}, SPEC, 2)
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter)
    return Artefact(module, {"method": "nsd", "learned": {"lr": 0.02}})


@pytest.mark.parametrize("name", ["pixels", "spectral"])
def test_round_trip(tmp_path, name):
    written = artefact(name)
    read = load_artefact(written.save(tmp_path / "deep" / "set.safetensors"))
    assert torch.equal(read.images(), written.images())
    assert torch.equal(read.labels(), written.labels())
    assert read.metadata == written.metadata
    assert not any(parameter.requires_grad for parameter in read.parameterization.parameters())
    images, labels = read.dataset().tensors
    assert torch.equal(images, written.images()) and torch.equal(labels, written.labels())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["set.safetensors"]


def test_the_file_stores_what_the_ledger_counts(tmp_path):
    """Bits of the tensors in the file, counted by another reader, equal the ledger's."""
    written = artefact()
    with safetensors.safe_open(written.save(tmp_path / "s.safetensors"), framework="np") as file:
        arrays = [numpy.asarray(file.get_tensor(name)) for name in file.keys()]  # noqa: SIM118
    assert sum(array.nbytes for array in arrays) * 8 == written.ledger().stored_bits


def test_missing_truncated_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_artefact(tmp_path / "nowhere.safetensors")
    path = artefact().save(tmp_path / "set.safetensors")
    (tmp_path / "short.safetensors").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataCorrupt, match="short.safetensors"):
        load_artefact(tmp_path / "short.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DataCorrupt, match="foreign.safetensors.*format is None"):
        load_artefact(tmp_path / "foreign.safetensors")


def test_reads_sets_of_other_projects(tmp_path):
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6)
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(labels, tmp_path / "labels_best.pt")
    torch.save((images, labels), tmp_path / "pair.pt")
    soft = labels.float()[:, None].expand(6, 4)
    torch.save({"images": images, "labels": soft}, tmp_path / "d.pt")
    for arguments in ([tmp_path / "images_best.pt", tmp_path / "labels_best.pt"],
                      [tmp_path / "pair.pt"]):  # fmt: skip
        read = load_tensors(*arguments)
        assert torch.equal(read.images, images) and torch.equal(read.labels, labels)
    assert load_tensors(tmp_path / "d.pt").labels.shape == (6, 4)
    with pytest.raises(DataCorrupt, match="images alone; the file of their labels is needed"):
        load_tensors(tmp_path / "images_best.pt")
    for name in ("pair.pt", "d.pt"):
        with pytest.raises(ValueError, match=f"{name} holds labels, .*which of the two"):
            read_set(tmp_path / name, tmp_path / "labels_best.pt")
    with pytest.raises(ValueError, match=r"set.safetensors holds labels, .*which of the two"):
        read_set(tmp_path / "set.safetensors", tmp_path / "labels_best.pt")


def test_what_is_no_file_of_tensors_is_one_line_and_runs_nothing(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    images, labels = torch.randn(2, 1, 4, 4), torch.arange(2)
    for name, content in {
        "harmful": Harmful(),
        "beside": (images, labels, Harmful()),
        "arrays": (images.numpy(), labels.numpy()),
        "dataset": torch.utils.data.TensorDataset(images, labels),
        "triple": (images, labels, torch.tensor(0.01)),
        "other": {"data": images, "targets": labels},
        "words": (images, "labels"),
        "nothing": None,
        "complex": (images, labels.to(torch.complex64)),
        "sparse": (images.to_sparse(), labels),
    }.items():
        torch.save(content, tmp_path / f"{name}.pt")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pt").write_text("images")
    artefact().save(tmp_path / "ours.safetensors").rename(tmp_path / "ours.pt")
    whole = (tmp_path / "triple.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tensors.safetensors").write_bytes(whole)
    numpy.savez(tmp_path / "arrays.npz", images=images, labels=labels)
    paths = sorted(path for path in tmp_path.iterdir())
    for path in paths:
        with pytest.raises(DataCorrupt) as caught:
            read_set(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and "\n" not in message and len(message) < 500
    assert len(paths) == 16 and not (tmp_path / "executed").exists()
    with pytest.raises(FileNotFoundError, match="a folder"):
        read_set(tmp_path)


def header_of(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "nsdbench-artefact-9", "format is"),
        ("parameterization", "5", "is 5; expected an object"),
        ("parameterization", "[1]", "expected an object"),
        ("parameterization", "{", "not valid JSON"),
        ("parameterization", "[" * 100_000, "not valid JSON"),
        ("parameterization", None, "is missing"),
        ("parameterization", "{}", "`name` of the parameterization is None"),
        ("parameterization", {"name": "spectrum"}, "did you mean spectral"),
        ("parameterization", {"name": ["spectral"]}, "expected text"),
        ("parameterization", {"num_spectra": 10**12}, "the file holds"),
        ("parameterization", {"num_spectra": "ten"}, "`num_spectra` is 'ten'"),
        ("parameterization", {"num_spectra": -10}, "at least 1"),
        ("parameterization", {"num_classes": 0}, "at least 1"),
        ("parameterization", {"num_kernel_sets": 2.5}, "`num_kernel_sets` is 2.5"),
        ("parameterization", {"t": [1, 1, 8]}, "parameterization 'spectral'"),
        ("parameterization", {"t": None}, "`t` is None"),
        ("parameterization", {"u": [10**12, 1, 16, 16]}, "the file holds"),
        ("parameterization", {"u": [4, 1, 10**9, 16]}, "at most 4096"),
        ("parameterization", {"learned": [1, 2, 3, 4]}, "parameterization 'spectral'"),
        ("parameterization", {"class_scheme": "rows"}, "`class_scheme` is 'rows'"),
        ("parameterization", {"init_scale": float("nan")}, "init_scale"),
        ("parameterization", {"shape": 3}, "unknown shape; known: name, num_classes"),
        ("metadata", "null", "expected an object"),
        ("metadata", "nonsense", "not valid JSON"),
        ("metadata", None, "is missing"),
        ("metadata", {"learned": {"lr": "fast"}}, "`learned.lr` is 'fast'"),
        ("metadata", {"learned": {"lr": -0.5}}, "`learned.lr` is -0.5"),
        ("metadata", {"learned": {"lr": float("inf")}}, "`learned.lr` is inf"),
        ("metadata", {"learned": [0.1]}, "`learned` is"),
        ("metadata", {"preprocessing": 3}, "`preprocessing` is 3"),
        ("metadata", {"commit": "abc"}, "`commit` is 'abc'"),
        ("metadata", {"cost": {"distill": "long"}}, "`cost.distill` is 'long'"),
    ],
)
def test_a_header_that_is_wrong_names_the_file(tmp_path, key, value, message):
    path = artefact().save(tmp_path / "set.safetensors")
    header, tensors = header_of(path)
    if isinstance(value, dict) and value:
        value = json.dumps(json.loads(header[key]) | value)
    header[key] = value
    header = {name: text for name, text in header.items() if text is not None}
    safetensors.torch.save_file(tensors, path, header)
    with pytest.raises(DataCorrupt) as caught:
        load_artefact(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text, text


def test_tensors_that_do_not_fit_name_the_file(tmp_path):
    path = artefact().save(tmp_path / "set.safetensors")
    header, tensors = header_of(path)
    spectra = tensors["spectra"]
    for changed in (
        {"spectra": spectra.view(torch.int32)},
        {"spectra": spectra.transpose(0, 1).contiguous()},
        {"spectra": spectra.flatten()},
        {"more": torch.zeros(1)},
        {"more": torch.zeros(0)},
    ):
        safetensors.torch.save_file(tensors | changed, path, header)
        with pytest.raises(DataCorrupt, match="set.safetensors: "):
            load_artefact(path)
