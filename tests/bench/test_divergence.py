"""What ran away in a distillation, told from its record."""

from pathlib import Path

import pytest

from nsdbench.bench.divergence import runaway
from nsdbench.bench.facts import Distillation
from nsdbench.bench.store import Store

RESULTS = Path(__file__).parents[2] / "results"


def curve(*losses):
    return [(10 * i, loss) for i, loss in enumerate(losses)]


def ramp(first, last, steps=40, peak=None):
    """A curve that goes straight from one loss to another, noisy in a step of each window."""
    losses = [first + (last - first) * i / (steps - 1) for i in range(steps)]
    losses[0], losses[-1] = 9 * losses[0], 9 * losses[-1]
    if peak is not None:
        losses[steps // 2] = peak
    return curve(*losses)


@pytest.mark.parametrize(
    ("first", "last", "peak", "moved", "what"),
    [
        (1.0, 0.5, None, 60.0, ""),
        (1.0, 1.5, None, 15.0, ""),  # objectives change on the way: a loss may grow somewhat
        (1.0, 5.0, None, 0.1, "its loss ended at 3.86 times what it began with"),
        (1.0, 5.0, None, 5000.0, "its loss ended at 3.86 times what it began with"),
        (1.0, 0.3, None, 5000.0, ""),  # the scale alone is no fault
        (1.34, 1.06, 4.27, 1.69e5, "its images moved by 1.69e+05 times their size at the start"),
        (1.0, 1.0, None, 19.0, ""),
        (1.0, 1.0, None, None, ""),
        (
            1.0, 1.16, None, 88.0,
            "its loss ended at 1.14 of what it began with, and its images moved by 88 times their "
            "size at the start",
        ),
        (
            1.0, 1.0, None, 5000.0,
            "its loss ended at 1.00 of what it began with, and its images moved by 5e+03 times "
            "their size at the start",
        ),
        (1.0, 1.0, 19.0, 1.0, ""),
        (1.0, 0.5, 21.0, 1.0, ""),  # it came back and went on
        (
            1.0, 1.0, 21.0, 1.0,
            "its loss ended at 1.00 of what it began with, behind a peak of 21 times that",
        ),
    ],
)  # fmt: skip
def test_the_rule(first, last, peak, moved, what):
    assert runaway(ramp(first, last, peak=peak), moved) == what


def test_windows_are_the_first_and_the_last_tenth_by_their_medians():
    early, late = [1.0, 3.0, 2.0], [9.0, 4.1, 3.0]
    middle = [30.0] * 24
    assert runaway(curve(*early, *middle, *late), None) == (
        "its loss ended at 2.05 times what it began with"  # 4.1 / 2.0
    )
    late[1] = 4.0
    assert runaway(curve(*early, *middle, *late), None) == ""


def test_a_loss_that_was_not_finite_ran_away():
    assert runaway(curve(1.0, None, 0.5), None) == "its loss was not finite"


def test_a_few_steps_and_losses_that_are_not_positive_say_nothing():
    assert runaway(ramp(1.0, 50.0, steps=19), 1e6) == ""
    assert runaway(ramp(1.0, 50.0, steps=20), 1e6) != ""
    for first in (0.0, -1.0):
        assert runaway(curve(*[first] * 20, *[50.0] * 20), 1e6) == ""


def test_a_set_behind_the_first_is_named():
    sound = {"iterations": 40, "curve": tuple(ramp(1.0, 0.5)), "images_moved": 3.0}
    assert Distillation(**sound).runaway == ""
    marked = Distillation(**sound, other_runaways={"3": "its loss was not finite"})
    assert marked.runaway == "in set 3 its loss was not finite"


def test_one_committed_record_is_marked():
    """NSD's images grow to 18 standard deviations, and are sound, but for one unguided set."""
    found, _ = Store(RESULTS).records()
    learned = [record for record in found if getattr(record, "distillation", None)]
    assert len(learned) >= 80
    assert {record.cell.id: record.runaway for record in learned if record.runaway} == {
        "FashionMNIST-ipc1-nsd-unguided-convnet3-w32-common-300ep": (
            "in set 2 its images moved by 1.69e+05 times their size at the start"
        )
    }
    assert max(record.distillation.images_moved for record in learned) > 50
