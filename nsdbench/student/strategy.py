"""Augmentation strategies as text, "color_crop_flip"; no torch, so that plans can check them."""

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")  # those of `ops.dsa`
_NO_STRATEGY = ("", "none", "None")  # the reference code's words for no augmentation


def parse_strategy(strategy: str | None) -> tuple[str, ...]:
    """Split a strategy string into operation names; empty for no augmentation.

    Raises:
        ValueError: an unknown word; the message names it and the known ones.
    """
    if strategy is None or strategy in _NO_STRATEGY:
        return ()
    names = tuple(strategy.split("_"))
    for name in names:
        if name not in OPERATIONS:
            raise ValueError(
                f"unknown augmentation {name!r} in strategy {strategy!r}; "
                f"join any of {', '.join(OPERATIONS)} with '_'"
            )
    return names
