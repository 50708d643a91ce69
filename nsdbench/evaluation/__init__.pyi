from .judge import Evaluation as Evaluation
from .judge import Judge as Judge
from .judge import evaluate as evaluate
from .protocols import Protocol as Protocol
