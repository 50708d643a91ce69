"""Reports: measured and published numbers side by side, from records and tables alone.

`records` gives results as a pandas frame; `build` makes a document of a table at one scale, `write`
writes it as markdown, LaTeX or CSV, and `render` makes an HTML page. The same records give the same
bytes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
