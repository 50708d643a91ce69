"""Generator priors by name: networks that map latents to images, learned before distillation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
