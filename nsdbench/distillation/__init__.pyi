from .loop import distill as distill
from .loop import distill_recipe as distill_recipe
