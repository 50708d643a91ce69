"""Distilled sets: what they store, how they decode, their files and their budget."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
