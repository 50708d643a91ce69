"""Reports as one self-contained HTML page: templates, charts, and what is behind every cell."""
