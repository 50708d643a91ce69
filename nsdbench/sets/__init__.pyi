from .artefact import Artefact as Artefact
from .artefact import load_artefact as load_artefact
from .budget import Entry as Entry
from .budget import Ledger as Ledger
from .export import export_set as export_set
