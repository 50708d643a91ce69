"""What is said of judged sets: on the screen, in every kind of report, and as rows."""

import csv
import io
import json
from types import SimpleNamespace

import pytest

from nsdbench.bench.cell import Cell
from nsdbench.bench.facts import Budget, Claim, Judged, Provenance, StoredTensor, Training
from nsdbench.bench.record import Record
from nsdbench.report import judged
from nsdbench.report.writers import write_judged
from nsdbench.spread import summary


def record(
    claimed=None, random=(40.0, 41.0, 42.0, 43.0, 44.0), values=((60.0, 61.0, 62.0, 63.0, 64.0),)
):
    entry = StoredTensor(kind="coefficient", name="images", shape=(10, 3, 32, 32), bits=983_040)
    return Record.done(
        Cell("CIFAR10-JPEG", 1, "images_best-0123456789ab", "convnet3-w128", "mtt", "judged"),
        recipe=SimpleNamespace(values={"data": {"preprocessing": "zca"}}, hash="r"),
        protocol_hash="p",
        seeds=len(values), repeats=5,
        accuracy=summary(values),
        budget=Budget(stored_bits=983_040, limit_bits=983_040, strict_ipc=1.0, decoded_images=10,
                      entries=(entry,), listed=("hard labels implied by order",)),
        training=Training(steps=1001, num_images=10, lr=(0.02,)),
        provenance=Provenance(commit="abc"),
        judged=Judged(
            taken_for="images and labels, as MTT's code saves them",
            files={"images_best.pt": "0" * 64, "labels_best.pt": "1" * 64},
            notes=("a note",), random=None if random is None else summary([random]),
            random_cell="x", claimed=claimed,
        ),
    )  # fmt: skip


FAILED = Record.failed(
    Cell("Digits", 1, "bad-0", "convnet2-w16", "dc", "judged"), "diverged", "NaN"
)


def test_lines_on_the_screen():
    found = judged.lines(record(Claim(mean=61.5, std=1.0)))
    assert found[0] == (
        "62.00 ± 1.41 % over 5 networks, 95 % interval 60.04 to 63.96; 1001 steps at rate 0.02 on "
        "10 images"
    )
    # both have the sample variance 2.5 and n = 5: nu = 8, t = 2.306, half width t sqrt(2 * 2.5 / 5)
    assert found[1] == (
        "Random at 1 image per class: 42.00 ± 1.41 %; gain +20.00, 95 % interval +17.69 to +22.31"
    )
    # U = t(.975, 4) sqrt(2.5 / 5 + 1 / 5) = 2.776 * 0.8367
    assert found[2] == (
        "claimed 61.5 ± 1.0 %: inconclusive on a lossy copy (difference +0.50 ± 2.32)"
    )
    assert judged.lines(record(random=None)) == found[:1]
    assert judged.lines(FAILED) == ["failed: NaN"]
    two = judged.lines(record(values=((60.0, 61.0), (62.0, 63.0))))
    assert two[0].startswith("61.50 ± 1.12 % over 2 sets x 5 networks; 1001 steps")


def test_what_a_set_stores():
    assert judged.stored(record()) == (
        "stores 983,040 bits as float32, the room of 1.00 images per class: images [10, 3, 32, 32]"
        "; not counted: hard labels implied by order"
    )


@pytest.mark.parametrize("kind", ["markdown", "latex"])
def test_every_kind_of_report(kind):
    text = write_judged([record(Claim(mean=50.0)), FAILED], kind)
    for part in ("+20.0 (+17.7 to +22.3)", "+12.0", "above on a lossy copy", "50.0", "a note"):
        assert part in text, part
    assert "NaN" in text and "1 set of anybody" in text
    assert "0 sets of anybody" in write_judged([], kind)


def test_rows():
    (row,) = csv.DictReader(io.StringIO(write_judged([FAILED, record(Claim(mean=50.0))], "csv")))
    assert row["mean"] == "62.0" and row["gain"] == "20.0" and row["claimed_mean"] == "50.0"
    assert row["preprocessing"] == "zca" and row["verdict"] == "above on a lossy copy"
    assert float(row["gain_low"]) == pytest.approx(17.694, abs=1e-3) and row["claimed_std"] == ""
    (same,) = json.loads(write_judged([record(Claim(mean=50.0))], "json"))["judged"]
    assert {key: str(value) for key, value in same.items() if value is not None} == {
        key: value for key, value in row.items() if value
    }
    with pytest.raises(ValueError, match="unknown report"):
        write_judged([], "docx")


def test_cells_of_tables_and_random_are_left_out():
    plain = record().model_copy(update={"judged": None})
    assert judged.judged([plain, record(), FAILED]) == [record()]
