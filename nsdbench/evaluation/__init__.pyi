from .protocols import Protocol as Protocol
from .training import Evaluation as Evaluation
from .training import Judge as Judge
from .training import evaluate as evaluate
