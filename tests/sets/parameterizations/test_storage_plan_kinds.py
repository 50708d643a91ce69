"""Storage plans of tiles, DCT, LDCT, SVD, LSVD and bases against hand counts."""

import pytest

from nsdbench import data
from nsdbench.errors import BudgetExceeded
from nsdbench.sets import parameterizations
from nsdbench.sets.budget import Budget

CIFAR10, CIFAR100 = data.spec("CIFAR10"), data.spec("CIFAR100")
FASHION, DIGITS = data.spec("FashionMNIST"), data.spec("Digits16")
TINY = data.spec("TinyImageNet")

# data set, settings, ipc, images, stored floats
COUNTED = [
    # 768 = 3 x 16 x 16 floats an image; 2,352 = 3 x 28 x 28 at ipc 50
    (CIFAR10, {"name": "dct"}, 1, 40, 30_720),
    (CIFAR10, {"name": "dct"}, 10, 400, 307_200),
    (CIFAR10, {"name": "dct"}, 50, 653, 653 * 2_352),
    (CIFAR100, {"name": "dct"}, 1, 400, 307_200),
    (CIFAR10, {"name": "dct", "t3": 8}, 1, 160, 30_720),  # FreD keeps 64 of 1,024: 16 a class
    # two matrices 16 x 32 besides
    (CIFAR10, {"name": "ldct"}, 1, 38, 38 * 768 + 1_024),
    (CIFAR10, {"name": "ldct"}, 10, 398, 398 * 768 + 1_024),
    (CIFAR100, {"name": "ldct"}, 1, 398, 398 * 768 + 1_024),
    # n x 3,072 + M x n
    (CIFAR10, {"name": "svd", "share": 0.8}, 1, 760, 8 * 3_072 + 760 * 8),
    (CIFAR10, {"name": "lsvd", "share": 0.5}, 1, 2_500, 5 * 3_072 + 2_500 * 5),
    (CIFAR10, {"name": "lsvd", "share": 0.9}, 1, 340, 9 * 3_072 + 340 * 9),
    (CIFAR10, {"name": "svd", "share": 0.64}, 10, 1_720, 64 * 3_072 + 1_720 * 64),
    (CIFAR100, {"name": "svd", "share": 0.9}, 1, 300, 90 * 3_072 + 300 * 90),
    # at most one vector for two images: 66 vectors would leave room for 130 images, not 132
    (DIGITS, {"name": "svd", "share": 0.8}, 10, 130, 65 * 256 + 130 * 65),
    (CIFAR100, {"name": "svd", "share": 0.8}, 10, 1_400, 686 * 3_072 + 1_400 * 686),
    # r = floor((B - K D / 4) / (C K)) images a class
    (CIFAR10, {"name": "bases", "t1": 16, "factor": 2}, 1, 1_150, 30_688),
    (CIFAR10, {"name": "bases", "t1": 100, "factor": 2}, 10, 2_300, 100 * 768 + 230_000),
    (CIFAR10, {"name": "bases", "t1": 200, "factor": 2}, 10, 760, 200 * 768 + 152_000),
    (CIFAR100, {"name": "bases", "t1": 100, "factor": 2}, 1, 2_300, 100 * 768 + 230_000),
    # four tiles an image of 32 pixels; for 28 pixels and factor 3 tiles of 10 x 10, all whole
    (CIFAR10, {"name": "tiles", "factor": 2}, 10, 400, 307_200),
    (FASHION, {"name": "tiles", "factor": 2}, 1, 40, 7_840),
    (FASHION, {"name": "tiles", "factor": 3}, 1, 78, 7_800),
    (DIGITS, {"name": "dct"}, 1, 40, 2_560),
    (DIGITS, {"name": "ldct"}, 1, 36, 36 * 64 + 256),
    (DIGITS, {"name": "svd", "share": 0.6}, 1, 170, 6 * 256 + 170 * 6),
    (FASHION, {"name": "ldct"}, 1, 36, 36 * 196 + 784),
]


