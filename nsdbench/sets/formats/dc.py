"""Results of DC, DSA and DM: a dict whose `data` holds a pair (images, labels) an experiment.

Their code saves res_METHOD_DATA_NETWORK_Nipc.pt with `data` and `accs_all_exps`, the accuracies of
its own tests; images are network inputs, standardised by channel. CAFE's does the same.
"""

from collections.abc import Sequence
from typing import Any

from nsdbench.errors import DataCorrupt, counted
from nsdbench.sets.formats.base import Asked, Format, Reading, foreign, numbers
from nsdbench.sets.formats.opening import Opened


def _read(files: Sequence[Opened], asked: Asked) -> Reading | None:
    if not all(isinstance(file.content, dict) and "data" in file.content for file in files):
        return None
    sets = []
    for file in files:
        experiments = file.content["data"]
        if not isinstance(experiments, list | tuple):
            return None
        sets += [foreign(file, *_pair(file, experiment)) for experiment in experiments]
    if not sets:
        raise DataCorrupt(f"{files[0].path}: holds no experiment; its code was stopped too early")
    text = f"{counted(len(sets), 'experiment')} of DC, DSA or DM"
    return Reading(text, tuple(sets))


def _pair(file: Opened, experiment: Any) -> tuple[Any, Any]:
    """Return images and labels of an experiment."""
    is_pair = isinstance(experiment, list | tuple) and len(experiment) == 2
    if not is_pair or not all(map(numbers, experiment)):
        raise DataCorrupt(f"{file.path}: `data` holds something else than pairs (images, labels)")
    images, labels = experiment
    return images, labels


DC = Format("dc", _read)
