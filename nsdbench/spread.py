"""Summaries of repeated accuracies.

Spread is reported in the two ways the field needs: `std` is the population standard deviation
(ddof 0), as published tables print it; intervals use the sample standard deviation
(ddof 1) and Student's t, which is right for a handful of runs.
"""

import math
from collections.abc import Sequence
from typing import Any


def in_words(accuracy: dict[str, Any]) -> str:
    """Write a `summary` for the screen: "70.12 ± 0.34 %", a single run without a spread."""
    spread = f" ± {accuracy['std']:.2f}" if accuracy["n"] > 1 else ""
    return f"{accuracy['mean']:.2f}{spread} %"


def summary(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Summarise the accuracies of S sets x R networks as a record stores them.

    Args:
        values: [S][R] accuracies in per cent; rows may differ in length.

    Returns:
        values (as lists of floats), mean, std (population), ci95 ([low, high] by the sample
        standard deviation and Student's t; None if n < 2) and n.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    flat = [float(value) for row in values for value in row]
    if not flat:
        raise ValueError("summary of no values; expected at least one accuracy")
    if not all(math.isfinite(value) for value in flat):
        raise ValueError(f"summary of values that are not finite: {flat}")
    n, mean = len(flat), math.fsum(flat) / len(flat)
    squares = math.fsum((value - mean) ** 2 for value in flat)
    interval = None
    if n >= 2:
        half = student_quantile(n - 1) * math.sqrt(squares / (n - 1) / n)
        interval = [mean - half, mean + half]
    return {
        "values": [[float(value) for value in row] for row in values],
        "mean": mean,
        "std": math.sqrt(squares / n),
        "ci95": interval,
        "n": n,
    }


def student_quantile(degrees: int, probability: float = 0.975) -> float:
    """Return the quantile of Student's t with that many degrees of freedom."""
    from scipy.special import stdtrit  # takes a fifth of a second to import

    return float(stdtrit(degrees, probability))
