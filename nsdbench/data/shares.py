"""How many pictures of each class a part of a data set gets."""

from collections.abc import Sequence


def shares(counts: Sequence[int], size: int) -> list[int]:
    """Divide `size` among classes in proportion to their counts.

    Class c gives floor(size * n_c / N); what is still missing comes one each from the classes with
    the largest remainders (the lower class first at a tie).
    """
    total = sum(counts)
    share = [size * count // total for count in counts]
    remainder = [size * count % total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: (-remainder[c], c))
    for c in by_remainder[: size - sum(share)]:
        share[c] += 1
    return share
