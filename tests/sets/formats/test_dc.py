"""Results of DC, DSA and DM: a dict of a list of experiments and of numpy's numbers."""

import numpy as np
import pytest
import torch

from nsdbench.errors import DataCorrupt

NAME = "res_DC_CIFAR10_ConvNet_2ipc.pt"


def result(*experiments):
    """As main.py writes it: accuracies are sums of numpy's integers, divided."""
    accuracy = np.int64(35) / 80
    return {"data": [list(pair) for pair in experiments], "accs_all_exps": {"ConvNet": [accuracy]}}


def test_every_experiment_is_a_set(read, tmp_path, images, labels):
    torch.save(result((images, labels), (-images, labels)), tmp_path / NAME)
    reading = read(NAME)
    assert reading.taken_for == "2 experiments of DC, DSA or DM"
    first, second = reading.sets
    assert torch.equal(first.images, images) and torch.equal(second.images, -images)
    assert torch.equal(second.labels, labels)
    assert first.ledger().stored_bits == 8 * 3 * 8 * 8 * 32
    assert len(read(NAME, NAME).sets) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (result(), "holds no experiment; its code was stopped too early"),
        (result((torch.zeros(1),)), "something else than pairs"),
        ({"data": [["images", "labels"]]}, "something else than pairs"),
        ({"data": [7]}, "something else than pairs"),
        ({"data": torch.zeros(2)}, "a dict of data: no known format"),
    ],
)
def test_what_is_wrong_is_one_line(read, tmp_path, content, message):
    torch.save(content, tmp_path / NAME)
    with pytest.raises(DataCorrupt, match=f"{NAME}: .*{message}"):
        read(NAME)
