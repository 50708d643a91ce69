"""Precisions by name: what is set, for how long, and what refuses a name."""

import pytest
import torch

from nsdbench.experts import Run
from nsdbench.ops.precision import PRECISIONS, computing_in


def flags():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("name", "expected"), [("tf32", (True, False)), ("float32", (False,) * 2)])
def test_what_a_name_sets(name, expected):
    before = flags()
    with pytest.raises(KeyError), computing_in(name):
        assert flags() == expected
        with computing_in("float32"):
            assert flags() == (False, False)
        assert flags() == expected
        raise KeyError
    assert flags() == before


def test_the_default_is_what_torch_does():
    assert Run().precision == PRECISIONS[0] == "tf32"
    with computing_in("tf32"):
        assert flags() == (True, False)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="precision is 'bf16'; expected one of tf32, float32"):
        with computing_in("bf16"):
            pass


def test_names_of_unfinished_work():
    assert Run(device="cpu", precision="float32").suffix == ""
    assert Run(device="cuda:1").suffix == ""
    assert Run(device="cuda:1", precision="float32").suffix == "-float32"
