"""Evaluate a set: train networks on it by a protocol and test them once."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
