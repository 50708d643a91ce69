"""An objective, a parameterization and methods that use them, from outside nsdbench."""
