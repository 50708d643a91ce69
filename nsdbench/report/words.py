"""Words that reports and the command line share."""


def counted(number: int, thing: str) -> str:
    """Write how many things there are: "1 cell", "93 cells"."""
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"
