"""Records of the cells of declared tables, for the tests of reports."""

from nsdbench import methods
from nsdbench.bench import tables
from nsdbench.bench.record import Record
from nsdbench.evaluation import protocols
from nsdbench.spread import summary


def record_of(entry, values, **changes):
    """Make the record of a table's cell."""
    recipe_hash = "gone"
    if not entry.missing:
        recipe = methods.resolve(
            entry.cell.method, entry.cell.dataset, entry.cell.ipc, entry.cell.scale
        )
        recipe_hash = recipe.hash
    fields = {
        "cell": entry.cell,
        "recipe_hash": recipe_hash,
        "protocol": protocols.get(entry.cell.protocol),
        "seeds": entry.seeds,
        "repeats": entry.repeats,
        "accuracy": summary([values]),
        "budget": {"stored_bits": 983, "limit_bits": 1000, "decoded_images": 560},
        "training": {"steps": 1001, "num_images": 560},
        "cost": {
            "seconds": {"experts": 10.0, "distill": 20.6, "evaluate": 3.0},
            "peak_bytes": 512 * 2**20,
        },
        "provenance": {"commit": "abc", "device": "a processor"},
    }
    return Record.done(**fields | changes)


def entry_of(name, scale, label, *, judged_by=None, **where):
    """Find the one cell of a table with a row label and some values."""
    found = [
        entry
        for entry in tables.load(name).entries(scale, protocol=judged_by)
        if entry.row.label == label and all(getattr(entry.cell, k) == v for k, v in where.items())
    ]
    assert len(found) == 1, found
    return found[0]
