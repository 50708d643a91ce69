"""Tell from what is recorded of a distillation whether its loss or its images ran away.

A loss or an image that is not finite ends a distillation as a failure. What stays finite may have
run away all the same, and then the set is marked "diverged?". The rule compares the last tenth of
the loss curve with the first, by their medians, since single steps are noisy:

    the loss ran away      it ended at more than twice of what it began with; or it peaked at more
                           than 20 times of that, and ended at more than nine tenths of it
    the images ran away    they moved by more than 20 times the norm of what they started from, and
                           the loss ended at more than nine tenths of what it began with; or they
                           moved by more than 10,000 times that

Images a thousand times as large are no fault: networks with instance norm hardly see their scale.
All numbers are our choice. Of the records of this repository whose loss ended above nine tenths,
the largest ratio of losses is 0.98, the highest peak 6.4, and images moved 4.8-fold at most; with
falling losses they moved up to 400-fold. FRePo at an image rate of 0.02, on CIFAR10-JPEG at ten
images per class, ended at 1.16 of its loss, 88-fold moved, and networks at 17 % where Random has
27. At scale smoke, on Digits16 at one image per class (Random 65 %): DM at image rate 1e4 ends at
1.08 of its loss, 6,400-fold moved, 14 %; MTT at image rate 1e5 at 0.98, 320-fold moved, 18 %; MTT
at a rate of 1e-2 for its step size at 1.00 behind a peak of 126, 10 %. NSD with a kernel rate of 30
moves 2,200-fold at 0.41 of its loss, HaBa 1,400-fold at a third, and both are sound (90 % and
more). Without the guided loss, one of three sets of NSD on FashionMNIST ran away within the first
tenth, so that its loss ended at 0.79 of that: 170,000-fold moved, 19 %.
"""

from collections.abc import Sequence
from statistics import median

MARK = "diverged?"
FEWEST_POINTS = 20  # of a curve; windows of fewer than two say nothing
LOSS_GROWTH = 2.0
LOSS_PEAK = 20.0
IMAGES_MOVED = 20.0
IMAGES_LOST = 1e4  # moved so far, whatever the loss
LOSS_KEPT = 0.9


def runaway(curve: Sequence[tuple[int, float | None]], images_moved: float | None) -> str:
    """Say what ran away in a distillation; empty if nothing did.

    Args:
        curve: steps with their losses, None where one was not finite.
        images_moved: |x_end - x_start| / |x_start| over all images.
    """
    losses = [loss for _, loss in curve]
    finite = [loss for loss in losses if loss is not None]
    if len(finite) < len(losses):
        return "its loss was not finite"
    if len(finite) < FEWEST_POINTS:
        return ""
    window = len(finite) // 10
    first, last = median(finite[:window]), median(finite[-window:])
    if first <= 0:
        return ""
    if last > LOSS_GROWTH * first:
        return f"its loss ended at {last / first:.3g} times what it began with"
    if images_moved is not None and images_moved > IMAGES_LOST:
        return f"its images moved by {images_moved:.3g} times their size at the start"
    if last <= LOSS_KEPT * first:
        return ""
    ended = f"its loss ended at {last / first:.2f} of what it began with"
    if max(finite) > LOSS_PEAK * first:
        return f"{ended}, behind a peak of {max(finite) / first:.3g} times that"
    if images_moved is not None and images_moved > IMAGES_MOVED:
        return f"{ended}, and its images moved by {images_moved:.3g} times their size at the start"
    return ""
