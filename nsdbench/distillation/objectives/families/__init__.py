"""The objectives of this package: their settings and their cost per step; no torch."""
