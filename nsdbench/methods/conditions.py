"""Conditions, `when = { scale = "smoke", ipc = [1, 10] }`: the cells that a block applies to."""

from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from nsdbench.data.catalog import recipe_names
from nsdbench.errors import nearest

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[str, ...] = get_args(Scale)


def _listed(value: Any) -> Any:
    """Take one value for a list of it."""
    return value if isinstance(value, list) else [value]


T = TypeVar("T")
Several = Annotated[tuple[T, ...], Field(strict=False, min_length=1), BeforeValidator(_listed)]


class Conditions(BaseModel):
    """Of every key that is given the values allowed; without any, all cells are meant."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    scale: Several[Scale] | None = None
    dataset: Several[str] | None = None
    ipc: Several[Annotated[int, Field(ge=0)]] | None = None

    def hold(self, *, scale: str, dataset: str, ipc: int) -> bool:
        """Say whether a cell's values are allowed.

        A hold-out counts as the whole, and a copy as the data set it stands for, too.
        """
        cell = {"scale": (scale,), "dataset": recipe_names(dataset), "ipc": (ipc,)}
        return all(allowed is None or set(cell[key]) & set(allowed) for key, allowed in self)

    def __str__(self) -> str:
        """Write them in short, "scale=smoke|small, ipc=1"; empty if all cells are meant."""
        given = ((key, allowed) for key, allowed in self if allowed is not None)
        return ", ".join(f"{key}={'|'.join(map(str, allowed))}" for key, allowed in given)


def check_scale(scale: str) -> None:
    """Raise ValueError for an unknown scale."""
    if scale not in SCALES:
        raise ValueError(
            f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}{nearest(scale, SCALES)}"
        )
