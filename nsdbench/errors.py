"""The errors nsdbench raises besides ValueError (the caller's mistake), and words they share."""

from collections.abc import Iterable
from difflib import get_close_matches


class NsdbenchError(Exception):
    """Base of all errors that are not the caller's mistake in an argument."""


class DataMissing(NsdbenchError):
    """A dataset is not on this machine; the message names every way to provide it."""


class DataCorrupt(NsdbenchError):
    """A file exists but is truncated, altered or not what its name says; the message names it."""


class BudgetExceeded(NsdbenchError):
    """A parameterization would store more bits than Eq. 3 of the paper allows."""


class ExtensionUnavailable(NsdbenchError):
    """The compiled operators do not load; the message says why and what to do."""


class TestSplitSealed(NsdbenchError):
    """The test split was opened by something other than evaluation."""

    __test__ = False  # the name starts with "Test": keep pytest from collecting it


class Diverged(NsdbenchError):
    """A loss or a learned value became NaN or infinite."""


class NotImplementedYet(NsdbenchError):
    """A method named in a table of the paper that this version does not provide."""


def nearest(name: object, known: Iterable[str]) -> str:
    """End a message about an unknown name: "; did you mean NSD?", or nothing if none is near."""
    by_lower = {other.lower(): other for other in known}
    found = get_close_matches(str(name).lower(), by_lower, n=3)
    return f"; did you mean {' or '.join(by_lower[lower] for lower in found)}?" if found else ""
