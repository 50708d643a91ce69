"""The host run of CUDA kernels: it computes what CUDA computes, and finds what CUDA would hide."""

import numpy as np
import pytest

ORDERS = ("natural", "reversed", "shuffled")
VALUES = np.random.default_rng(5).normal(size=64)


@pytest.fixture(params=ORDERS)
def order(request, simt) -> str:
    simt.set_order(request.param, seed=2)
    return request.param


def test_barrier_and_static_shared_memory(order, simt):
    values = np.arange(192.0)
    expected = values.reshape(3, 64)[:, ::-1].ravel()
    assert np.array_equal(simt.reverse(values, has_barrier=True), expected)


def test_barriers_in_a_loop_and_dynamic_shared_memory(order, simt):
    ours = simt.prefix_sum(VALUES, has_barrier=True)
    np.testing.assert_allclose(ours, np.cumsum(VALUES), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("program", "wrong_orders"),
    [
        ("shift", {"reversed", "shuffled"}),  # right in natural order: why there are others
        ("prefix_sum", {"natural", "shuffled"}),
        ("reverse", {"natural", "reversed", "shuffled"}),
    ],
)
def test_missing_barrier_is_found(simt, program, wrong_orders):
    """Shared memory starts as NaN, so reading a slot too early cannot look right by luck."""
    found = set()
    for name in ORDERS:
        simt.set_order(name, seed=2)
        right = getattr(simt, program)(VALUES, has_barrier=True)
        if not np.array_equal(getattr(simt, program)(VALUES, has_barrier=False), right):
            found.add(name)
    assert found == wrong_orders


def test_shuffles(order, simt):
    sums, neighbours = simt.shuffles(VALUES)
    warps = VALUES.reshape(2, 32)
    np.testing.assert_allclose(sums.reshape(2, 32), warps.sum(1, keepdims=True) * np.ones(32))
    lanes = np.arange(32)
    expected = np.where(lanes + 3 < 32, lanes + 3, lanes)
    assert np.array_equal(neighbours, np.concatenate([expected, expected + 32]))


def test_every_thread_of_every_block_runs_once(order, simt):
    assert np.array_equal(simt.indices([2, 3, 2], [5, 2, 3]), np.arange(2 * 3 * 2 * 30))


def test_empty_grid_runs_nothing(order, simt):
    assert simt.indices([0, 3, 2], [5, 2, 3]).size == 0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("divergent_barrier", r"waits at the barrier of .*simt_programs\.h:\d+, but .* returned"),
        ("two_barriers", r"waits at the barrier of .*, but .*waits at the barrier of"),
        ("divergent_shuffle", r"waits at the shuffle of .*, but thread 5 has returned"),
    ],
)
def test_divergent_waits_are_errors_not_hangs(order, simt, program, message):
    with pytest.raises(RuntimeError, match=message):
        simt.run_faulty(program)
    # The machinery is usable afterwards.
    assert np.array_equal(simt.reverse(VALUES, has_barrier=True), VALUES[::-1])


def test_launch_limits_of_cuda_hold(simt):
    with pytest.raises(RuntimeError, match="exceeds CUDA's limits"):
        simt.indices([1, 65536, 1], [1, 1, 1])
    with pytest.raises(RuntimeError, match="exceeds CUDA's limits"):
        simt.indices([1, 1, 1], [1025, 1, 1])


def test_unknown_order(simt):
    with pytest.raises(ValueError, match="expected natural, reversed or shuffled, got sorted"):
        simt.set_order("sorted")
