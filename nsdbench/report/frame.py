"""Results as data: the records of a folder as a pandas frame."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsdbench.bench.record import Result
from nsdbench.bench.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame


def records(
    results: Path | str | None = None, scale: str | None = None, by: str = "cell"
) -> "DataFrame":
    """Read the measured cells below a results folder.

    Args:
        results: the folder; None takes `results` in the working directory.
        scale: "smoke", "small", "paper", or "judged" for the sets of `judge`; None takes all.
        by: "cell" for a row a cell, "network" for a row a network.

    Returns:
        First the cell (dataset, ipc, method, arch, protocol, scale, id) and its number: mean, std
        (population), ci95_low, ci95_high and n, or for a network its set, its number in the set and
        its accuracy, all in per cent. Then every other field of the record under its own name:
        "budget.stored_bits", "cost.seconds.distill", "training.steps", "provenance.commit",
        "recipe.objective.syn_steps". Rows are sorted by scale and cell id. What a record does not
        have is missing (NaN). A file that is not a record is a warning.

    Raises:
        ValueError: `by` is another word.
    """
    import pandas  # takes a third of a second to import

    if by not in ("cell", "network"):
        raise ValueError(f'by is {by!r}; expected "cell" or "network"')
    known, faults = Store("results" if results is None else results).records(scale)
    for fault in faults:
        warnings.warn(fault, stacklevel=2)
    measured = (record for record in known if isinstance(record, Result))
    number = _of_networks if by == "network" else _of_cell
    return pandas.DataFrame(
        [_cell(record) | row | _others(record) for record in measured for row in number(record)]
    )


def _cell(record: Result) -> dict[str, Any]:
    """Return what the number of a record is of."""
    return {**asdict(record.cell), "id": record.cell.id}


def _others(record: Result) -> dict[str, Any]:
    """Return the fields of a record besides the cell and its number, by dotted names."""
    fields = record.as_dict()
    for name in ("schema", "status", "cell", "accuracy"):
        del fields[name]
    return _flat(fields)


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join the names of nested fields by dots; what is None is left out."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value
    return flat


def _of_cell(record: Result) -> list[dict[str, Any]]:
    """Return the number of a cell."""
    accuracy = record.accuracy
    low, high = accuracy.interval or (None, None)
    ends = {"ci95_low": low, "ci95_high": high}
    return [{"mean": accuracy.mean, "std": accuracy.std, **ends, "n": accuracy.n}]


def _of_networks(record: Result) -> list[dict[str, Any]]:
    """Return the number of every network of a cell."""
    return [
        {"set": seed, "network": repeat, "accuracy": value}
        for seed, row in enumerate(record.accuracy.values)
        for repeat, value in enumerate(row)
    ]
