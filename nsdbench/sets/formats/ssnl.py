"""Dataset distillation of Wang et al.: results.pth, a list of steps (images, labels, rate).

A step is one of gradient descent on its images at its rate. The list goes through the images once
an epoch, so that they repeat, each time at a rate of its own. Images are network inputs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import Asked, Format, Reading, foreign, joined, numbers, rate
from nsdbench.sets.formats.opening import Opened


def _read(files: Sequence[Opened], asked: Asked) -> Reading | None:
    if len(files) != 1 or not isinstance(files[0].content, list | tuple) or not files[0].content:
        return None
    (file,) = files
    if not all(map(_is_step, file.content)):
        return None
    steps = [foreign(file, images, labels) for images, labels, _ in file.content]
    once = steps[: _period(steps)]
    rates = [rate(file, lr) for *_, lr in file.content if lr is not None]
    lr = rates[0] if len(set(rates)) == 1 else None
    text = (
        f"{len(once)} steps of dataset distillation (Wang et al.), "
        f"{len(steps) // len(once)} times each"
    )
    notes = ["its images are judged as a set; its own steps, one a rate, are not taken"]
    if len(set(rates)) > 1:
        notes.append(f"its {len(rates)} rates differ, from {min(rates):g} to {max(rates):g}")
    whole = replace(joined(once), origin=str(file.path), lr=lr)
    return Reading(text, (replace(whole, stored=None),), tuple(notes))


def _is_step(value: Any) -> bool:
    """Say whether a value is (images, labels, rate or None)."""
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(numbers, value[:2])):
        return False
    return len(value[0].shape) == 4 and len(value[1].shape) < 3


def _period(steps: Sequence[ForeignSet]) -> int:
    """Return after how many steps the images and labels repeat; all of them if they do not."""

    def are_equal(one: ForeignSet, other: ForeignSet) -> bool:
        return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)

    for period in range(1, len(steps)):
        if len(steps) % period == 0 and all(
            are_equal(step, steps[number % period]) for number, step in enumerate(steps)
        ):
            return period
    return len(steps)


SSNL = Format("ssnl", _read)
