"""Summaries and verdicts against independent statements of the same formulas."""

import math
import statistics as stdlib
from dataclasses import replace

import pytest
from scipy import stats

from nsdbench.bench.cell import Cell
from nsdbench.bench.record import Record
from nsdbench.bench.verdict import Published, comparability, verdict
from nsdbench.spread import Summary, summary

PUBLISHED = Published("CIFAR10", 1, "convnet3-w128", mean=68.5, std=0.8)


def record(values, **changes):
    """Make a record that PUBLISHED may be compared with, then change its cell or budget."""
    cell = Cell("CIFAR10", 1, "nsd", "convnet3-w128", "common", "paper")
    budget = {"stored_bits": 100, "limit_bits": 100}
    of_cell = {key: value for key, value in changes.items() if hasattr(cell, key)}
    of_budget = {key: value for key, value in changes.items() if key not in of_cell}
    return Record.done(
        replace(cell, **of_cell),
        recipe_hash="",
        protocol_hash="",
        seeds=1,
        repeats=len(values),
        accuracy=summary([values]),
        budget=budget | of_budget,
    )


def test_summary_against_the_standard_library():
    rows = [[10.0, 12.5], [11.0, 14.0], [9.5, 10.0]]
    flat = [value for row in rows for value in row]
    result = summary(rows)
    assert result.n == 6 and [list(row) for row in result.values] == rows
    assert result.mean == pytest.approx(stdlib.fmean(flat), rel=1e-14)
    assert result.std == pytest.approx(stdlib.pstdev(flat), rel=1e-14)
    low, high = stats.t.interval(0.95, 5, loc=stdlib.fmean(flat), scale=stats.sem(flat))
    assert result.ci95 == pytest.approx([low, high], rel=1e-12)


def test_summary_of_one_value_has_no_interval():
    assert summary([[50.0]]) == Summary(((50.0,),), mean=50.0, std=0.0, ci95=None, n=1)


def test_two_values_have_no_interval_and_that_of_an_older_record_is_not_shown():
    assert summary([[40.0, 70.0]]).ci95 is None
    low, high = stats.t.interval(0.95, 1, loc=55.0, scale=15.0)
    older = Summary(((40.0, 70.0),), mean=55.0, std=15.0, ci95=(low, high), n=2)
    assert older.ci95 == (low, high) and older.interval is None
    with pytest.raises(ValueError, match="expected one of at least 3"):
        Summary(((40.0, 50.0, 60.0),), mean=50.0, std=math.sqrt(200 / 3), ci95=None, n=3)


@pytest.mark.parametrize("n", [3, 4, 5, 10, 31, 200])
def test_a_stored_interval_is_compared_with_the_values(n):
    values = [40.0 + 20.0 * (k % 7) / 7 for k in range(n)]
    found = summary([values])
    low, high = found.ci95
    for wrong in ((low - 1e-4, high), (low, high + 1e-4), (low, 100.0), (0.0, high), (high, low)):
        with pytest.raises(ValueError, match="is not that of the values"):
            replace(found, ci95=wrong)


@pytest.mark.parametrize("values", [[1.0, 0.0, 5.0], [99.0, 100.0, 90.0], [0.0, 100.0, 50.0]])
def test_no_interval_leaves_0_to_100(values):
    low, high = stats.t.interval(0.95, 2, loc=stdlib.fmean(values), scale=stats.sem(values))
    assert low < 0 or high > 100
    clipped = pytest.approx((max(low, 0.0), min(high, 100.0)), rel=1e-12)
    assert summary([values]).ci95 == clipped
    wide = replace(summary([values]), ci95=(low, high))  # as older records hold it
    assert wide.ci95 == (low, high) and wide.interval == clipped


def test_a_summary_in_words_has_a_spread_only_where_there_are_several_runs():
    assert str(summary([[70.0, 72.0]])) == "71.00 ± 1.00 %"
    assert str(summary([[70.0]])) == "70.00 %"


