"""What all parts of a run share: folders, device and progress."""

from dataclasses import dataclass
from pathlib import Path

from nsdbench.progress import Progress as Progress
from nsdbench.progress import silent as silent


@dataclass(frozen=True)
class Run:
    """What the cells of a run share.

    Attributes:
        results: folder of records, unfinished work, distilled sets and pictures.
        data_root: folder of data sets that is asked first, see `nsdbench.data.load`.
        device: where networks are trained.
        command: the command line, for the records.
        progress: told about every piece of work that is done.
        precision: how a GPU rounds, see `ops.precision`.
        cell_seconds: how long one cell may take; None sets no limit.
        tensorboard: folder of curves, a subfolder a distilled set; None keeps none.
    """

    results: Path = Path("results")
    data_root: Path | None = None
    device: str = "cpu"
    command: str = ""
    progress: Progress = silent
    precision: str = "tf32"
    cell_seconds: float | None = None
    tensorboard: Path | None = None

    @property
    def has_gpu(self) -> bool:
        """Say whether networks are trained on a GPU."""
        return self.device.startswith("cuda")

    @property
    def suffix(self) -> str:
        """What the names of unfinished work end with, where its numbers depend on the precision."""
        is_default = self.precision == Run.precision
        return "" if is_default or not self.has_gpu else f"-{self.precision}"


AT_HOME = Run()
