"""The command line: `python -m nsdbench`."""