@pytest.mark.parametrize("values", [[], [[]], [[1.0, math.nan]], [[math.inf]], [[-0.1]], [[100.1]]])
def test_summary_refuses_what_has_no_mean(values):
    with pytest.raises(ValueError, match="no values|not per cent"):
        summary(values)


def half_width(values, std=0.8, n_published=5):
    """U of the design, written with scipy.stats and the sample variance of the library."""
    n = len(values)
    t = stats.t.ppf(0.975, n - 1)
    return t * math.sqrt(stdlib.variance(values) / n + std**2 / n_published)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([68.0, 68.4, 68.8, 69.0, 68.2], "reproduced"),  # d about 0
        ([69.4, 69.5, 69.6, 69.5, 69.5], "reproduced"),  # d = 1.0, inside U
        ([71.4, 71.5, 71.6, 71.5, 71.5], "above"),
        ([60.0, 60.2, 59.9, 60.1, 60.3], "below"),
        ([60.0, 64.0, 68.0, 72.0, 76.0], "inconclusive"),  # U > 2, |d| < U
        ([50.0, 54.0, 52.0, 48.0, 51.0], "below"),  # U > 2 but |d| far beyond it
    ],
)
def test_verdict_words(values, word):
    result = verdict(record(values), PUBLISHED)
    assert result.word == word and str(result) == word
    assert result.difference == pytest.approx(stdlib.fmean(values) - 68.5)
    assert result.uncertainty == pytest.approx(half_width(values), rel=1e-12)


@pytest.mark.parametrize("dataset", ["CIFAR10-JPEG", "folder:/no/where=CIFAR10"])
@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([68.0, 68.4, 68.8, 69.0, 68.2], "reproduced"),
        ([71.4, 71.5, 71.6, 71.5, 71.5], "above"),
        ([60.0, 60.2, 59.9, 60.1, 60.3], "below"),
        ([60.0, 64.0, 68.0, 72.0, 76.0], "inconclusive"),
    ],
)
def test_verdicts_on_a_copy_say_so(dataset, values, word):
    result, of_whole = (verdict(record(values, dataset=x), PUBLISHED) for x in (dataset, "CIFAR10"))
    assert str(result) == f"{word} on a lossy copy" and of_whole.word == word
    assert replace(result, word=word) == of_whole


def test_one_point_is_tolerated_however_sharp_the_measurement():
    sharp = Published("CIFAR10", 1, "convnet3-w128", mean=68.5, std=0.0)
    assert verdict(record([69.49] * 5), sharp).word == "reproduced"
    assert verdict(record([69.51] * 5), sharp).word == "above"
    assert verdict(record([67.49] * 5), sharp).word == "below"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale": "small"}, "scale small"),
        ({"dataset": "FashionMNIST"}, "dataset FashionMNIST, published CIFAR10"),
        (
            {"dataset": "CIFAR10-JPEG-holdout5000-seed0"},
            "dataset CIFAR10-JPEG-holdout5000-seed0, published CIFAR10",
        ),
        ({"dataset": "folder:/a=CIFAR100"}, "dataset folder:/a=CIFAR100, published CIFAR10"),
        ({"dataset": "CIFAR10-JPEG", "scale": "small"}, "scale small"),
        ({"ipc": 10}, "ipc 10, published 1"),
        ({"arch": "convnet3-w32"}, "architecture convnet3-w32, published convnet3-w128"),
        ({"protocol": "mtt"}, "protocol mtt, published common"),
        ({"stored_bits": 150}, "over budget (150.0 %)"),
        ({"storage_dtype": "bfloat16"}, "stored as bfloat16"),
    ],
)
def test_everything_that_must_match(changes, reason):
    result = verdict(record([68.5] * 5, **changes), PUBLISHED)
    assert result.word == "not comparable" and result.reason == reason
    assert result.difference is None and str(result) == f"not comparable: {reason}"


def test_too_few_runs_and_nothing_published():
    assert comparability(record([68.5] * 4), PUBLISHED) == "n = 4 < 5"
    assert verdict(record([68.5] * 5), None).reason == "no published number"
    assert verdict(record([68.5] * 5, scale="smoke"), None).reason == "scale smoke"
