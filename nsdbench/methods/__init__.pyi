from .conditions import SCALES as SCALES
from .resolution import FOLDERS_VARIABLE as FOLDERS_VARIABLE
from .resolution import Method as Method
from .resolution import Recipe as Recipe
from .resolution import is_described as is_described
from .resolution import load as load
from .resolution import names as names
from .resolution import resolve as resolve
