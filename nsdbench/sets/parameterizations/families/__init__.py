"""The parameterizations of this package: their settings, sizes and storage plans; no torch."""
