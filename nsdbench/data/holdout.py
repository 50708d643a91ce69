"""Hold-outs by name: "FashionMNIST-holdout5000-seed0" is a data set like any other.

Its training split is that of the data set before "-holdout" without the images set aside; these are
its test split (`Dataset.holdout`). The test split of the data set itself is out of reach.
"""

import re

from nsdbench.files import user_path

_NAME = re.compile(r"(?P<base>.+)-holdout(?P<size>[1-9]\d*)-seed(?P<seed>0|[1-9]\d*)")


def holdout_name(base: str, size: int, seed: int) -> str:
    """Name the hold-out of `size` images that `seed` draws from the training split of `base`."""
    return f"{base}-holdout{size}-seed{seed}"


def parse(name: str) -> tuple[str, int, int] | None:
    """Split the name of a hold-out into base, size and seed; None for any other name.

    A user's folder that exists is no hold-out, whatever its name ends in.
    """
    match = _NAME.fullmatch(name)
    if name.startswith("folder:") and user_path(name.removeprefix("folder:")).is_dir():
        return None
    return (match["base"], int(match["size"]), int(match["seed"])) if match else None


def is_holdout(name: str) -> bool:
    """Say whether a name is that of a hold-out: no test split stands behind it."""
    return parse(name) is not None


def base_name(name: str) -> str:
    """Return the name of the data set that a hold-out was taken from; other names as they are."""
    while held := parse(name):
        name = held[0]
    return name
