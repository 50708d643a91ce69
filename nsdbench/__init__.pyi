from . import augment as augment
from . import data as data
from . import models as models
from . import ops as ops
from . import unroll as unroll
from .distillation.loop import distill as distill
from .evaluation.judge import Evaluation as Evaluation
from .evaluation.judge import evaluate as evaluate
from .report.frame import records as records
from .sets.artefact import Artefact as Artefact
from .sets.artefact import load_artefact as load_artefact

__version__: str
