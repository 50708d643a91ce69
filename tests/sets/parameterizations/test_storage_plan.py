"""Storage plans against the worked table of hand-counted NSD sizes, and against the budget."""

import pytest

from nsdbench.data import DatasetSpec
from nsdbench.errors import BudgetExceeded
from nsdbench.sets import parameterizations
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.separable import Separable

CIFAR = (3, 32, 32)
TINY = (3, 64, 64)
IMAGENET = (3, 128, 128)
FASHION = (1, 28, 28)

# image shape, classes, ipc, t3, t1, u1, N_K, floats in T, floats in all kernels, images.
# Kernels of one set: t1 u1 + t2^2 + 2 t3 H; grayscale has no channel matrix.
WORKED = [
    (CIFAR, 10, 1, 16, 3, 8, 7, 23_040, 7_399, 560),
    (CIFAR, 10, 10, 16, 38, 48, 5, 291_840, 14_285, 2_400),
    (CIFAR, 10, 10, 16, 39, 48, 2, 299_520, 5_810, 960),
    (CIFAR, 10, 50, 28, 64, 96, 3, 1_505_280, 23_835, 2_880),
    (CIFAR, 100, 1, 16, 3, 6, 16, 230_400, 16_816, 9_600),
    (CIFAR, 100, 1, 16, 3, 4, 64, 230_400, 66_880, 25_600),
    (CIFAR, 100, 10, 16, 39, 48, 2, 2_995_200, 5_810, 9_600),
    (TINY, 200, 1, 32, 3, 6, 16, 1_843_200, 65_968, 19_200),
    (IMAGENET, 10, 1, 64, 3, 8, 7, 368_640, 114_919, 560),
    (FASHION, 10, 1, 14, 3, 24, 2, 5_880, 1_714 - 2, 480),
    (FASHION, 10, 10, 14, 37, 48, 2, 72_520, 5_122 - 2, 960),
]


def plan(name, image_shape, classes, ipc, **settings):
    spec = DatasetSpec("made up", image_shape, classes, None, None, (), (), "", 3)
    return parameterizations.plan({"name": name, **settings}, spec, ipc)


def plan_spectral(image_shape, classes, ipc, **settings):
    return plan("spectral", image_shape, classes, ipc, **settings)


def images_of_classes(shape):
    return Separable(shape).labels.bincount().tolist()


@pytest.mark.parametrize("row", WORKED)
def test_worked_table(row):
    image_shape, classes, ipc, t3, t1, u1, num_kernel_sets, spectra, kernels, images = row
    shape = plan_spectral(image_shape, classes, ipc, num_kernel_sets=num_kernel_sets, t1=t1, u1=u1)
    assert shape.t[2:] == (t3, t3)
    assert shape.num_elements == spectra + kernels
    assert shape.num_images == images
    assert images_of_classes(shape) == [images // classes] * classes


@pytest.mark.parametrize(
    ("image_shape", "ipc", "t1", "u1", "num_kernel_sets", "used"),
    [
        (CIFAR, 1, 33, 50, 2, 25_344 + 5_366),
        (CIFAR, 10, 200, 760, 1, 153_600 + 153_033),
        (IMAGENET, 1, 35, 70, 3, 486_609),
        (FASHION, 1, 28, 50, 1, 7_673 - 1),
    ],
)
def test_worked_examples_with_one_global_spectrum(image_shape, ipc, t1, u1, num_kernel_sets, used):
    shape = plan_spectral(
        image_shape,
        10,
        ipc,
        class_scheme="columns",
        num_kernel_sets=num_kernel_sets,
        t1=t1,
        u1=u1,
    )
    assert shape.num_elements == used
    assert shape.num_spectra == 1
    assert images_of_classes(shape) == [u1 * num_kernel_sets // 10] * 10


@pytest.mark.parametrize("class_scheme", ["spectra", "columns"])
@pytest.mark.parametrize("num_kernel_sets", [1, 2, 5])
@pytest.mark.parametrize(("image_shape", "classes", "ipc"), [row[:3] for row in WORKED])
def test_free_plan_fits_and_no_larger_t1_would(
    image_shape, classes, ipc, num_kernel_sets, class_scheme
):
    shape = plan_spectral(
        image_shape, classes, ipc, class_scheme=class_scheme, num_kernel_sets=num_kernel_sets
    )
    t1, u1 = shape.t[0], shape.u[0]
    assert shape.num_elements <= Budget(image_shape, classes, ipc).num_elements
    assert t1 < u1
    assert shape.num_images <= max(250, num_kernel_sets * (t1 + 1)) * classes + classes
    least = t1 + 2 if class_scheme == "spectra" else -(-(t1 + 2) // classes) * classes
    with pytest.raises(BudgetExceeded, match=r"Eq\. 3"):
        plan_spectral(
            image_shape,
            classes,
            ipc,
            class_scheme=class_scheme,
            num_kernel_sets=num_kernel_sets,
            t1=t1 + 1,
            u1=least,
        )


@pytest.mark.parametrize("u1", [1, 2, 3, 8])
def test_a_fixed_u1_keeps_t1_below_it(u1):
    assert plan_spectral(CIFAR, 10, 10, u1=u1).t[0] == max(1, u1 - 1)


def test_resolution_above_ten_images_per_class_is_seven_eighths():
    assert plan_spectral(CIFAR, 10, 50).t[2:] == (28, 28)
    assert plan_spectral(TINY, 200, 11).t[2:] == (56, 56)


def test_pixels_use_the_whole_budget():
    shape = plan("pixels", CIFAR, 10, 5)
    assert shape.num_elements == Budget(CIFAR, 10, 5).num_elements == 5 * 10 * 3 * 32 * 32
    assert Separable(shape).labels.tolist() == [c for c in range(10) for _ in range(5)]


def test_more_images_are_planned_up_to_the_budget_and_the_cap():
    """One more column, or one more of every class, would not fit or would pass the cap."""
    for class_scheme, step in (("spectra", 1), ("columns", 10)):
        settings = {"class_scheme": class_scheme, "num_kernel_sets": 2, "t1": 3}
        free = plan_spectral(CIFAR, 10, 1, images_per_class=10**6, **settings)
        with pytest.raises(BudgetExceeded):
            plan_spectral(CIFAR, 10, 1, u1=free.u[0] + step, **settings)
        capped = plan_spectral(CIFAR, 10, 1, images_per_class=40, **settings)
        assert capped.u[0] == 20 * step < free.u[0]


def test_refuses_what_does_not_fit():
    with pytest.raises(BudgetExceeded, match="store 31[0-9]+ floats, but ipc 1 .* allows 30720"):
        plan_spectral(CIFAR, 10, 1, num_kernel_sets=7, t1=3, u1=80)
    with pytest.raises(BudgetExceeded, match="ipc 1 .* num_kernel_sets=1000"):
        plan_spectral(CIFAR, 10, 1, num_kernel_sets=1000)
    with pytest.raises(ValueError, match="parameterization 'spectral': .*32x16; expected square"):
        plan_spectral((3, 32, 16), 10, 1)
    with pytest.raises(
        ValueError, match="`num_kernel_sets` is 0; expected a whole number of at least 1"
    ):
        plan_spectral(CIFAR, 10, 1, num_kernel_sets=0)
    with pytest.raises(ValueError, match="init is 'real'; .* starts at noise"):
        plan_spectral(CIFAR, 10, 1, class_scheme="columns", init="real")
    with pytest.raises(ValueError, match="`init_scale` is -1; expected a finite number above 0"):
        plan_spectral(CIFAR, 10, 1, init_scale=-1)
