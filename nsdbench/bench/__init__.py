"""Rerun tables: their cells, what these cost, how they are measured, and what is recorded."""
