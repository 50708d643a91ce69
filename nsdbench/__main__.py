"""`python -m nsdbench`: see nsdbench/cli/app.py."""

from nsdbench.cli.app import main

if __name__ == "__main__":
    main()
