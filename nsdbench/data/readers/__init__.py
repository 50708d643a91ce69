"""How each data set's files are read."""
