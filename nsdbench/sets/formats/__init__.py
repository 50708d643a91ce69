"""Sets of anybody, read from their files: one module a format, `registry` tries them in order.

A new format is a module with a `Format` and a line in `registry`.
"""
