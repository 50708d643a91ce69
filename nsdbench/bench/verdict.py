"""The verdict on a measured number against a published one.

It uses the standard error of the mean and Student's t as `spread` has them: over sets where there
are several, over networks where there is one.
"""

import math
from dataclasses import dataclass

from nsdbench.bench.record import Result
from nsdbench.data.catalog import original
from nsdbench.spread import student_quantile

MINIMUM_N = 5  # runs below which no verdict is given
TOLERANCE = 1.0  # points; our choice: copies of one published number differ by about as much
MAXIMUM_UNCERTAINTY = 2.0  # points; our choice: a wider comparison cannot say "reproduced"
PUBLISHED_N = 5  # the paper's 5 runs per number, sec. 4.1


@dataclass(frozen=True)
class Published:
    """A number printed in a paper, and the conditions it was measured under.

    `protocol` is one of ours, or words that describe the evaluation its authors used.
    """

    dataset: str
    ipc: int
    arch: str
    mean: float
    std: float | None
    protocol: str = "common"
    n: int = PUBLISHED_N


@dataclass(frozen=True)
class Verdict:
    """What a measured number says about a published one.

    `word` is reproduced, above, below or inconclusive, each with "on a lossy copy" behind it where
    the data set stands for the published one, or "not comparable"; `difference` (measured minus
    published, points) and `uncertainty` (half width U, points) are None where the two must not be
    subtracted.
    """

    word: str
    reason: str = ""
    difference: float | None = None
    uncertainty: float | None = None

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def verdict(record: Result, published: Published | None) -> Verdict:
    """Compare a measured record with a published number.

    With d the difference of the means and

        U = t(.975, degrees) * sqrt(error^2 + s_pub^2 / n_pub),

    the number is *reproduced* if |d| <= max(1, U) and U <= 2, *inconclusive* if U > 2 and |d| is
    within U, else *above* or *below*. Whenever dataset, ipc, architecture, protocol or scale
    differ, the budget is broken, or n < 5, it is *not comparable* and the reason says why. A
    dataset that stands for the published one does not differ, but word or reason says so.

    Args:
        record: the measured one.
        published: the printed number, or None where nothing was printed.
    """
    obstacle = comparability(record, published)
    if obstacle is not None or published is None:
        reason = obstacle or "no published number"
        if published is not None and _is_copy(record, published):
            reason += ", on a lossy copy"
        return Verdict("not comparable", reason)
    return _compared(record, published)


def claimed_verdict(record: Result) -> Verdict | None:
    """Compare a judged set with the accuracy that is claimed for it; None where nothing is.

    The claim is about this set, protocol and network, and what the set stores is said beside. So
    only n < 5 is an obstacle.

    Args:
        record: of a judged set.
    """
    claim = None if record.judged is None else record.judged.claimed
    if claim is None:
        return None
    if few := _few(record):
        return Verdict("not comparable", few)
    cell = record.cell
    dataset = original(cell.dataset)
    return _compared(
        record, Published(dataset, cell.ipc, cell.arch, claim.mean, claim.std, cell.protocol)
    )


def _compared(record: Result, published: Published) -> Verdict:
    """Compare two numbers that may be compared."""
    estimate = record.accuracy.estimate
    published_variance = (published.std or 0.0) ** 2
    uncertainty = student_quantile(estimate.degrees) * math.sqrt(
        estimate.error**2 + published_variance / published.n
    )
    difference = record.accuracy.mean - published.mean
    if uncertainty > MAXIMUM_UNCERTAINTY and abs(difference) <= uncertainty:
        word = "inconclusive"
    elif abs(difference) <= max(TOLERANCE, uncertainty):
        word = "reproduced"
    else:
        word = "above" if difference > 0 else "below"
    if _is_copy(record, published):
        word += " on a lossy copy"
    return Verdict(word, "", difference, uncertainty)


def _is_copy(record: Result, published: Published) -> bool:
    """Say whether a record is of a dataset that stands for the published one."""
    dataset = record.cell.dataset
    return dataset != published.dataset and original(dataset) == published.dataset


def comparability(record: Result, published: Published | None) -> str | None:
    """Return why a record must not be compared with a published number, or None if it may."""
    cell, budget = record.cell, record.budget
    if cell.scale != "paper":
        return f"scale {cell.scale}"
    if published is None:
        return "no published number"
    if original(cell.dataset) != published.dataset:
        return f"dataset {cell.dataset}, published {published.dataset}"
    for what, measured, printed in (
        ("ipc", cell.ipc, published.ipc),
        ("architecture", cell.arch, published.arch),
        ("protocol", cell.protocol, published.protocol),
    ):
        if measured != printed:
            return f"{what} {measured}, published {printed}"
    if budget is not None and budget.is_exceeded:
        return f"over budget ({budget.percent:.1f} %)"
    if budget is not None and budget.storage_dtype != "float32":
        return f"stored as {budget.storage_dtype}"
    return _few(record)


def _few(record: Result) -> str | None:
    """Return that a record has too few runs, or None if it has enough."""
    n = record.accuracy.n
    return f"n = {n} < {MINIMUM_N}" if n < MINIMUM_N else None
