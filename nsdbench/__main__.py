"""`python -m nsdbench`: see nsdbench/cli.py."""

from nsdbench.cli import main

if __name__ == "__main__":
    main()
