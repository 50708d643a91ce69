"""Results of DC, DSA and DM: a dict of a list of experiments and of numpy's numbers."""

import numpy as np
import pytest
import torch

from nsdbench.data import spec
from nsdbench.errors import DataCorrupt
from nsdbench.sets.formats.registry import read_set

NAME = "res_DC_CIFAR10_ConvNet_2ipc.pt"


def result(*experiments):
    """As main.py writes it: accuracies are sums of numpy's integers, divided."""
    accuracy = np.int64(35) / 80
    return {"data": [list(pair) for pair in experiments], "accs_all_exps": {"ConvNet": [accuracy]}}


def test_every_experiment_is_a_set(read, tmp_path, images, labels):
    torch.save(result((images, labels), (-images, labels)), tmp_path / NAME)
    reading = read(NAME)
    assert reading.taken_for == "2 experiments of DC, DSA, DM or CAFE"
    first, second = reading.sets
    assert torch.equal(first.images, images) and torch.equal(second.images, -images)
    assert torch.equal(second.labels, labels)
    assert first.ledger().stored_bits == 8 * 3 * 8 * 8 * 32
    assert len(read(NAME, NAME).sets) == 4


def test_where_its_constants_are_others_they_hold(tmp_path, images, labels):
    torch.save(result((images, labels)), tmp_path / NAME)
    for name, expected in (("CIFAR100", "standardise_dc"), ("CIFAR10", None)):
        reading = read_set(tmp_path / NAME, spec=spec(name))
        assert reading.sets[0].meaning.preprocessing == expected
        assert len(reading.notes) == (expected is not None)


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
