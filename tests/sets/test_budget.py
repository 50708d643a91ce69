"""Eq. 3: what is stored, in bits, against what the budget allows."""

import pytest
import torch

from nsdbench.errors import BudgetExceeded
from nsdbench.sets import budget
from nsdbench.sets.budget import Entry, Ledger


def test_limit_is_equation_3():
    assert budget.limit_bits((3, 32, 32), 10, 1) == 10 * 3072 * 32
    assert budget.limit_bits((1, 28, 28), 10, 50) == 50 * 10 * 784 * 32
    with pytest.raises(ValueError, match="ipc is 0"):
        budget.limit_bits((3, 32, 32), 10, 0)


@pytest.mark.parametrize(
    ("dtype", "width"),
    [(torch.float32, 32), (torch.float16, 16), (torch.uint8, 8), (torch.bool, 8)],
)
def test_entries_count_the_width_of_their_elements(dtype, width):
    entry = Entry.of("coefficient", "x", torch.zeros(3, 5, dtype=dtype))
    assert entry.bits == 15 * width
    assert entry.shape == (3, 5)


def test_habas_published_storage_is_over_its_budget():
    """HaBa at CIFAR-10 "ipc 1": 10 images and five hallucinators of 5,568 floats, 1.91 ipc."""
    ledger = Ledger(
        (
            Entry("coefficient", "bases", (10, 3, 32, 32), 10 * 3072 * 32),
            Entry("network", "hallucinators", (5, 5568), 5 * 5568 * 32),
        )
    )
    assert ledger.stored_bits == 58_560 * 32
    assert budget.strict_ipc(ledger.stored_bits, (3, 32, 32), 10) == pytest.approx(1.90625)
    with pytest.raises(BudgetExceeded, match="hallucinators .* 890880 bits"):
        budget.check(ledger, (3, 32, 32), 10, 1)
    budget.check(ledger, (3, 32, 32), 10, 2)


def test_a_bit_over_the_limit_is_refused():
    limit = budget.limit_bits((1, 2, 2), 2, 1)
    budget.check(Ledger((Entry("mask", "m", (1,), limit),)), (1, 2, 2), 2, 1)
    with pytest.raises(BudgetExceeded):
        budget.check(Ledger((Entry("mask", "m", (1,), limit + 1),)), (1, 2, 2), 2, 1)
