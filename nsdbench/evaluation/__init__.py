"""How good a set is: networks trained on it by a protocol and tested once."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
