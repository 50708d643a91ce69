from .rules import forgetting_scores as forgetting_scores
from .rules import select_herding as select_herding
from .rules import select_highest as select_highest
from .rules import select_k_center as select_k_center
from .selection import SelectionTask as SelectionTask
from .selection import names as names
from .selection import select as select
from .selection import select_recipe as select_recipe
