"""Results of DC, DSA, DM and CAFE: a dict whose `data` holds a pair (images, labels) an experiment.

Their code saves res_METHOD_DATA_NETWORK_Nipc.pt with `data` and `accs_all_exps`, the accuracies of
its own tests; images are network inputs, standardised by channel with constants of its own.
CAFE's code saves the same, standardised as MTT's.
"""

from collections.abc import Sequence
from typing import Any

from nsdbench.errors import DataCorrupt, counted
from nsdbench.sets.formats.base import Asked, Format, Reading, foreign, numbers
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.meaning import Meaning


def _read(files: Sequence[Opened], asked: Asked) -> Reading | None:
    if not all(isinstance(file.content, dict) and "data" in file.content for file in files):
        return None
    known, notes = {}, []
    if asked.spec.dc_statistics is not None:
        known["meaning"] = Meaning(preprocessing="standardise_dc")
        notes.append(
            "standardised as by the code of DC, DSA and DM; for one of CAFE give --preprocessing "
            "standardise"
        )
    sets = []
    for file in files:
        experiments = file.content["data"]
        if not isinstance(experiments, list | tuple):
            return None
        sets += [foreign(file, *_pair(file, experiment), **known) for experiment in experiments]
    if not sets:
        raise DataCorrupt(f"{files[0].path}: holds no experiment; its code was stopped too early")
    text = f"{counted(len(sets), 'experiment')} of DC, DSA, DM or CAFE"
    return Reading(text, tuple(sets), tuple(notes))


def _pair(file: Opened, experiment: Any) -> tuple[Any, Any]:
    """Return images and labels of an experiment."""
    is_pair = isinstance(experiment, list | tuple) and len(experiment) == 2
    if not is_pair or not all(map(numbers, experiment)):
        raise DataCorrupt(f"{file.path}: `data` holds something else than pairs (images, labels)")
    images, labels = experiment
    return images, labels


DC = Format("dc", _read)
