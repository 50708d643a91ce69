"""Artefacts of this package; several files are several sets."""

from collections.abc import Sequence

from nsdbench.sets.artefact import FORMAT, load_artefact
from nsdbench.sets.formats.base import Asked, Format, Reading
from nsdbench.sets.formats.opening import Opened


def _read(files: Sequence[Opened], asked: Asked) -> Reading | None:
    are_ours = [file.metadata.get("format") == FORMAT for file in files]
    if not all(are_ours):
        return None
    sets = tuple(load_artefact(file.path) for file in files)
    kinds = dict.fromkeys(str(one.parameterization.settings["name"]) for one in sets)
    return Reading(f"an artefact of nsdbench, parameterization {' and '.join(kinds)}", sets)


OURS = Format("ours", _read)
