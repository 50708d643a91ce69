"""The page: it holds all that it shows, escapes all names, and draws numbers where they are."""

import base64
import hashlib
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nsdbench import methods
from nsdbench.bench import tables
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.evaluation import protocols
from nsdbench.report.content import collect
from nsdbench.report.grids import measured_matrices
from nsdbench.report.page.charts import curve, panels
from nsdbench.report.page.details import describe
from nsdbench.report.page.render import page_path, render
from nsdbench.spread import summary

RESULTS = Path(__file__).parents[2] / "results"
EVIL = """<script>alert(1)</script>"'&{{ 7 * 7 }}<img src=x onerror=alert(2)>"""
EVIL_FOLDER = """"'><script>alert(3)</script>&"""
TABLE = """
name = "evil"
title = '''{evil}'''
source = '''{evil}'''
footnotes = ['''{evil}''']
[[rows]]
label = '''{evil}'''
family = "coreset"
method = "random"
note = '''{evil}'''
[scales.smoke]
protocol = "common-2ep"
seeds = 1
repeats = 1
note = '''{evil}'''
columns = [
    {{ dataset = "Digits16", ipc = 1, arch = "convnet1-w8" }},
    {{ dataset = '''folder:/absent/{folder}@16''', ipc = 1, arch = "convnet1-w8" }},
]
"""


def record_of(entry, values, **fields):
    """Make the record of a cell."""
    return Record.done(
        entry.cell, recipe=entry.recipe, protocol=protocols.get(entry.cell.protocol),
        seeds=entry.seeds, repeats=entry.repeats, accuracy=summary([values]), **fields,
    )  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text outside of script and style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._raw = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_data(self, data):
        self.text += "" if self._raw else data


def tags(text, name):
    return [attributes for tag, attributes in Tags(text).tags if tag == name]


@pytest.fixture(scope="module")
def page():
    """The page of the committed records that the README names."""
    records, _ = Store(RESULTS).records("small")
    return render(["table1", "table2", "table5", "table6"], "small", records, RESULTS)


