"""Figures: the numbers in them, that they show what was measured, and which cells they ask for."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from nsdbench import data, methods
from nsdbench.bench import tables
from nsdbench.bench.cost import estimate
from nsdbench.bench.record import Record
from nsdbench.evaluation import protocols
from nsdbench.report import collect, figures
from nsdbench.spread import summary

AXES = ("parameterization.t3", "parameterization.t1")


def record_of(entry, values):
    """Make the record of a cell."""
    return Record.done(
        entry.cell,
        recipe_hash=entry.recipe.hash,
        protocol_hash=protocols.get(entry.cell.protocol).hash,
        seeds=entry.seeds,
        repeats=entry.repeats,
        accuracy=summary([values]),
    )


def files_of(stem):
    """Name the files of a figure."""
    return [f"{stem}.{suffix}" for suffix in ("png", "pdf", "svg", "csv")]


def lines(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def measured():
    """Return records of all cells of Figure 3 at scale smoke but the last: 50.0, 50.5, ..."""
    entries = tables.load("figure3").entries("smoke")
    return [record_of(entry, [50.0 + 0.5 * i]) for i, entry in enumerate(entries[:-1])]


def test_numbers_over_settings(measured):
    table = tables.load("figure3")
    assert table.axes == AXES
    cells = collect(table, "smoke", measured)
    rows = lines(figures.settings_csv(cells, AXES))
    assert list(rows[0]) == [
        "row", "dataset", "ipc", "arch", "protocol", "t3", "t1", "status", "mean", "std", "n",
        "ci95_low", "ci95_high",
    ]  # fmt: skip
    for i, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        assert f"t3 {row['t3']}, t1 {row['t1']}" == cell.entry.row.label
        assert int(row["ipc"]) == cell.entry.cell.ipc
        if i < len(cells) - 1:
            assert (row["status"], float(row["mean"]), row["n"]) == ("measured", 50 + 0.5 * i, "1")
        else:
            assert (row["status"], row["mean"], row["n"]) == ("not run", "", "")


def test_figures_are_files_with_the_same_bytes_every_time(tmp_path, measured):
    chosen = [tables.load(name) for name in ("figure3", "figure4", "table1")]
    assert figures.write_figures(chosen, "smoke", [], tmp_path) == [], "nothing is measured"
    paths = figures.write_figures(chosen, "smoke", measured, tmp_path)
    assert [path.name for path in paths] == files_of("figure3")
    first = [path.read_bytes() for path in paths]
    assert {row["protocol"] for row in lines(paths[-1].read_text())} == {"common-60ep"}
    assert figures.write_figures(chosen, "smoke", measured, tmp_path, "dc") == [], (
        "of this protocol"
    )
    steps = "common-equal-steps-9"
    judged = [r.model_copy(update={"cell": replace(r.cell, protocol=steps)}) for r in measured]
    others = figures.write_figures(chosen, "smoke", judged, tmp_path, steps)
    assert [path.name for path in others] == files_of(f"figure3-{steps}")
    figures.write_figures(chosen, "smoke", measured, tmp_path)
    assert [path.read_bytes() for path in paths] == first


def test_a_heat_map_is_bright_where_the_number_is_high(measured):
    table = tables.load("figure3")
    cells = [cell for cell in collect(table, "smoke", measured) if cell.entry.cell.ipc == 1]
    drawing = figures.Drawing("figure", figures.draw_over_settings(cells, AXES), "")
    pixels = imread(io.BytesIO(drawing.render("png")))[..., :3]
    yellow = np.abs(pixels - [0.993, 0.906, 0.144]).max(axis=2) < 0.02  # the ends of viridis
    violet = np.abs(pixels - [0.267, 0.005, 0.329]).max(axis=2) < 0.02
    values = {(c.entry.recipe.values["parameterization"]["t3"],
               c.entry.recipe.values["parameterization"]["t1"]): c.record.accuracy.mean
              for c in cells}  # fmt: skip
    highest, lowest = max(values, key=values.get), min(values, key=values.get)
    assert (highest, lowest) == ((12, 1), (4, 1))
    half = pixels.shape[1] * 0.7  # left of the colour bar
    columns = {name: np.nonzero(found)[1] for name, found in (("y", yellow), ("v", violet))}
    inside = {name: np.median(found[found < half]) for name, found in columns.items()}
    assert inside["v"] < inside["y"], "the smallest t3 is on the left"


def test_stale_numbers_are_not_drawn_and_protocols_have_their_own_panels(measured):
    measured[0] = measured[0].model_copy(update={"recipe_hash": "another"})
    cells = [c for c in collect(tables.load("figure3"), "smoke", measured) if c.entry.cell.ipc == 1]
    assert [cell.status for cell in cells[:2]] == ["stale", "measured"]
    other = [
        replace(c, entry=replace(c.entry, cell=replace(c.entry.cell, protocol="dc"))) for c in cells
    ]
    drawn = figures.draw_over_settings([*cells, *other], AXES)
    panels = [place for place in drawn.axes if place.get_title()]
    assert [place.get_title().rpartition(", ")[2] for place in panels] == ["common-60ep", "dc"]
    for place in panels:
        texts = sorted(text.get_text() for text in place.texts)
        numbers = [f"{50 + 0.5 * i:.1f}" for i in range(1, len(cells))]
        assert texts == sorted(["stale", *numbers])
        values = np.ma.filled(place.images[0].get_array().astype(float), np.nan)
        assert np.nanmin(values) == 50.5, "the stale 50.0 has no colour"
        assert np.isfinite(values).sum() == len(numbers)


def test_similarity_by_distance(tmp_path, caplog):
    random = np.random.default_rng(0)
    arrays = {}
    for name, length in (("batch", 5), ("height", 4), ("width", 3)):
        values = random.uniform(size=(length, length))
        arrays[name] = ((values + values.T) / 2).astype(np.float16)
    rows = lines(figures.similarity_csv(arrays))
    found = {(row["dimension"], row["distance"]): row for row in rows}
    assert len(found) == len(rows) == 1 + 3 + 2
    for name in arrays:
        length = len(arrays[name])
        by_distance = {}
        for i in range(length):
            for j in range(i + 1, length):
                distance = "" if name == "batch" else str(j - i)
                by_distance.setdefault(distance, []).append(float(arrays[name][i, j]))
        for distance, values in by_distance.items():
            row = found[name, distance]
            assert int(row["pairs"]) == len(values)
            assert float(row["mean"]) == pytest.approx(sum(values) / len(values), abs=1e-6)
    np.savez(tmp_path / "figure4.npz", **arrays)
    paths = figures.write_figures([tables.load("figure4")], "smoke", [], tmp_path)
    assert [path.name for path in paths] == files_of("figure4")
    assert imread(paths[0]).std() > 0.1
    (tmp_path / "figure4.npz").write_bytes(b"PK")
    assert figures.write_figures([tables.load("figure4")], "smoke", [], tmp_path) == []
    assert re.search("figure4.npz does not hold batch, height, width .*delete it", caplog.text)


@pytest.mark.parametrize("scale", tables.SCALES)
def test_figure_3_varies_t3_and_t1_alone_within_the_budget(scale):
    seen, images = set(), {}
    for entry in tables.load("figure3").entries(scale):
        base = methods.resolve("nsd", entry.cell.dataset, entry.cell.ipc, scale).values
        own = entry.recipe.values
        t3, t1 = own["parameterization"]["t3"], own["parameterization"]["t1"]
        iterations = 100 if scale == "small" else base["optimiser"]["iterations"]
        assert own == {
            **base,
            "parameterization": {**base["parameterization"], "t3": t3, "t1": t1},
            "optimiser": {**base["optimiser"], "iterations": iterations},
        }
        assert entry.row.label == f"t3 {t3}, t1 {t1}"
        spec = data.spec(entry.cell.dataset)
        protocol = protocols.get(entry.cell.protocol)
        cost = estimate(entry.recipe, spec, entry.cell.ipc, entry.cell.arch, protocol, 1, 1)
        shape = (entry.cell.ipc * spec.num_classes, *spec.image_shape)
        assert cost.stored_bytes <= 4 * np.prod(shape)
        assert t3 <= spec.image_shape[1]
        u1 = cost.num_images // (spec.num_classes * own["parameterization"]["num_kernel_sets"])
        assert t1 < u1
        assert (entry.cell.ipc, t3, t1) not in seen
        seen.add((entry.cell.ipc, t3, t1))
        images.setdefault(entry.cell.ipc, set()).add(cost.num_images)
    expected = {1: 1} if scale == "small" else {1: 1, 10: 1}
    assert {ipc: len(numbers) for ipc, numbers in images.items()} == expected
    half = data.spec(entry.cell.dataset).image_shape[1] // 2
    assert any(t3 < half for _, t3, _ in seen) and any(t3 > half for _, t3, _ in seen)
