"""Sweeps in reports: the best of a hold-out, none of a test split, and figures of the points."""

import csv
import io
import json

import numpy as np
import pytest
from scipy import stats

from nsdbench.bench import tables
from nsdbench.bench.record import Record
from nsdbench.evaluation import protocols
from nsdbench.report import build, collect, figures, writers
from nsdbench.report.page.render import render
from nsdbench.report.sweeps import sweeps
from nsdbench.spread import summary

TABLE = """
name = "mine"
title = "Mine"
source = "nobody"
[[rows]]
label = "NSD"
family = "ours"
method = "nsd"
grid = { "objective.guided_weight" = [0, 0.3, 1] }
[[rows]]
label = "MTT"
family = "ours"
method = "mtt"
grid = { "objective.guided_weight" = [0, 1] }
[[rows]]
label = "NSD"
family = "ours"
method = "nsd"
grid = { "optimiser.lr_syn" = [10, 15], "optimiser.lr_kernels" = [0.1, 0.2, 1] }
[scales.smoke]
protocol = "common-2ep"
seeds = 1
repeats = 4
columns = [{ dataset = "Digits16-holdout300-seed0", ipc = 1, arch = "convnet2-w8" }]
"""
WEIGHT, RATES = ("objective.guided_weight",), ("optimiser.lr_syn", "optimiser.lr_kernels")
# Accuracies of the points in table order; the last point of NSD's weights cannot be told from the
# best, the first can; one point of the rates is not measured.
NUMBERS = (
    [[60.0, 61.0, 62.0, 63.0], [70.0, 71.0, 72.0, 73.0], [70.0, 70.5, 71.0, 71.5]]
    + [[50.0, 51.0, 52.0, 53.0], [49.0, 50.0, 51.0, 52.0]]
    + [[80.0, 80.5, 81.0, 81.5], [10.0, 11.0, 12.0, 13.0], [20.0, 21.0, 22.0, 23.0]]
    + [[30.0, 31.0, 32.0, 33.0], [40.0, 41.0, 42.0, 43.0], None]
)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Declare the table `mine` and return its path."""
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    path = tmp_path / "mine.toml"
    path.write_text(TABLE)
    return path


def records_of(table):
    """Make a record of every point that has numbers."""
    return [
        Record.done(
            entry.cell,
            recipe_hash=entry.recipe.hash,
            protocol_hash=protocols.get(entry.cell.protocol).hash,
            seeds=1,
            repeats=len(values),
            accuracy=summary([values]),
        )
        for entry, values in zip(table.entries("smoke"), NUMBERS, strict=True)
        if values
    ]


@pytest.fixture
def cells(mine):
    table = tables.load("mine")
    return collect(table, "smoke", records_of(table))


def test_the_best_is_that_of_the_highest_mean_and_what_may_tie_is_named(cells):
    weights, mtt, rates = sweeps(cells)
    assert [sweep.axes for sweep in (weights, mtt, rates)] == [WEIGHT, WEIGHT, RATES]
    assert weights.best.entry.row.values == {WEIGHT[0]: 0.3}
    # Of 60..63 and 70..73 the difference is 10; of 70..71.5 it is 0.75, within Welch's interval.
    welch = stats.ttest_ind(NUMBERS[1], NUMBERS[2], equal_var=False).pvalue
    assert welch > 0.05 > stats.ttest_ind(NUMBERS[1], NUMBERS[0], equal_var=False).pvalue
    assert [cell.entry.row.values[WEIGHT[0]] for cell in weights.ties] == [1]
    assert rates.best.entry.row.values == {RATES[0]: 10, RATES[1]: 0.1}
    assert (len(rates.measured), len(rates.cells)) == (5, 6)


def test_markdown_latex_and_csv_show_the_sweep(mine):
    table = tables.load("mine")
    records = records_of(table)
    text = writers.write(["mine"], "smoke", records)
    lines = [line for line in text.splitlines() if line.startswith("| NSD over")]
    assert ["guided_weight 0.3" in lines[0], "71.5 ± 1.1" in lines[0]] == [True, True]
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert cells[2] == "guided_weight 0.3" and cells[-2:] == ["guided_weight 1", "3 of 3"]
    cells = [cell.strip() for cell in lines[1].strip("|").split("|")]
    assert cells[2] == "lr_syn 10, lr_kernels 0.1 (best of the 5 of 6 measured)"
    assert cells[-1] == "5 of 6"
    assert "held-out accuracies" in text and "that were set aside" in text
    (part,) = json.loads(writers.write(["mine"], "smoke", records, "json"))["tables"]
    assert [sweep["best"] for sweep in part["sweeps"]] == [
        "guided_weight 0.3", "guided_weight 0",
        "lr_syn 10, lr_kernels 0.1 (best of the 5 of 6 measured)",
    ]  # fmt: skip
    latex = writers.write(["mine"], "smoke", records, "latex")
    assert "\\label{tab:mine-smoke-sweeps}" in latex
    assert "NSD over guided\\_weight & " in latex
    rows = list(csv.DictReader(io.StringIO(writers.write(["mine"], "smoke", records, "csv"))))
    assert [row["row"] for row in rows][:2] == ["NSD, guided_weight 0", "NSD, guided_weight 0.3"]
    assert float(rows[1]["mean"]) == 71.5 and rows[-1]["status"] == "not run"


def test_on_a_test_split_nothing_is_named_and_nothing_is_bold(mine):
    mine.write_text(TABLE.replace("Digits16-holdout300-seed0", "Digits16"))
    table = tables.load("mine")
    records = records_of(table)
    cells = collect(table, "smoke", records)
    assert [sweep.best for sweep in sweeps(cells)] == [None] * 3
    document = build(table, "smoke", records)
    measured, swept = document.grids[:2]
    assert measured.best == frozenset()
    assert {row[2] for row in swept.rows} == {"not named: test split"}
    (note,) = [note for note in document.notes if "not honest" in note]
    assert "Digits16-holdout5000-seed0" in note
    text = writers.write(["mine"], "smoke", records, "latex")
    assert "textbf" not in text


def test_one_setting_is_a_line_with_error_bars_a_sweep(cells):
    shown = [cell for cell in cells if tuple(cell.entry.row.values) == WEIGHT]
    figure = figures.draw_over_setting(shown)
    (place,) = figure.axes
    assert [text.get_text() for text in place.get_xticklabels()] == ["0", "0.3", "1"]
    assert place.get_xlabel() == "guided_weight" and place.get_ylabel() == "held-out accuracy in %"
    for container, numbers in zip(place.containers, (NUMBERS[:3], NUMBERS[3:5]), strict=True):
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), np.mean(numbers, axis=1))
        for segment, values in zip(bars.get_segments(), numbers, strict=True):
            known = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
            np.testing.assert_allclose(segment[:, 1], known, rtol=1e-6)
    assert [text.get_text() for text in place.get_legend().texts] == ["NSD", "MTT"]
    ticks = [0, 2]  # of MTT, which has no point at 0.3
    drawn = np.asarray(place.containers[1].lines[0].get_xdata(), float)
    np.testing.assert_allclose(drawn, ticks, atol=0.1)


def test_two_settings_are_a_heat_map(cells):
    shown = [cell for cell in cells if tuple(cell.entry.row.values) == RATES]
    place = figures.draw_over_settings(shown, RATES).axes[0]
    values = np.ma.filled(place.images[0].get_array().astype(float), np.nan)
    means = [
        [np.mean(NUMBERS[5 + 3 * x + y]) if 3 * x + y < 5 else np.nan for x in (0, 1)]
        for y in range(3)
    ]
    np.testing.assert_allclose(values, means)
    assert [text.get_text() for text in place.get_xticklabels()] == ["10", "15"]
    assert [text.get_text() for text in place.get_yticklabels()] == ["0.1", "0.2", "1"]


def test_sweeps_of_the_same_settings_share_a_figure_with_its_numbers(mine, tmp_path):
    table = tables.load("mine")
    records = records_of(table)
    paths = figures.write_figures([table], "smoke", records, tmp_path / "figures")
    stems = ["mine-objective-guided_weight", "mine-optimiser-lr_syn-optimiser-lr_kernels"]
    assert [path.name for path in paths] == [
        f"{stem}.{form}" for stem in stems for form in ("png", "pdf", "svg", "csv")
    ]
    rows = list(csv.DictReader(io.StringIO(paths[3].read_text())))
    assert [(row["row"], row["guided_weight"], float(row["mean"])) for row in rows] == [
        ("NSD", "0", 61.5), ("NSD", "0.3", 71.5), ("NSD", "1", 70.75),
        ("MTT", "0", 51.5), ("MTT", "1", 50.5),
    ]  # fmt: skip
    page = render(["mine"], "smoke", records, tmp_path)
    assert page.count('<figure class="figure">') == 2
    assert "NSD over guided_weight" in page
    assert "<svg viewBox" not in page.partition("<h3>Sweeps")[0], "points have no dots beside"


def test_texts_of_figures_have_the_style_of_all(cells):
    for cell_axes in (WEIGHT, RATES):
        shown = [cell for cell in cells if tuple(cell.entry.row.values) == cell_axes]
        draw = figures.draw_over_setting(shown) if len(cell_axes) == 1 else None
        figure = draw or figures.draw_over_settings(shown, cell_axes)
        place = figure.axes[0]
        sizes = {place.title.get_size(), place.xaxis.label.get_size(), place.yaxis.label.get_size()}
        assert sizes == {8.0}
