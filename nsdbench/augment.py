"""Differentiable Siamese augmentation, as users import it; see `student.augment`."""

from nsdbench.student.augment import DsaParams, apply, parse_strategy, sample

__all__ = ["DsaParams", "apply", "parse_strategy", "sample"]
