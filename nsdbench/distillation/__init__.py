"""Learn a small set: the outer loop and the objectives it descends."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
