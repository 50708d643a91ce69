"""How a GPU rounds the factors of its products, by name; the one place that sets it.

    tf32      convolutions round factors to 10 bits (TensorFloat-32), matrix products do not: what
              PyTorch does unless it is told otherwise
    float32   nothing is rounded

TensorFloat-32 makes the gradient of an unrolled student about 2 % wrong, where float32 is 5e-4 off
(docs/speed.md). CPUs compute in float32 under either name.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("tf32", "float32")  # the first is the default of `experts.Run`, which loads no torch


def check(name: str) -> str:
    """Return a name if it is one of PRECISIONS.

    Raises:
        ValueError: it is not.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    return name


@contextmanager
def computing_in(name: str) -> Iterator[None]:
    """Compute in a precision on all GPUs of this process, until the end of the block.

    Raises:
        ValueError: an unknown name.
    """
    is_rounded = check(name) == "tf32"
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32, products.allow_tf32 = is_rounded, False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
