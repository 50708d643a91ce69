from .base import GeneratorPrior as GeneratorPrior
from .base import PriorContext as PriorContext
from .registry import PriorFamily as PriorFamily
from .registry import PriorSizes as PriorSizes
from .registry import lacking as lacking
from .registry import names as names
from .registry import read as read
from .registry import sizes as sizes
