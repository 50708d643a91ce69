"""Which values the settings may have whose keys every recipe shares."""

import math
from typing import Any

_COUNTS = {
    "experts": ("num_experts", "epochs", "batch_size"),
    "optimiser": ("iterations",),
    "network": ("depth", "width"),
}
_RATES = {
    "experts": ("lr", "momentum", "weight_decay"),
    "optimiser": ("momentum", "lr_syn", "lr_kernels", "lr_lr"),
}
_WORDS = {
    "data": ("preprocessing",),
    "parameterization": ("name",),
    "objective": ("name",),
    "network": ("name",),
    "coreset": ("name",),
    "experts": ("buffer", "dsa_strategy"),
}


def check_value(section: str, key: str, value: Any, where: str) -> None:
    """Refuse a count below 1, a rate below 0 and a name that is no text.

    Raises:
        ValueError: the message begins with `where`.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _COUNTS.get(section, ()):
        is_valid, expected = type(value) is int and value >= 1, "a whole number of at least 1"
    elif key in _RATES.get(section, ()):
        is_valid = is_number and math.isfinite(value) and value >= 0
        expected = "a number of at least 0"
    elif key in _WORDS.get(section, ()):
        is_valid, expected = isinstance(value, str), "text"
    else:
        return
    if not is_valid:
        raise ValueError(f"{where}: `{section}.{key}` is {value!r}; expected {expected}")
