"""The switch between native operators and their twins."""

import pytest
import torch

from nsdbench import ops
from nsdbench.ops import library


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("1", True), ("0", False)])
def test_environment_decides_on_the_cpu(monkeypatch, value, expected):
    monkeypatch.delenv("NSDBENCH_NATIVE", raising=False)
    if value is not None:
        monkeypatch.setenv("NSDBENCH_NATIVE", value)
    assert ops.is_native_enabled() is expected
    assert ops.is_native_enabled(torch.device("cpu")) is expected


def test_cuda_is_native_where_its_operators_are_loaded(monkeypatch):
    monkeypatch.delenv("NSDBENCH_NATIVE", raising=False)
    for reason in ("", "not built"):
        monkeypatch.setattr(library, "cuda_unavailable_because", reason)
        assert ops.is_native_enabled(torch.device("cuda", 0)) is (reason == "")


def test_other_devices_have_no_native_operators(monkeypatch):
    monkeypatch.delenv("NSDBENCH_NATIVE", raising=False)
    assert not ops.is_native_enabled(torch.device("meta"))


def test_a_wrong_value_is_refused(monkeypatch):
    monkeypatch.setenv("NSDBENCH_NATIVE", "off")
    with pytest.raises(ValueError, match="NSDBENCH_NATIVE: expected 0 or 1, got 'off'"):
        ops.is_native_enabled()
