"""The records in results/ are of the recipes and protocols that stand here now."""

from pathlib import Path

import pytest

from nsdbench import methods
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.evaluation import protocols

RESULTS = Path(__file__).parents[2] / "results"
# Cells whose recipe was corrected and that are not measured again yet, each with the reason.
STALE: dict[str, str] = {}
OF_USERS = ("smoke", "judged")  # scales of what commands leave here, which is not committed


def records() -> list[Record]:
    found, warnings = Store(RESULTS).records()
    assert warnings == []
    return [r for r in found if r.status == "done" and r.cell.scale not in OF_USERS]


def test_there_are_records():
    assert len(records()) >= 90


def test_committed_pictures_are_those_of_the_records():
    """A file that is left over is of an older recipe, or is named after a cell: rename it."""
    known = {f"{record.cell.scale}/{record.pictures_name}" for record in records()}
    images = RESULTS / "images"
    kept = {
        f"{path.parent.name}/{path.stem}"
        for path in images.glob("*/*.*")
        if path.parent.name not in OF_USERS
    }
    assert len(kept) > 80 and kept <= known


@pytest.mark.parametrize("record", records(), ids=lambda r: r.cell.scale + r.cell.id)
def test_a_committed_record_is_current(record):
    cell = record.cell
    recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
    is_current = (
        recipe.hash == record.recipe_hash
        and recipe.values == record.recipe
        and protocols.get(cell.protocol).hash == record.protocol_hash
    )
    assert is_current == (cell.id not in STALE), STALE.get(cell.id, "the record is stale")
