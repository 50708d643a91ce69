"""Differentiable Siamese augmentation, as users import it; see `student.augment`."""

from nsdbench.student.augment import DsaParams, apply, sample
from nsdbench.student.strategy import parse_strategy

__all__ = ["DsaParams", "apply", "parse_strategy", "sample"]
