"""All formats together: no file is taken for two, nothing in a file runs, damage is one line."""

import os
import pickle
import random
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from nsdbench.errors import DataCorrupt
from nsdbench.sets.formats.base import Asked
from nsdbench.sets.formats.opening import open_path
from nsdbench.sets.formats.registry import FORMATS


class Harmful:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


class Commanding(Harmful):
    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


@pytest.fixture
def files(tmp_path, images, labels):
    """One file of every format that is a file by itself."""
    torch.save((images, labels), tmp_path / "pair.pt")
    torch.save({"data": [[images, labels]], "accs": np.float64(0.5)}, tmp_path / "dc.pt")
    torch.save([images.sigmoid(), labels], tmp_path / "data.pt")
    torch.save([(images, labels, torch.tensor(0.1))], tmp_path / "results.pth")
    torch.save({"compressor": {"imgs.weight": torch.zeros(4, 192)}}, tmp_path / "rtp.pt")
    last = images.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "kip.npz", images=last, labels=np.eye(4)[labels] - 0.25)
    named = {"images": images, "labels": labels}
    safetensors.torch.save_file(named, tmp_path / "set.safetensors")
    return sorted(tmp_path.iterdir())


def test_no_file_is_taken_for_two(files, dataset):
    asked = Asked(dataset.spec)
    for path in files:
        opened = [open_path(path)]
        takers = []
        for form in FORMATS:
            try:
                if form.read(opened, asked) is not None:
                    takers.append(form.name)
            except ValueError:
                takers.append(form.name)  # IDC's asks for the factor
        assert takers == (["idc", "arrays"] if path.name == "data.pt" else takers[:1]), path
        assert takers


def test_nothing_in_a_file_runs(read, tmp_path, images, labels):
    mark = tmp_path / "executed"
    harmful = Harmful(mark)
    torch.save(harmful, tmp_path / "alone.pt")
    torch.save((images, labels, harmful), tmp_path / "beside.pt")
    torch.save({"data": [[images, labels]], "accs": harmful}, tmp_path / "dc.pt")
    torch.save([(images, labels, harmful)], tmp_path / "ssnl.pt")
    torch.save(np.array([harmful]), tmp_path / "array.pt")
    np.save(tmp_path / "array.npy", np.array([harmful]), allow_pickle=True)
    np.savez(tmp_path / "array.npz", images=np.array([harmful]), labels=labels.numpy())
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(harmful))
    (tmp_path / "old.pt").write_bytes(pickle.dumps(harmful, protocol=2))
    paths = [path.name for path in tmp_path.iterdir()]
    assert len(paths) == 9
    for name in paths:
        with pytest.raises(DataCorrupt, match=name) as caught:
            read(name)
        message = str(caught.value)
        assert "\n" not in message and "\x1b" not in message and len(message) < 400
    assert not mark.exists()
    pickle.loads((tmp_path / "plain.pkl").read_bytes()).close()
    assert mark.exists()  # it would have


def test_damage_is_one_line(files, read):
    """Cut or with bytes changed, a file is refused in one line, or what changed was a value."""
    source = random.Random(0)
    refused = 0
    for path in files:
        whole = path.read_bytes()
        for attempt in range(12):
            if attempt < 4:
                damaged = whole[: source.randrange(len(whole))]
            else:
                damaged = bytearray(whole)
                for _ in range(1 + attempt):
                    damaged[source.randrange(len(whole))] = source.randrange(256)
            path.write_bytes(damaged)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of numpy, about headers of other versions
                    read(path.name)
            except (DataCorrupt, ValueError) as error:
                refused += 1
                assert "\n" not in str(error) and str(path.parent) in str(error), error
    assert refused > 20


def test_what_is_no_set(read, tmp_path, images, labels):
    torch.save((images, labels, images), tmp_path / "triple.pt")
    torch.save({"data": images, "targets": labels}, tmp_path / "other.pt")
    torch.save(None, tmp_path / "nothing.pt")
    torch.save(torch.utils.data.TensorDataset(images, labels), tmp_path / "dataset.pt")
    safetensors.torch.save_file({"x": images}, tmp_path / "x.safetensors")
    np.savez(tmp_path / "empty.npz")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "empty.npy").touch()
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "text.pt").write_text("images")
    (tmp_path / "text.npz").write_text("images")
    (tmp_path / "text.npy").write_text("images")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("images.png", b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataCorrupt, match=path.name) as caught:
            read(path.name)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read("nowhere.pt")


def test_a_small_file_that_unpacks_to_much_is_refused(read, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", b"")
        archive.infolist()[0].file_size = 2**40
    with pytest.raises(DataCorrupt, match="bomb.npz: unpacks to 1099511627776 bytes; expected"):
        read("bomb.npz")


def test_what_is_no_pickle_is_called_so(tmp_path):
    path = tmp_path / "junk.pt"
    path.write_text("junk\n")
    with pytest.raises(DataCorrupt, match=r"junk.pt: torch cannot read it .*\(it is no pickle\)"):
        open_path(path)


def test_torchs_advice_to_trust_a_file_is_not_passed_on(read, tmp_path, images, labels):
    """Of modules that torch blocks it says to load the file without its checks."""
    torch.save((images, labels, Commanding(tmp_path / "executed")), tmp_path / "set.pt")
    (tmp_path / "new.pkl").write_bytes(pickle.dumps(Commanding(tmp_path / "executed")))
    torch.save((images, labels), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "end.pt").write_bytes(whole[:-1])
    for name, reason in (
        ("set.pt", "it asks for posix.system, which is not data"),
        ("new.pkl", "it is no pickle that torch.save writes"),
        ("cut.pt", "it is cut short or damaged"),
        ("end.pt", "it is cut short or damaged"),
    ):
        with pytest.raises(DataCorrupt, match=rf"{name}: torch cannot .* \({reason}\)") as caught:
            read(name)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
