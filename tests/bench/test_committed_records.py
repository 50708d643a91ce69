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


def records() -> list[Record]:
    found, warnings = Store(RESULTS).records()
    assert warnings == []
    return [record for record in found if record.status == "done"]


def test_there_are_records():
    assert len(records()) >= 90


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
