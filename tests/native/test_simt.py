"""The host run of CUDA kernels: it computes what CUDA computes, and finds what CUDA would hide."""

import numpy as np
import pytest

from nsdbench import _simt

ORDERS = ("natural", "reversed", "shuffled")
VALUES = np.random.default_rng(5).normal(size=64)


@pytest.fixture(params=ORDERS)
def order(request) -> str:
    _simt.set_order(request.param, seed=2)
    return request.param


def test_barrier_and_static_shared_memory(order):
    values = np.arange(192.0)
    expected = values.reshape(3, 64)[:, ::-1].ravel()
    assert np.array_equal(_simt.reverse(values, has_barrier=True), expected)


def test_barriers_in_a_loop_and_dynamic_shared_memory(order):
    ours = _simt.prefix_sum(VALUES, has_barrier=True)
    np.testing.assert_allclose(ours, np.cumsum(VALUES), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("program", "wrong_orders"),
    [
        (_simt.shift, {"reversed", "shuffled"}),  # right in natural order: why there are others
        (_simt.prefix_sum, {"natural", "shuffled"}),
        (_simt.reverse, {"natural", "reversed", "shuffled"}),
    ],
)
def test_missing_barrier_is_found(program, wrong_orders):
    """Shared memory starts as NaN, so reading a slot too early cannot look right by luck."""
    found = set()
    for name in ORDERS:
        _simt.set_order(name, seed=2)
        right = program(VALUES, has_barrier=True)
        if not np.array_equal(program(VALUES, has_barrier=False), right):
            found.add(name)
    assert found == wrong_orders


def test_shuffles(order):
    sums, neighbours = _simt.shuffles(VALUES)
    warps = VALUES.reshape(2, 32)
    np.testing.assert_allclose(sums.reshape(2, 32), warps.sum(1, keepdims=True) * np.ones(32))
    lanes = np.arange(32)
    expected = np.where(lanes + 3 < 32, lanes + 3, lanes)
    assert np.array_equal(neighbours, np.concatenate([expected, expected + 32]))


def test_every_thread_of_every_block_runs_once(order):
    assert np.array_equal(_simt.indices([2, 3, 2], [5, 2, 3]), np.arange(2 * 3 * 2 * 30))


def test_empty_grid_runs_nothing(order):
    assert _simt.indices([0, 3, 2], [5, 2, 3]).size == 0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("divergent_barrier", r"waits at the barrier of .*simt_programs\.h:\d+, but .* returned"),
        ("two_barriers", r"waits at the barrier of .*, but .*waits at the barrier of"),
        ("divergent_shuffle", r"waits at the shuffle of .*, but thread 5 has returned"),
    ],
)
def test_divergent_waits_are_errors_not_hangs(order, program, message):
    with pytest.raises(RuntimeError, match=message):
        _simt.run_faulty(program)
    # The machinery is usable afterwards.
    assert np.array_equal(_simt.reverse(VALUES, has_barrier=True), VALUES[::-1])


def test_launch_limits_of_cuda_hold():
    with pytest.raises(RuntimeError, match="exceeds CUDA's limits"):
        _simt.indices([1, 65536, 1], [1, 1, 1])
    with pytest.raises(RuntimeError, match="exceeds CUDA's limits"):
        _simt.indices([1, 1, 1], [1025, 1, 1])


def test_unknown_order():
    with pytest.raises(ValueError, match="expected natural, reversed or shuffled, got sorted"):
        _simt.set_order("sorted")
