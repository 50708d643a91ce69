"""HaBa: bases in one file, the state of its hallucinators in another; decoded by `hallucinator`.

Liu et al.'s code saves images_best.pt [n, c, H, W], class by class, and weights_best.pt (or
images_N.pt and styles_N.pt), a state whose keys are S.enc.weight, S.enc.bias, S.scale, S.shift,
S.dec.weight and S.dec.bias of hallucinator S; the learned rate is in its log alone.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nsdbench.errors import DataCorrupt
from nsdbench.sets.formats.base import Asked, Format, Reading, foreign, numbers
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.formats.separate import is_rate, rate_of
from nsdbench.sets.meaning import Meaning
from nsdbench.sets.parameterizations.families.hallucinator import HallucinatorShape
from nsdbench.sets.parameterizations.hallucinator import Hallucinated

_NAMES = {
    "conv": "enc.weight",
    "conv_bias": "enc.bias",
    "scale": "scale",
    "shift": "shift",
    "transposed": "dec.weight",
    "transposed_bias": "dec.bias",
}
_KEY = re.compile(r"\d+\.(enc|dec)\.(weight|bias)|\d+\.(scale|shift)")


def _read(files: Sequence[Opened], asked: Asked) -> Reading | None:
    states = [file for file in files if _is_state(file.content)]
    if not states:
        return None
    rates = [file for file in files if is_rate(file)]
    bases = [file for file in files if file not in states and file not in rates]
    if len(states) != 1 or len(bases) != 1 or not numbers(bases[0].content):
        raise DataCorrupt(
            f"{states[0].path}: holds hallucinators of HaBa; expected one such file, and one of "
            "their bases: images_best.pt weights_best.pt"
        )
    module = _module(bases[0], states[0], asked)
    with torch.no_grad():
        images, labels = module.decode()
    made = foreign(
        bases[0],
        images,
        labels,
        lr=rate_of(rates),
        meaning=Meaning(pixels="normalised"),
        stored=module.ledger().entries,
        drawn_from=module,
    )
    text = f"bases and {module.num_views} hallucinators of HaBa, one drawn for every base"
    return Reading(text, (made,))


def _module(bases: Opened, state: Opened, asked: Asked) -> Hallucinated:
    """Build the set.

    Raises:
        DataCorrupt: bases and hallucinators do not fit each other or the data set.
    """
    spec, content = asked.spec, state.content
    sizes = list(bases.content.shape)
    num_hallucinators = len({key.partition(".")[0] for key in content})
    if len(sizes) != 4 or not sizes[0] or sizes[0] % spec.num_classes:
        raise DataCorrupt(
            f"{bases.path}: bases are {sizes}; expected [n, c, H, W], as many in each of the "
            f"{spec.num_classes} classes of {spec.name}"
        )
    try:
        module = Hallucinated(
            HallucinatorShape(
                "hallucinator",
                spec.num_classes,
                spec.image_shape,
                sizes[1],
                sizes[0] // spec.num_classes,
                num_hallucinators,
            )
        )
    except ValueError as error:
        raise DataCorrupt(f"{bases.path}: {error}") from None
    _copy(module.bases, torch.as_tensor(bases.content), str(bases.path), "bases")
    for name, theirs in _NAMES.items():
        for view in range(num_hallucinators):
            key = f"{view}.{theirs}"
            ours = getattr(module, name)[view]
            value = content.get(key)
            if value is not None and name in ("scale", "shift"):
                value = value.squeeze(0)  # [1, C, H - 2, W - 2]
            _copy(ours, value, str(state.path), key)
    return module.requires_grad_(False)


@torch.no_grad()
def _copy(ours: Tensor, theirs: Tensor | None, where: str, name: str) -> None:
    """Copy a tensor, or say what was expected in its place."""
    if theirs is None or ours.shape != theirs.shape:
        found = "missing" if theirs is None else f"{list(theirs.shape)}"
        raise DataCorrupt(f"{where}: {name} is {found}; expected {list(ours.shape)}")
    ours.copy_(theirs)


def _is_state(content: Any) -> bool:
    """Say whether it is the state of hallucinators."""
    if not isinstance(content, dict) or not content:
        return False
    return all(
        isinstance(key, str) and _KEY.fullmatch(key) and isinstance(value, Tensor)
        for key, value in content.items()
    )


HABA = Format("haba", _read)
