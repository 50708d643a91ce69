"""Count what a distilled set stores, in bits, against Eq. 3 of the paper.

    size(spectra) + size(kernels) <= ipc * classes * size(image)        (Eq. 3)

with `size` in bits of the file: every element of every tensor needed to rebuild images and labels
counts with its own width; an image of the right-hand side counts 32 bits an element. File headers,
the learned step size, whitening statistics and hard labels implied by order are listed, not
counted.
"""

from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from nsdbench.errors import BudgetExceeded

if TYPE_CHECKING:
    import torch

Kind = Literal["coefficient", "kernel", "network", "label", "mask"]

_BITS_PER_REFERENCE_ELEMENT = 32  # Eq. 3 counts uncompressed float32 images


@dataclass(frozen=True)
class Entry:
    """One stored tensor: what it is for, its name in the file, its shape and its bits."""

    kind: Kind
    name: str
    shape: tuple[int, ...]
    bits: int

    @staticmethod
    def of(kind: Kind, name: str, tensor: "torch.Tensor") -> "Entry":
        """Make the entry of a tensor from its element count and element width."""
        return Entry(kind, name, tuple(tensor.shape), tensor.numel() * tensor.element_size() * 8)


@dataclass(frozen=True)
class Ledger:
    """All that an artefact stores.

    Attributes:
        entries: the counted tensors.
        listed: what the file holds besides and Eq. 3 does not count, one phrase each.
    """

    entries: tuple[Entry, ...]
    listed: tuple[str, ...] = ()

    @property
    def stored_bits(self) -> int:
        """Sum of the bits of all counted entries."""
        return sum(entry.bits for entry in self.entries)

    def as_dict(self) -> dict:
        """Return the ledger as plain JSON types."""
        return {
            "stored_bits": self.stored_bits,
            "entries": [{**asdict(entry), "shape": list(entry.shape)} for entry in self.entries],
            "listed": list(self.listed),
        }


@dataclass(frozen=True)
class Budget:
    """What a set may store: as much as `ipc` uncompressed images of every class.

    Attributes:
        image_shape: (C, H, W).
        num_classes: classes of the data set.
        ipc: images per class.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    ipc: int

    @property
    def num_elements(self) -> int:
        """Right-hand side of Eq. 3 in float32 elements."""
        return limit_bits(self.image_shape, self.num_classes, self.ipc) // 32

    @property
    def side(self) -> int:
        """Side of a square image; ValueError if images are not square."""
        _, height, width = self.image_shape
        if height != width:
            raise ValueError(f"images are {height}x{width}; expected square ones (t3 = t4)")
        return height


def limit_bits(image_shape: tuple[int, int, int], num_classes: int, ipc: int) -> int:
    """Return the right-hand side of Eq. 3 in bits."""
    if ipc < 1:
        raise ValueError(f"ipc is {ipc}; a budget needs at least 1 image per class")
    return ipc * num_classes * _BITS_PER_REFERENCE_ELEMENT * prod(image_shape)


def strict_ipc(stored_bits: int, image_shape: tuple[int, int, int], num_classes: int) -> float:
    """Return the images per class that uncompressed storage of the same size would hold."""
    return stored_bits / limit_bits(image_shape, num_classes, 1)


def check(ledger: Ledger, image_shape: tuple[int, int, int], num_classes: int, ipc: int) -> None:
    """Raise BudgetExceeded, naming both sides of Eq. 3, if a ledger is over its budget."""
    limit = limit_bits(image_shape, num_classes, ipc)
    if ledger.stored_bits > limit:
        parts = ", ".join(f"{e.name} {list(e.shape)}: {e.bits} bits" for e in ledger.entries)
        raise BudgetExceeded(
            f"the set stores {ledger.stored_bits} bits, but ipc {ipc} with {num_classes} classes "
            f"of {image_shape} images allows {limit} (Eq. 3). Stored: {parts}. Choose smaller t1, "
            "u1 or fewer kernel sets."
        )