def test_it_weighs_little_and_needs_nothing_else(page):
    assert len(page.encode()) < 3e6
    addresses = [
        value
        for _, attributes in Tags(page).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert len(addresses) > 100
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "url(" not in page and "@import" not in page and "fetch(" not in page
    assert not any(name == "style" for _, attributes in Tags(page).tags for name in attributes)


def test_its_policy_names_its_own_script_and_style_and_no_other_source(page):
    (policy,) = [x["content"] for x in tags(page, "meta") if "http-equiv" in x]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for name in ("script", "style"):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", page, flags=re.DOTALL)
        digest = hashlib.sha256(content.encode()).digest()
        assert directives.pop(f"{name}-src") == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert directives == {"default-src": "'none'", "img-src": "data:"}


def test_the_same_records_give_the_same_bytes_within_ten_seconds_of_a_core(page):
    started = time.process_time()
    records, _ = Store(RESULTS).records("small")
    names = ["table1", "table2", "table5", "table6"]
    assert render(names, "small", records[::-1], RESULTS) == page
    assert time.process_time() - started < 10


def test_every_cell_is_a_row_and_opens_into_details_that_are_there_once(page):
    rows = [x for x in tags(page, "tr") if x.get("class") == "cell"]
    entries = [
        (name, entry.cell.id)
        for name in ("table1", "table2", "table5", "table6")
        for entry in tables.load(name).entries("small")
    ]
    assert [row["id"] for row in rows] == [f"{name}/{cell_id}" for name, cell_id in entries]
    kept = [x["id"] for x in tags(page, "template") if x["id"].startswith("details-")]
    assert kept == list(dict.fromkeys(row["data-details"] for row in rows))
    links = {x["href"].removeprefix("#") for x in tags(page, "a") if "/" in x["href"]}
    assert links == {row["id"].replace("+", "%2B").replace("=", "%3D") for row in rows}


def test_a_set_that_several_networks_judge_is_drawn_once(page):
    """Every picture is in the page once, and the details of a cell name that of its recipe."""
    found, _ = Store(RESULTS).records("small")
    names = {f"details-{record.cell.id}": f"picture-{record.pictures_name}" for record in found}
    shown: dict[str, str] = {}
    for tag, attributes in Tags(page).tags:
        if tag == "template":
            within = attributes["id"]
        elif "data-picture" in attributes:
            shown[within] = attributes["data-picture"]
    assert len(shown) > 80 and shown.items() <= names.items()
    drawn = [x["id"] for x in tags(page, "template") if x["id"].startswith("picture-")]
    assert len(drawn) == len(set(drawn)) == page.count('<figure class="pictures">')
    assert set(drawn) == set(shown.values()) and len(drawn) < len(shown) - 5


def test_the_gain_over_random_is_that_of_the_report(page):
    records, _ = Store(RESULTS).records("small")
    reports = {x.entry.cell.id: x for x in collect(tables.load("table1"), "small", records)}
    rows = re.findall(r'<tr id="table1/(.*?)".*?</tr>', page, flags=re.DOTALL)
    assert len(rows) == len(reports)
    nsd = "FashionMNIST-ipc1-nsd-convnet3-w32-common-300ep"
    (row,) = re.findall(rf'<tr id="table1/{nsd}".*?</tr>', page, flags=re.DOTALL)
    gain = reports[nsd].gain
    low, high = gain.interval
    assert f'data-sort="{gain.mean}" title="95 % interval {low:+.1f} to {high:+.1f}"' in row
    assert f">{gain.mean:+.1f}<" in row and 30 < gain.mean < 40
    assert dict(describe(reports[nsd]).facts)["gain over Random"] == reports[nsd].gain_over_random


def test_published_numbers_of_other_data_are_not_beside_a_measured_one(page):
    """At scale small FashionMNIST has none in Table 1, CIFAR10-JPEG stands for CIFAR10."""
    for row in re.findall(r'<tr id="table1/.*?</tr>', page, flags=re.DOTALL):
        is_printed = 'title="published"' in row
        assert not is_printed or 'data-dataset="CIFAR10-JPEG"' in row


def test_names_of_users_are_text_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "evil.toml").write_text(TABLE.format(evil=EVIL, folder=EVIL_FOLDER))
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    measured, missing = tables.load("evil").entries("smoke")
    records = [
        record_of(measured, [50.0], provenance={"command": EVIL, "device": EVIL}),
        Record.failed(missing.cell, "error", EVIL),
    ]
    images = tmp_path / "images" / "smoke"
    images.mkdir(parents=True)
    (images / f"{records[0].pictures_name}.npz").write_bytes(b"no archive")
    text = render(["evil"], "smoke", records, tmp_path)
    parsed = Tags(text)
    assert len(tags(text, "script")) == 1 and tags(text, "img") == []
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    (choice,) = [x for x in tags(text, "option") if "alert" in x["value"]]
    assert choice["value"] == missing.cell.dataset
    for place in (f"failed: {EVIL}", "No picture: "):
        assert place in parsed.text
    assert parsed.text.count(EVIL) >= 8 and "49" not in parsed.text


def test_a_cell_opens_into_what_its_record_and_recipe_say():
    (entry,) = [
        entry
        for entry in tables.load("table1").entries("small")
        if (entry.row.label, entry.cell.dataset, entry.cell.ipc) == ("NSD", "FashionMNIST", 1)
    ]
    record = Store(RESULTS).read("small", entry.cell.id)
    (cell,) = [x for x in collect(tables.load("table1"), "small", [record]) if x.record]
    shown = describe(cell)
    recipe = methods.resolve("nsd", "FashionMNIST", 1, "small")
    found = {
        f"{section}.{setting.name}": (setting.value, shown.sources[setting.source - 1])
        for section, settings in shown.settings
        for setting in settings
    }
    assert found["optimiser.iterations"] == ("500", recipe.sources["optimiser.iterations"])
    assert {name: source for name, (_, source) in found.items()} == recipe.sources
    assert dict(shown.provenance)["commit"] == record.provenance.commit
    assert "gain over Random" not in dict(shown.facts), "nothing else is measured"
    assert dict(shown.facts)["steps"] == f"{record.training.steps:,}"
    assert shown.source == methods.load("nsd").source
    older = record.model_copy(update={"recipe_hash": "another"})
    (cell,) = [x for x in collect(tables.load("table1"), "small", [older]) if x.record]
    stale = describe(cell)
    assert stale.settings[0][1][0].source == 0 and stale.sources == (), "sources are of today"
    assert "recipe has changed since" in stale.reason


