"""Experts: networks trained on real data whose parameters are kept after every epoch."""

from nsdbench.experts.buffer import ExpertBuffer, ExpertSegment, default_root, list_buffers
from nsdbench.experts.mtt import import_mtt
from nsdbench.experts.recipe import ExpertRecipe
from nsdbench.experts.recording import record

__all__ = [
    "ExpertBuffer",
    "ExpertRecipe",
    "ExpertSegment",
    "default_root",
    "import_mtt",
    "list_buffers",
    "record",
]
