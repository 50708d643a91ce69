"""The errors nsdbench raises besides ValueError (the caller's mistake)."""


class NsdbenchError(Exception):
    """Base of all errors that are not the caller's mistake in an argument."""


class DataMissing(NsdbenchError):
    """A dataset is not on this machine; the message names every way to provide it."""


class DataCorrupt(NsdbenchError):
    """A file exists but is truncated, altered or not what its name says; the message names it."""


class BudgetExceeded(NsdbenchError):
    """A parameterization would store more bits than Eq. 3 of the paper allows."""


class ExtensionUnavailable(NsdbenchError):
    """The compiled extension could not be loaded; the message lists the likely causes."""


class TestSplitSealed(NsdbenchError):
    """The test split was opened by something other than evaluation."""

    __test__ = False  # the name starts with "Test": keep pytest from collecting it


class Diverged(NsdbenchError):
    """A loss or a learned value became NaN or infinite."""


class NotImplementedYet(NsdbenchError):
    """A method named in a table of the paper that this version does not provide."""
