"""Summaries of repeated accuracies: S sets, R networks trained on each.

Spread is reported in the two ways the field needs: `std` is the population standard deviation of
all values (ddof 0), as published tables print it. Intervals say how well the mean is known, by the
one-way random effects model

    y_ij = mu + a_i + e_ij,    a_i ~ N(0, between^2) of set i,    e_ij ~ N(0, within^2) of a network

Means of sets are then independent and, for equal R, normal with the variance between^2 +
within^2 / R, so Student's t of the S means is exact, with S - 1 degrees of freedom however many
networks there are (Searle, Casella and McCulloch, Variance Components, 1992, ch. 3; Burdick and
Graybill, Confidence Intervals on Variance Components, 1992, ch. 3). Of one set nothing can be said
about `between`: its interval is that of mu + a_1, over its networks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_FOR_INTERVAL = 3  # our choice: Student's t of two values gives -209 to 320 %
_INSIDE_ROUNDING = 1e-7  # what the probability within a stored interval may differ by
_ROUNDING = 1e-9  # relative; what a summary that was written and read may differ by
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error and the degrees of freedom of that, of Student's t.

    `degrees` is 0, and `error` not known, where there is one value alone.
    """

    mean: float
    error: float
    degrees: float

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval; None of fewer than three means."""
        if self.degrees < LEAST_FOR_INTERVAL - 1:
            return None
        half = student_quantile(self.degrees) * self.error
        return self.mean - half, self.mean + half

    @property
    def interval_of_per_cent(self) -> Interval | None:
        """The interval, cut to 0 to 100."""
        ends = self.interval
        return None if ends is None else (max(0.0, ends[0]), min(100.0, ends[1]))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference of independent means.

        Its degrees of freedom are those of Welch and Satterthwaite: (v + w)^2 / (v^2 / m + w^2 / n)
        for squared errors v of m degrees and w of n (Welch, Biometrika 34, 1947); 0 if either is.
        """
        parts = [(x.error**2, x.degrees) for x in (self, other)]
        variance = sum(part for part, _ in parts)
        degrees = min(self.degrees, other.degrees)
        if degrees and variance:
            degrees = variance**2 / sum(part**2 / d for part, d in parts)
        return Estimate(self.mean - other.mean, math.sqrt(variance), degrees)


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
    ci95: Interval | None
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
        # Older records hold an interval of two values, or treat all networks of all sets as one.
        formulas = [self.estimate, _of_independent([value for row in self.values for value in row])]
        if self.ci95 is None and self.estimate.degrees >= LEAST_FOR_INTERVAL - 1:
            raise ValueError(f"ci95 None of {n} values; expected one of at least 3")
        if self.ci95 is not None and not any(_is_interval(self.ci95, e) for e in formulas):
            raise ValueError(f"ci95 {self.ci95} is not that of the values")

    @property
    def estimate(self) -> Estimate:
        """The mean over sets, which for rows of equal length is `mean`, and its error."""
        return _estimate(self.values)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean within 0 to 100; None of fewer than three sets.

        Of one set it is that of its mean over networks, and None of fewer than three of them.
        """
        return self.estimate.interval_of_per_cent

    @property
    def between_sets(self) -> float | None:
        """The estimated standard deviation of sets; None unless there are two sets, one with two.

        By analysis of variance, (MS_between - MS_within) / R_0 cut at 0, with R_0 = R for equal
        rows and (n - sum R_i^2 / n) / (S - 1) otherwise (Searle et al., 1992, ch. 3).
        """
        sets = len(self.values)
        if sets < 2 or self.n == sets:
            return None
        means = [math.fsum(row) / len(row) for row in self.values]
        between = math.fsum(
            len(row) * (own - self.mean) ** 2 for row, own in zip(self.values, means, strict=True)
        )
        within = math.fsum(
            (value - own) ** 2 for row, own in zip(self.values, means, strict=True) for value in row
        )
        size = (self.n - sum(len(row) ** 2 for row in self.values) / self.n) / (sets - 1)
        variance = (between / (sets - 1) - within / (self.n - sets)) / size
        return math.sqrt(max(0.0, variance))

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
    interval = _estimate(rows).interval_of_per_cent
    return Summary(rows, mean, math.sqrt(squares / n), interval, n)


def student_quantile(degrees: float, probability: float = 0.975) -> float:
    """Return the quantile of Student's t with that many degrees of freedom."""
    from scipy.special import stdtrit  # takes a fifth of a second to import

    return float(stdtrit(degrees, probability))


def _estimate(rows: Sequence[Sequence[float]]) -> Estimate:
    """Estimate the mean over sets, or that of one set over its networks."""
    if len(rows) == 1:
        return _of_independent(rows[0])
    return _of_independent([math.fsum(row) / len(row) for row in rows])


def _of_independent(values: Sequence[float]) -> Estimate:
    """Estimate the mean of values that are independent and alike."""
    mean, squares, n = _moments([values])
    error = math.sqrt(squares / (n - 1) / n) if n > 1 else 0.0
    return Estimate(mean, error, n - 1)


def _is_interval(ci95: Interval, estimate: Estimate) -> bool:
    """Say whether these are the ends of the 95 % interval, each perhaps cut at 0 or 100."""
    mean, error, degrees = estimate.mean, estimate.error, int(estimate.degrees)
    if not degrees:
        return False
    for end, is_cut in ((mean - ci95[0], ci95[0] == 0), (ci95[1] - mean, ci95[1] == 100)):
        if error == 0:
            is_right = abs(end) <= _ROUNDING * max(1.0, abs(mean))
        else:
            inside = _student_inside(end / error, degrees)
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
    if not rows or not all(rows):
        raise ValueError("summary of no values; expected at least one accuracy of every set")
    if not all(0 <= value <= 100 for value in flat):
        raise ValueError(f"summary of values that are not per cent, 0 to 100: {flat}")
    mean = math.fsum(flat) / len(flat)
    return mean, math.fsum((value - mean) ** 2 for value in flat), len(flat)
