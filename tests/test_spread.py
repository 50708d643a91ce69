"""Summaries and verdicts against independent statements of the same formulas."""

import math
import statistics as stdlib
from dataclasses import replace

import numpy as np
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
    values = [10.0, 12.5, 11.0, 14.0, 9.5, 10.0]
    for rows in ([values], [[value] for value in values]):  # a set's networks; sets of a network
        result = summary(rows)
        assert result.n == 6 and [list(row) for row in result.values] == rows
        assert result.mean == pytest.approx(stdlib.fmean(values), rel=1e-14)
        assert result.std == pytest.approx(stdlib.pstdev(values), rel=1e-14)
        low, high = stats.t.interval(0.95, 5, loc=stdlib.fmean(values), scale=stats.sem(values))
        assert result.ci95 == result.interval == pytest.approx((low, high), rel=1e-12)


def test_networks_in_sets_against_the_table_of_a_one_way_analysis():
    """Balanced: the error of the mean is sqrt(MS_between / (S R)), with S - 1 degrees."""
    rows = np.array([[50.0, 52.0, 51.0], [55.0, 56.0, 57.0], [49.0, 48.0, 53.0], [60.0, 58.0, 61]])
    sets, networks = rows.shape
    between = networks * rows.mean(1).var(ddof=1)
    within = rows.var(axis=1, ddof=1).mean()
    assert between / within == pytest.approx(stats.f_oneway(*rows).statistic, rel=1e-12)
    found = summary(rows.tolist())
    estimate = found.estimate
    assert (estimate.mean, estimate.degrees) == (pytest.approx(rows.mean(), rel=1e-14), 3)
    assert estimate.error**2 == pytest.approx(between / (sets * networks), rel=1e-12)
    half = stats.t.ppf(0.975, 3) * math.sqrt(between / (sets * networks))
    assert found.interval == pytest.approx((rows.mean() - half, rows.mean() + half), rel=1e-12)
    assert found.between_sets == pytest.approx(math.sqrt((between - within) / networks), rel=1e-12)
    assert found.std == pytest.approx(rows.std(), rel=1e-14)


def test_rows_of_unequal_length_weigh_sets_alike():
    """R_0 of 2, 3 and 5 networks is (10 - 38 / 10) / 2 = 3.1."""
    rows = [[50.0, 54.0], [60.0, 62.0, 64.0], [70.0, 71.0, 72.0, 73.0, 74.0]]
    found = summary(rows)
    assert found.estimate.mean == pytest.approx((52 + 62 + 72) / 3)
    assert found.estimate.error == pytest.approx(10 / math.sqrt(3))
    grand = found.mean
    assert grand == pytest.approx(65.0)
    between = (2 * 13**2 + 3 * 3**2 + 5 * 7**2) / 2
    within = (8 + 8 + 10) / 7
    assert found.between_sets == pytest.approx(math.sqrt((between - within) / 3.1), rel=1e-12)


def test_the_spread_between_sets_asks_for_two_sets_and_two_networks_and_is_never_negative():
    assert summary([[50.0, 60.0, 70.0]]).between_sets is None
    assert summary([[50.0], [60.0], [70.0]]).between_sets is None
    assert summary([[50.0, 60.0], [55.0]]).between_sets == 0
    assert summary([[50.0, 60.0], [54.0, 57.0]]).between_sets == 0
    assert summary([[50.0, 50.0], [60.0, 60.0]]).between_sets == pytest.approx(math.sqrt(50))


def test_intervals_cover_the_mean_of_a_simulated_experiment():
    """4 sets of 5 networks, sets spread as wide as networks: 95 % cover, as independent ones 72 %.

    The estimated variance between sets is right on average.
    """
    stream, runs = np.random.default_rng(0), 4000
    sets = stream.normal(50, 1, (runs, 4, 1))
    found = [summary(rows.tolist()) for rows in sets + stream.normal(0, 1, (runs, 4, 5))]
    covered = np.mean([low <= 50 <= high for low, high in (x.interval for x in found)])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / runs)
    flat = [summary([[v for row in x.values for v in row]]).interval for x in found]
    assert np.mean([low <= 50 <= high for low, high in flat]) < 0.75
    wide = [
        summary(rows.tolist()).between_sets ** 2
        for rows in stream.normal(50, 3, (runs, 4, 1)) + stream.normal(0, 1, (runs, 4, 5))
    ]
    error = np.std(wide) / math.sqrt(runs)
    assert abs(np.mean(wide) - 9) < 4 * error


def test_an_older_record_may_hold_the_interval_of_independent_networks_which_is_not_shown():
    rows = [[50.0, 51.0], [60.0, 61.0], [55.0, 57.0]]
    flat = [value for row in rows for value in row]
    found = summary(rows)
    older = replace(found, ci95=summary([flat]).ci95)
    assert older.ci95 != found.ci95 == older.interval == found.interval
    two = [[50.0, 51.0], [60.0, 61.0]]
    assert summary(two).ci95 is None
    older = replace(summary(two), ci95=summary([[50.0, 51.0, 60.0, 61.0]]).ci95)
    assert older.interval is None


def test_the_difference_of_two_means_is_that_of_welch():
    ours, theirs = [81.0, 82.0, 81.5, 81.7, 80.9], [47.0, 40.0, 55.0, 50.0]
    difference = summary([ours]).estimate - summary([theirs]).estimate
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert difference.degrees == pytest.approx(expected.df, rel=1e-12)
    assert difference.mean / difference.error == pytest.approx(expected.statistic, rel=1e-12)
    assert difference.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    one = summary([[70.0]]).estimate
    assert (one - difference).interval is None and (difference - one).interval is None
    exact = summary([[70.0] * 3]).estimate - summary([[60.0] * 4]).estimate
    assert exact.interval == (10.0, 10.0)


def test_summary_of_one_value_has_no_interval():
    assert summary([[50.0]]) == Summary(((50.0,),), mean=50.0, std=0.0, ci95=None, n=1)


def test_two_values_have_no_interval_and_that_of_an_older_record_is_not_shown():
    assert summary([[40.0, 70.0]]).ci95 is None
    low, high = stats.t.interval(0.95, 1, loc=55.0, scale=15.0)
    older = Summary(((40.0, 70.0),), mean=55.0, std=15.0, ci95=(low, high), n=2)
    assert older.ci95 == (low, high) and older.interval is None
    with pytest.raises(ValueError, match="ci95 None of 3 values; expected one of at least 3"):
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


@pytest.mark.parametrize(
    "values", [[], [[]], [[1.0], []], [[1.0, math.nan]], [[math.inf]], [[-0.1]], [[100.1]]]
)
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


def test_a_verdict_on_several_sets_counts_sets():
    """Five networks on each of three sets are three sets, whose spread decides."""
    rows = [
        [66.0, 66.2, 66.1, 65.9, 66.3],
        [68.0, 68.1, 68.2, 67.9, 68.3],
        [71.0, 70.8] + [71.2] * 3,
    ]
    of_sets = record([68.5] * 5).model_copy(update={"accuracy": summary(rows)})
    means = [stdlib.fmean(row) for row in rows]
    result = verdict(of_sets, PUBLISHED)
    half = stats.t.ppf(0.975, 2) * math.sqrt(stdlib.variance(means) / 3 + 0.8**2 / 5)
    assert result.uncertainty == pytest.approx(half, rel=1e-12) and result.word == "inconclusive"
    flat = [value for row in rows for value in row]
    assert verdict(record(flat), PUBLISHED).uncertainty < half / 2


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
        ({"dataset": "CIFAR10-JPEG", "scale": "small"}, "scale small, on a lossy copy"),
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
