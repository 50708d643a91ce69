"""Networks of the dataset distillation literature, by name and by architecture id."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
