"""Summaries of repeated accuracies.

Spread is reported in the two ways the field needs: `std` is the population standard deviation
(ddof 0), as published tables print it; intervals use the sample standard deviation
(ddof 1) and Student's t, which is right for a handful of runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_FOR_INTERVAL = 3  # our choice: Student's t of two values gives -209 to 320 %
_INSIDE_ROUNDING = 1e-7  # what the probability within a stored interval may differ by
_ROUNDING = 1e-9  # relative; what a summary that was written and read may differ by


@dataclass(frozen=True)
class Summary:
    """The accuracies of S sets x R networks, in per cent; see `summary`.

    Attributes:
        values: [S][R]; rows may differ in length.
        mean: of all of them.
        std: population standard deviation.
        ci95: low and high end of the 95 % interval as it was stored; `interval` is what to show.
        n: how many values.

    Raises:
        ValueError: the other numbers are not those of the values.
    """

    values: tuple[tuple[float, ...], ...]
    mean: float
    std: float
    ci95: tuple[float, float] | None
    n: int

    def __post_init__(self) -> None:
        mean, squares, n = _moments(self.values)
        std = math.sqrt(squares / n)
        tolerance = _ROUNDING * max(1.0, abs(mean))
        if self.n != n or abs(self.mean - mean) > tolerance or abs(self.std - std) > tolerance:
            raise ValueError(
                f"mean {self.mean}, std {self.std}, n {self.n} of values whose mean is {mean}, "
                f"std {std}, n {n}"
            )
        # Older records hold an interval of two values.
        if n != 2 and (self.ci95 is None) != (n < LEAST_FOR_INTERVAL):
            raise ValueError(
                f"ci95 {self.ci95} of {n} values; expected one of at least {LEAST_FOR_INTERVAL}"
            )
        if self.ci95 is not None and not _is_interval(self.ci95, mean, squares, n):
            raise ValueError(f"ci95 {self.ci95} is not that of the values")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval within 0 to 100; None of fewer than three values."""
        if self.ci95 is None or self.n < LEAST_FOR_INTERVAL:
            return None
        return max(0.0, self.ci95[0]), min(100.0, self.ci95[1])

    def __str__(self) -> str:
        """Write it for the screen: "70.12 ± 0.34 %", a single run without a spread."""
        spread = f" ± {self.std:.2f}" if self.n > 1 else ""
        return f"{self.mean:.2f}{spread} %"


def summary(values: Sequence[Sequence[float]]) -> Summary:
    """Summarise the accuracies of S sets x R networks.

    Args:
        values: [S][R] accuracies in per cent; rows may differ in length.

    Raises:
        ValueError: there is no value, or one is not 0 to 100.
    """
    rows = tuple(tuple(float(value) for value in row) for row in values)
    mean, squares, n = _moments(rows)
    interval = None
    if n >= LEAST_FOR_INTERVAL:
        half = student_quantile(n - 1) * math.sqrt(squares / (n - 1) / n)
        interval = (max(0.0, mean - half), min(100.0, mean + half))
    return Summary(rows, mean, math.sqrt(squares / n), interval, n)


def student_quantile(degrees: int, probability: float = 0.975) -> float:
    """Return the quantile of Student's t with that many degrees of freedom."""
    from scipy.special import stdtrit  # takes a fifth of a second to import

    return float(stdtrit(degrees, probability))


def _is_interval(ci95: tuple[float, float], mean: float, squares: float, n: int) -> bool:
    """Say whether these are the ends of the 95 % interval, each perhaps cut at 0 or 100."""
    error = math.sqrt(squares / (n - 1) / n)
    for end, is_cut in ((mean - ci95[0], ci95[0] == 0), (ci95[1] - mean, ci95[1] == 100)):
        if error == 0:
            is_right = abs(end) <= _ROUNDING * max(1.0, abs(mean))
        else:
            inside = _student_inside(end / error, n - 1)
            is_right = abs(inside - 0.95) <= _INSIDE_ROUNDING or (is_cut and 0 <= inside < 0.95)
        if not is_right:
            return False
    return True


def _student_inside(t: float, degrees: int) -> float:
    """Return the probability of -t to t under Student's t (Abramowitz and Stegun, 26.7.3, 26.7.4).

    Its quantile by scipy would take a fifth of a second to import, to read a record.
    """
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    is_odd = degrees % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    for k in range(is_odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total


def _moments(rows: Sequence[Sequence[float]]) -> tuple[float, float, int]:
    """Return the mean of all values, the sum of squared differences from it, and their number."""
    flat = [value for row in rows for value in row]
    if not flat:
        raise ValueError("summary of no values; expected at least one accuracy")
    if not all(0 <= value <= 100 for value in flat):
        raise ValueError(f"summary of values that are not per cent, 0 to 100: {flat}")
    mean = math.fsum(flat) / len(flat)
    return mean, math.fsum((value - mean) ** 2 for value in flat), len(flat)
