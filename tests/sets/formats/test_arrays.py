"""Images and labels by name or as a pair, FRePo's, KIP's and RFAD's among them."""

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from nsdbench.errors import DataCorrupt


@pytest.fixture
def centred(labels):
    return (F.one_hot(labels, 4) - 0.25).float()


def test_frepo(read, tmp_path, images, centred):
    """`image` [n, H, W, C] and `label`, learned."""
    learned = centred + 0.01 * torch.randn(8, 4)
    last = images.permute(0, 2, 3, 1)
    np.savez(tmp_path / "step500000.npz", image=last.numpy(), label=learned.numpy())
    reading = read("step500000.npz")
    (one,) = reading.sets
    assert reading.taken_for == "a set of FRePo, labels centred"
    assert torch.equal(one.images, images) and torch.equal(one.labels, learned)
    assert one.meaning.labels_are == "centred"
    assert [entry.kind for entry in one.entries] == ["coefficient", "label"]


def test_kip(read, tmp_path, images, centred):
    """`images` [n, H, W, C] and `labels`; not learned, labels say no more than classes."""
    last = images.permute(0, 2, 3, 1)
    np.savez(tmp_path / "ckpt1000.npz", images=last.numpy(), labels=centred.numpy())
    reading = read("ckpt1000.npz")
    (one,) = reading.sets
    assert reading.taken_for == "a set of KIP, labels centred"
    assert torch.equal(one.images, images) and one.meaning.labels_are == "centred"
    assert one.ledger().stored_bits == 8 * 3 * 8 * 8 * 32


def test_rfad(read, tmp_path, images, centred):
    """A program of torch: channels come first; `k` and `jit` beside."""
    np.savez(tmp_path / "best.npz", images=images.numpy(), labels=centred.numpy(),
             k=np.float32(1.0), jit=5e-3, valid_loss=0.1, best_iter=40)  # fmt: skip
    reading = read("best.npz")
    (one,) = reading.sets
    assert reading.taken_for == "a set of RFAD, labels centred"
    assert torch.equal(one.images, images) and one.meaning.labels_are == "centred"


def test_pairs_and_named_arrays(read, tmp_path, images, labels):
    named = {"images": images, "labels": labels}
    torch.save((images, labels), tmp_path / "pair.pt")
    torch.save(named, tmp_path / "named.pth")
    torch.save({**named, "lr": 0.03}, tmp_path / "rate.pt")
    torch.save([images.numpy(), labels.numpy()], tmp_path / "numpy.pt")
    safetensors.torch.save_file(named, tmp_path / "set.safetensors")
    np.savez_compressed(tmp_path / "set.npz", images=images.numpy(), labels=labels.numpy())
    for name in ("pair.pt", "named.pth", "rate.pt", "numpy.pt", "set.safetensors", "set.npz"):
        reading = read(name)
        (one,) = reading.sets
        assert reading.taken_for.startswith("images and labels in a")
        assert torch.equal(one.images, images) and torch.equal(one.labels, labels)
        assert one.lr == (0.03 if name == "rate.pt" else None)
        assert one.meaning.labels_are is None
    reading = read("pair.pt", "set.npz")
    assert reading.sets[0].images.shape == (16, 3, 8, 8) and "in 2 parts" in reading.taken_for
    assert reading.taken_for.startswith("images and labels in a torch file and images and labels")


def test_which_labels(read, tmp_path, images, labels):
    torch.save((images, labels), tmp_path / "pair.pt")
    torch.save(labels, tmp_path / "labels.pt")
    for names in (["pair.pt", "labels.pt"], ["labels.pt", "pair.pt"]):
        with pytest.raises(ValueError, match="pair.pt holds labels, and .*labels.pt beside it"):
            read(*names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (("images", torch.zeros(1)), "images are a str"),
        ({"images": torch.zeros(1), "labels": None}, "labels are a NoneType"),
        ({"images": torch.zeros(1), "labels": torch.zeros(1), "lr": "fast"}, "the learned rate is"),
        ({"images": torch.zeros(1), "labels": torch.zeros(1), "lr": -1.0}, "the learned rate is"),
        ({"images": torch.zeros(1)}, "a dict of images: no known format"),
        ((torch.eye(2).to_sparse(), torch.zeros(2)), "layout torch.sparse_coo"),
    ],
)
def test_what_is_wrong_is_one_line(read, tmp_path, content, message):
    torch.save(content, tmp_path / "set.pt")
    with pytest.raises(DataCorrupt, match=message) as caught:
        read("set.pt")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / "set.pt"))
