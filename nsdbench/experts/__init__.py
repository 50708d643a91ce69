"""Experts: networks trained on real data whose parameters are kept after every epoch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
