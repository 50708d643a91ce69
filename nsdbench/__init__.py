"""nsdbench: an accelerated, honest benchmark suite for dataset distillation.

`distill` learns a small set, `load_artefact` reads one, `evaluate` measures it on the test split;
`records` gives what was measured as a pandas frame; `data`, `models`, `augment`, `ops` and
`unroll` are the parts, usable on their own. Every name is loaded when it is first asked for.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