def test_dots_and_bars_lie_where_their_numbers_are():
    table = tables.load("table1")
    values = {"NSD": [68.0, 69.0, 70.0], "MTT": [45.0, 46.0, 47.0], "Random": [15.0]}
    records = [
        record_of(entry, values[entry.row.label])
        for entry in table.entries("paper")
        if entry.row.label in values and (entry.cell.dataset, entry.cell.ipc) == ("CIFAR10", 1)
    ]
    cells = collect(table, "paper", records)
    (matrix,) = measured_matrices(table, table.settings("paper").columns, cells)
    shown = panels(matrix)
    assert [panel.title for panel in shown] == matrix.names, "all have published numbers"
    panel = shown[0]
    (x0, first), (x1, last) = ((x, float(text)) for x, text in (panel.ticks[0], panel.ticks[-1]))
    assert panel.left <= x0 < x1 <= panel.right and first < last
    marks = {mark.label: mark for mark in panel.marks}
    assert [mark.label for mark in panel.marks] == [
        line.label for line in matrix.lines if line.values[0].entry.published
    ]

    def number(x):
        return first + (x - x0) / (x1 - x0) * (last - first)

    for record in records:
        label = next(k for k, v in values.items() if summary([v]) == record.accuracy)
        mark, mean = marks[label], record.accuracy.mean
        low, high = record.accuracy.interval or (mean, mean)
        ends = (mark.measured.low, mark.measured.x, mark.measured.high)
        assert [number(x) for x in ends] == pytest.approx([low, mean, high], abs=0.05)
    assert number(marks["NSD"].published.x) == pytest.approx(68.5, abs=0.05)
    assert number(marks["NSD"].published.high) == pytest.approx(69.3, abs=0.05)
    assert marks["DC"].measured is None and not marks["DC"].is_best
    assert marks["NSD"].is_best and not marks["MTT"].is_best
    heights = [mark.y for mark in panel.marks]
    assert len({b - a for a, b in zip(heights, heights[1:], strict=False)}) == 1
    assert 0 < heights[0] and heights[-1] < panel.bottom < panel.height


@pytest.mark.parametrize(("low", "high"), [(0, 100), (81.2, 81.3), (50, 50), (0, 0), (99.9, 100)])
def test_an_axis_has_two_to_seven_ticks_that_enclose_its_numbers(low, high):
    entry = tables.load("table6").entries("smoke")[0]
    record = record_of(entry, [50.0])
    accuracy = summary([[low, high]])
    (cell,) = [
        replace(x, record=record.model_copy(update={"accuracy": accuracy}))
        for x in collect(tables.load("table6"), "smoke", [record])
        if x.record
    ]
    other = replace(cell, entry=replace(cell.entry, row=tables.load("table6").rows[1]))
    columns = tables.load("table6").settings("smoke").columns
    (matrix,) = measured_matrices(tables.load("table6"), columns, [cell, other])
    ticks = [float(text) for _, text in panels(matrix)[0].ticks]
    assert 2 <= len(ticks) <= 7 and ticks[0] <= accuracy.mean <= ticks[-1]
    assert len(set(np.diff(ticks).round(6))) == 1


def test_a_loss_that_was_not_finite_breaks_its_curve():
    drawn = curve([(0, 2.0), (10, 1.0), (20, None), (30, 1.5), (40, 0.0)])
    width, height = drawn.width, drawn.height
    points = [
        [tuple(map(float, point.split(","))) for point in path[1:].split()] for path in drawn.paths
    ]
    assert points == [
        [(0, 0), (width / 4, height / 2)],
        [(3 * width / 4, height / 4), (width, height)],
    ]
    assert (drawn.highest, drawn.lowest, drawn.first, drawn.last) == ("2", "0", 0, 40)
    assert curve([]) is curve([(0, 1.0)]) is curve([(0, None), (5, 1.0)]) is None
    flat = curve([(0, 1.0), (5, 1.0)])
    assert flat.paths == (f"M0.0,{height / 2} {width:.1f},{height / 2}",)


def test_figures_are_drawn_into_the_page(tmp_path):
    table = tables.load("figure3")
    records = [record_of(entry, [50.0]) for entry in table.entries("smoke")[:3]]
    text = render(["figure3", "figure4"], "smoke", records, tmp_path)
    (picture,) = tags(text, "img")  # nothing is computed of the other
    kind, _, content = picture["src"].partition(";base64,")
    assert kind == "data:image/svg+xml" and b"<svg" in base64.b64decode(content)
    assert picture["alt"] == table.title


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("a.html", "a.html"),
        ("b/c.htm", "b/c.htm"),
        ("d", "d/index.html"),
        ("v1.2", "v1.2/index.html"),
    ],
)
def test_a_page_is_a_file_or_the_index_of_a_folder(target, path):
    assert page_path(Path(target)) == Path(path)


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="unknown table 'tabel1'.*did you mean table1"):
        render(["tabel1"], "smoke", [], tmp_path)
    with pytest.raises(ValueError, match="unknown protocol 'usual'"):
        render(["table1"], "smoke", [], tmp_path, "usual")
