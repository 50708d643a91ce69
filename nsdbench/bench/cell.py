"""A cell: one number of a table."""

from dataclasses import dataclass

from nsdbench.files import cell_id


@dataclass(frozen=True)
class Cell:
    """One number: what is distilled how, and which networks judge it.

    Attributes:
        dataset: name of the data set.
        ipc: budget in images per class; 0 for the full data.
        method: name of the method.
        arch: id of the networks that are evaluated.
        protocol: name of the evaluation protocol.
        scale: "smoke", "small" or "paper".
    """

    dataset: str
    ipc: int
    method: str
    arch: str
    protocol: str
    scale: str

    @property
    def id(self) -> str:
        """Name of the cell within its scale, fit for a file name."""
        return cell_id(self.dataset, self.ipc, self.method, self.arch, self.protocol)
