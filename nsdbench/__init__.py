"""nsdbench: an accelerated, honest benchmark suite for dataset distillation.

`distill` learns a small set, `load_artefact` reads one, `evaluate` measures it on the test split;
`data`, `models`, `augment`, `ops` and `unroll` are the parts, usable on their own.
"""

from nsdbench import augment, data, models, ops, unroll
from nsdbench.artefact import Artefact, load_artefact
from nsdbench.distillation import distill
from nsdbench.evaluation import Evaluation, evaluate

__version__ = "0.1.0"

__all__ = [
    "Artefact",
    "Evaluation",
    "augment",
    "data",
    "distill",
    "evaluate",
    "load_artefact",
    "models",
    "ops",
    "unroll",
]
