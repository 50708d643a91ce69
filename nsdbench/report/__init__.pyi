from .content import CellReport as CellReport
from .content import collect as collect
from .document import Document as Document
from .document import Picture as Picture
from .document import build as build
from .frame import records as records
from .grids import Grid as Grid
from .writers import write as write
