"""The network that trains on synthetic images: its steps, and the gradient through all of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
