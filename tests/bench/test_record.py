"""Records: one form, read back to the same bytes; what is not one is named, never a traceback."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nsdbench import methods
from nsdbench.bench.cell import Cell
from nsdbench.bench.facts import Budget, Cost, Distillation, Training
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.bench.verdict import Published, verdict
from nsdbench.errors import DataCorrupt
from nsdbench.evaluation import protocols
from nsdbench.spread import summary
from nsdbench.sums import notice_without_sum

RESULTS = Path(__file__).parents[2] / "results"
COMMITTED = sorted((RESULTS / "records" / "small").glob("*.json"))
CELL = Cell("Digits16", 1, "nsd", "convnet2-w32", "common-150ep", "smoke")
PROTOCOL = protocols.get(CELL.protocol)


@pytest.fixture(scope="module")
def recipe():
    return methods.resolve(CELL.method, CELL.dataset, CELL.ipc, CELL.scale)


@pytest.fixture
def result(recipe):
    return Record.done(
        CELL,
        recipe=recipe,
        protocol=PROTOCOL,
        seeds=1,
        repeats=2,
        accuracy=summary([[50.0, 52.0]]),
        budget=Budget(stored_bits=90, limit_bits=100, decoded_images=480),
        cost=Cost(seconds={"experts": 1.0, "distill": 2.0}, peak_bytes=7),
        training=Training(steps=301, num_images=480),
        distillation=Distillation(iterations=3, experts={"name": "x"}),
    )


def test_there_are_committed_records():
    assert len(COMMITTED) >= 90


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_record_keeps_its_bytes(path):
    text = path.read_text(encoding="utf-8")
    assert Record.parse(text).text() == text


def test_a_result_is_whole(result, recipe):
    assert result.failure is None and result.status == "done"
    assert (result.recipe, result.recipe_hash) == (recipe.values, recipe.hash)
    assert (result.protocol["name"], result.protocol_hash) == (CELL.protocol, PROTOCOL.hash)
    assert (result.images, result.batch, result.budget.percent) == (480, 256, 90.0)
    assert result.distillation.experts == {"name": "x"}, "objectives add facts of their own"
    assert Record.parse(result.text()) == result
    content = json.loads(result.text())
    assert content["cell"]["id"] == CELL.id and content["schema"] == 1
    assert "data" not in content and "failure" not in content, "what is not known is left out"
    assert list(content) == sorted(content) and len(result.text().splitlines()) == len(content) + 2


def test_the_full_data_has_no_budget(recipe):
    parts = {"seeds": 1, "repeats": 1, "accuracy": summary([[9.0]]), "budget": None}
    full = Record.done(
        CELL, recipe=recipe, protocol=PROTOCOL, **parts, training=Training(num_images=10)
    )
    assert '"budget": null' in full.text()
    assert (full.images, full.batch) == (10, 10), "a set smaller than a batch is a batch"


def test_a_failure_says_why(recipe):
    failed = Record.failed(CELL, "error", "no\nmore", recipe=recipe, traceback="deep", seeds=3)
    assert (failed.status, failed.recipe_hash, failed.seeds) == ("failed", recipe.hash, 3)
    assert (failed.failure.line, failed.failure.traceback) == ("no", "deep")
    assert Record.parse(failed.text()) == failed
    assert Record.failed(CELL, "memory", "").failure.line == "memory"


def nudged(record):
    """Return an interval with one end that is a thousandth of a per cent off."""
    low, high = record["accuracy"]["ci95"]
    return [low - 1e-3, high]


def damaged(change):
    """Return the text of a committed record after a change of its content, as one without sum."""
    content = json.loads(COMMITTED[1].read_text())
    del content["sum"]
    return json.dumps(content | change(content))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: {"schema": 2}, "schema: Input should be 1"),
        (lambda r: {"status": "maybe"}, "'maybe'"),
        (lambda r: {"cell": 5}, "cell: "),
        (lambda r: {"cell": {"dataset": "Digits16", "id": "x"}}, "cell.ipc: Field required"),
        (lambda r: {"cell": r["cell"] | {"id": "another"}}, "id 'another' of the cell"),
        (lambda r: {"seeds": [1]}, "seeds: "),
        (lambda r: {"seeds": "1"}, "seeds: "),
        (
            lambda r: {
                "accuracy": {{"std": "stds"}.get(k, k): v for k, v in r["accuracy"].items()}
            },
            "accuracy.std: Field required",
        ),
        (lambda r: {"accuracy": r["accuracy"] | {"ci95": -1}}, "accuracy.ci95: "),
        (lambda r: {"accuracy": r["accuracy"] | {"ci95": [1.0, 2.0]}}, "is not that of the values"),
        (lambda r: {"accuracy": r["accuracy"] | {"ci95": nudged(r)}}, "is not that of the values"),
        (lambda r: {"accuracy": r["accuracy"] | {"ci95": None}}, "ci95 None of"),
        (lambda r: {"accuracy": r["accuracy"] | {"mean": 99.0}}, "mean 99.0"),
        (lambda r: {"accuracy": r["accuracy"] | {"values": []}}, "no values"),
        (lambda r: {"cost": {"seconds": {"experts": 1.0, "distill": "2"}}}, "seconds.distill: "),
        (lambda r: {"budget": 7}, "budget: "),
        (lambda r: {"more": 7}, "more: Extra inputs"),
        (lambda r: {"failure": {"kind": "error", "reason": ""}}, "failure: "),
    ],
)
def test_what_is_wrong_is_said(change, fault):
    with pytest.raises(ValueError) as raised:
        Record.parse(damaged(change))
    assert fault in str(raised.value) and "\n" not in str(raised.value)


def test_what_changed_after_it_was_written_is_no_record():
    text = COMMITTED[1].read_text()
    content = json.loads(text)
    for name in set(content) - {"sum"}:
        changed = {**content, name: None if content[name] is not None else 5}
        with pytest.raises(ValueError, match="its content has changed since it was written"):
            Record.parse(json.dumps(changed))
    assert Record.parse(json.dumps(content, indent=3)) == Record.parse(text), "layout is no content"


def test_a_record_without_a_sum_is_read_with_one_notice(caplog):
    notice_without_sum.cache_clear()
    for path in COMMITTED[:3]:
        content = json.loads(path.read_text())
        del content["sum"]
        assert Record.parse(json.dumps(content)) == Record.parse(path.read_text())
    assert caplog.messages == [
        "a record of an older version has no sum of its content: damage to it would not be seen"
    ]


def test_nothing_but_a_record_is_taken_for_one(tmp_path):
    """Every file in a record's place that is none is one warning that names it."""
    folder = tmp_path / "records" / "small"
    folder.mkdir(parents=True)
    (folder / COMMITTED[0].name).write_bytes(COMMITTED[0].read_bytes())
    texts = {"deep": "[" * 10**5, "list": "[]", "number": "5", "cut": '{"schema": 1, "sta', "": ""}
    for name, text in texts.items():
        (folder / f"{name}x.json").write_text(text)
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "folder.json").mkdir()
    records, warnings = Store(tmp_path).records("small")
    assert [record.cell.id for record in records] == [COMMITTED[0].stem]
    assert len(warnings) == len(texts) + 2
    for warning in warnings:
        assert "is not a record: " in warning and str(folder) in warning and len(warning) < 400
    for path in folder.glob("*x.json"):
        with pytest.raises(DataCorrupt, match=str(path)):
            Store(tmp_path).read("small", path.stem)


def places(value, above=()):
    """List the places of all values in nested ones, of lists the first."""
    yield above
    inner = enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else inner:
        yield from places(part, (*above, key))


def test_no_value_in_any_place_is_a_traceback():
    """Whatever a field holds, the record is refused in words or can be used."""
    content = json.loads(COMMITTED[1].read_text())
    content["distillation"]["curve"] = content["distillation"]["curve"][:1]
    del content["sum"]
    read = 0
    for place in list(places(content))[1:]:
        for value in (None, 5, -1.5, "x", [], {}, [1], True, 1e308, 10**400, "\ud800"):
            changed = json.loads(json.dumps(content))
            part = changed
            for key in place[:-1]:
                part = part[key]
            part[place[-1]] = value
            try:
                record = Record.parse(json.dumps(changed))
            except ValueError:
                continue
            read += 1
            assert Record.parse(record.text()) == record
            assert (record.batch is None) or record.batch <= record.images
            paper = replace(record.cell, scale="paper")
            published = Published(paper.dataset, paper.ipc, paper.arch, 50.0, 1.0, paper.protocol)
            assert str(verdict(record.model_copy(update={"cell": paper}), published))
    assert read > 100