# Images a class that fit beside K half-sized bases: floor((N C D - K D / 4) / (C K)), by hand for
# every data set of the tables; None where nothing fits.
BASES = {
    (CIFAR10, 1): {16: 115, 32: 19, 64: None, 100: None, 128: None, 200: None},
    (CIFAR10, 10): {16: 1843, 32: 883, 64: 403, 100: 230, 128: 163, 200: 76},
    (CIFAR10, 50): {16: 9523, 32: 4723, 64: 2323, 100: 1459, 128: 1123, 200: 691},
    (CIFAR100, 1): {16: 184, 32: 88, 64: 40, 100: 23, 128: 16, 200: 7},
    (CIFAR100, 10): {16: 1912, 32: 952, 64: 472, 100: 299, 128: 232, 200: 145},
    (CIFAR100, 50): {16: 9592, 32: 4792, 64: 2392, 100: 1528, 128: 1192, 200: 760},
    (TINY, 1): {16: 752, 32: 368, 64: 176, 100: 107, 128: 80, 200: 46},
    (FASHION, 1): {16: 29, 32: 4, 64: None, 100: None, 128: None, 200: None},
    (FASHION, 10): {16: 470, 32: 225, 64: 102, 100: 58, 128: 41, 200: 19},
    (FASHION, 50): {16: 2430, 32: 1205, 64: 592, 100: 372, 128: 286, 200: 176},
    (DIGITS, 1): {16: 9, 32: 1, 64: None, 100: None, 128: None, 200: None},
    (DIGITS, 10): {16: 153, 32: 73, 64: 33, 100: 19, 128: 13, 200: 6},
}


@pytest.mark.parametrize(("spec", "ipc"), BASES)
def test_images_a_class_beside_bases(spec, ipc):
    for t1, expected in BASES[spec, ipc].items():
        section = {"name": "bases", "t1": t1, "factor": 2, "images_per_class": 10_000}
        if expected is None:
            with pytest.raises(BudgetExceeded, match="would store"):
                parameterizations.plan(section, spec, ipc)
        else:
            planned = parameterizations.plan(section, spec, ipc)
            assert planned.num_images == expected * spec.num_classes, t1


@pytest.mark.parametrize(("spec", "settings", "ipc", "images", "stored"), COUNTED)
def test_hand_counts(spec, settings, ipc, images, stored):
    planned = parameterizations.plan(settings, spec, ipc)
    assert planned.num_images == images
    limit = Budget(spec.image_shape, spec.num_classes, ipc).num_elements
    assert planned.num_elements == stored <= limit
    module = parameterizations.build(settings, spec, ipc)
    counts = module.labels.bincount()
    assert len(module.labels) == images
    assert len(counts) == spec.num_classes and counts.max() - counts.min() <= 1
    assert module.ledger().stored_bits == 32 * stored


def test_the_cap_on_images_holds():
    capped = {"name": "lsvd", "share": 0.5, "images_per_class": 20}
    assert parameterizations.plan(capped, CIFAR10, 1).num_images == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "dct", "t3": 33}, "parameterization 'dct': .* t=33, u=32"),
        ({"name": "dct", "t3": 0}, "`t3` is 0; expected a whole number of at least 1"),
        ({"name": "dct", "dct_type": 3}, "`dct_type` is 3; expected one of 2, 4"),
        (
            {"name": "svd", "share": 1.0},
            "`share` is 1.0; expected a finite number above 0 and below 1",
        ),
        ({"name": "lsvd", "share": 0.5, "images_per_class": 0}, "`images_per_class` is 0"),
        (
            {"name": "lsvd", "share": 0.5, "images_per_class": 10**12},
            "is 1000000000000; .* at most 1000000",
        ),
        ({"name": "bases", "t1": 4, "factor": 3}, "factor is 3; expected a divisor of the side 32"),
        ({"name": "bases", "t1": 0, "factor": 2}, "`t1` is 0"),
        ({"name": "tiles", "factor": 0}, "`factor` is 0"),
        ({"name": "tiles", "factor": 33}, "factor is 33; expected at most the side 32"),
        ({"name": "tiles", "factor": 2, "init": "mix"}, "`init` is 'mix'"),
        ({"name": "svd"}, "share"),
        ({"name": "tiles"}, "factor"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        parameterizations.plan(settings, CIFAR10, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "ldct", "t3": 32},
        {"name": "bases", "t1": 40, "factor": 2},
    ],
)
def test_what_does_not_fit_is_refused(settings):
    """Learned 32 x 32 matrices, or forty bases, leave no room for an image a class."""
    with pytest.raises(BudgetExceeded, match=r"ipc 1 with 10 .* allows 30720"):
        parameterizations.plan(settings, CIFAR10, 1)
