"""The settings of a recipe, and which values those may have whose keys every recipe shares."""

import math
from collections.abc import Mapping
from typing import Any

_COUNTS = {
    "experts": ("num_experts", "epochs", "batch_size"),
    "optimiser": ("iterations",),
    "network": ("depth", "width"),
}
_RATES = {
    "experts": ("lr", "weight_decay", "rho", "alpha"),
    "optimiser": ("lr_syn", "lr_kernels", "lr_lr"),
}
_DECAYS = {"experts": ("momentum",), "optimiser": ("momentum", "ema_decay")}
_SWITCHES = {"experts": ("keeps_correctness",), "coreset": ("draw_per_network",)}
_WORDS = {
    "data": ("preprocessing",),
    "parameterization": ("name",),
    "objective": ("name",),
    "network": ("name",),
    "coreset": ("name",),
    "experts": ("buffer", "dsa_strategy", "optimiser"),
}


class Settings(dict):
    """Settings by key; one that is asked for and not there is a ValueError that names it.

    Args:
        values: the settings.
        whose: what has them, as the message begins: "method 'nsd' at scale paper".
        prefix: of the keys in the message: "optimiser.".
    """

    def __init__(self, values: Mapping[str, Any], whose: str, prefix: str = ""):
        super().__init__(values)
        self._whose = whose
        self._prefix = prefix

    def __missing__(self, key: str) -> Any:
        raise ValueError(
            f"{self._whose} has no `{self._prefix}{key}`; set it in a [[settings]] block of its "
            "file, with the source of the value"
        )


def check_value(section: str, key: str, value: Any, where: str) -> None:
    """Refuse a count below 1, a rate below 0, a decay beside [0, 1), and values of other types.

    Raises:
        ValueError: the message begins with `where`.
    """
    is_rate = type(value) in (int, float) and math.isfinite(value) and value >= 0
    if key in _COUNTS.get(section, ()):
        is_valid, expected = type(value) is int and value >= 1, "a whole number of at least 1"
    elif key in _RATES.get(section, ()):
        is_valid, expected = is_rate, "a number of at least 0"
    elif key in _DECAYS.get(section, ()):
        is_valid, expected = is_rate and value < 1, "a number of at least 0 and below 1"
    elif key in _SWITCHES.get(section, ()):
        is_valid, expected = type(value) is bool, "true or false"
    elif key in _WORDS.get(section, ()):
        is_valid, expected = isinstance(value, str), "text"
    else:
        return
    if not is_valid:
        raise ValueError(f"{where}: `{section}.{key}` is {value!r}; expected {expected}")
