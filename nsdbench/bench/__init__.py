"""Rerun tables: cells, their cost, how they are measured, and their records."""
