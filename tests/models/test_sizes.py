"""Sizes in closed form: against counting on the meta device, and by hand."""

import subprocess
import sys

import pytest

from nsdbench import models
from nsdbench.models import counting, sizes

ARCHS = [
    *("convnet1-w1", "convnet2-w8", "convnet3-w128", "convnet4-w32", "convnet5-w17"),
    *("convnet_plain1-w4", "convnet_plain3-w1024"),
    *("resnet18", "resnet18-w3", "resnet18_ap", "resnet18_ap-w24"),
    *("vgg11", "vgg11-w5", "alexnet", "alexnet-w16", "alexnet_ap", "alexnet_ap-w8"),
    *(
        "convnet_frepo3-w4-bn",
        "convnet_frepo4-w3-nonorm",
        "convnet3-w8-bn",
        "convnet3-w8-nonorm",
        "resnet18-w3-nonorm",
        "vgg11-w5-nonorm",
    ),
    *("resnet10", "resnet10-w4-bn", "resnet34-w2", "resnet34", "vgg16", "vgg16-w4-nonorm"),
    *("lenet", "lenet-w3", "mlp", "mlp-w5", "vit_tiny", "vit_tiny-w6"),
]


@pytest.mark.parametrize("arch", ARCHS)
def test_closed_form_equals_counting(arch):
    """On every image size of the tables and some odd ones; too small ones are refused by both."""
    for channels in (1, 3):
        for size in (7, 9, 16, 28, 32, 45, 64, 128):
            shape = (channels, size, size)
            try:
                counted = models.NetworkSize(*counting.count(arch, shape, 7))
            except ValueError as error:
                with pytest.raises(ValueError) as refused:
                    models.network_size(arch, shape, 7)
                assert str(refused.value) == str(error)
            else:
                assert models.network_size(arch, shape, 7) == counted, shape


def test_every_network_has_a_closed_form():
    assert set(sizes._WALKS) == set(models.NAMES)


def test_convnet_by_hand():
    # grey: 16 px are padded to 20 px maps, pooled to 10 px, then 5 px
    flops = 2 * 9 * 8 * 20 * 20 + 2 * 9 * 8 * 8 * 10 * 10 + 2 * 8 * 5 * 5 * 10
    activations = 8 * (3 * 20 * 20 + 10 * 10) + 8 * (3 * 10 * 10 + 5 * 5) + 10
    parameters = (9 * 8 + 8 + 16) + (9 * 64 + 8 + 16) + (200 * 10 + 10)
    expected = models.NetworkSize(flops, activations, parameters)
    assert models.network_size("convnet2-w8", (1, 16, 16), 10) == expected


def test_resnet_by_hand():
    """The stem and first stage keep 4 channels and 16 px; the others halve the map, last 2 px."""

    def block(before, after, side):
        """A block whose branch strides or widens, with a shortcut: two norms and one more."""
        weights = 9 * before * after + 9 * after * after + before * after
        return weights + 6 * after, 2 * weights * side**2, 8 * after * side**2

    def plain(channels, side):
        weights = 18 * channels * channels
        return weights + 4 * channels, 2 * weights * side**2, 6 * channels * side**2

    stem = 27 * 4 + 8, 2 * 27 * 4 * 256, 3 * 4 * 256
    blocks = [plain(4, 16), plain(4, 16), block(4, 8, 8), plain(8, 8)]
    blocks += [block(8, 16, 4), plain(16, 4), block(16, 32, 2), plain(32, 2)]
    pool_and_classifier = 32 * 10 + 10, 2 * 32 * 10, 32 + 10
    layers = zip(stem, *blocks, pool_and_classifier, strict=True)
    parameters, flops, activations = (sum(column) for column in layers)
    expected = models.NetworkSize(flops, activations, parameters)
    assert models.network_size("resnet18-w4", (3, 16, 16), 10) == expected


def test_network_without_a_closed_form_is_counted(monkeypatch):
    expected = models.network_size("vgg11-w4", (3, 32, 32), 10)
    monkeypatch.delitem(sizes._WALKS, "vgg11")
    assert models.network_size("vgg11-w4", (3, 32, 32), 10) == expected


@pytest.mark.parametrize(
    ("arch", "shape", "message"),
    [
        ("googlenet", (3, 32, 32), "unknown architecture id 'googlenet'"),
        ("convnet3-w8", (3, 5, 6), "square images, got 5 x 6 px"),
        ("alexnet-w3", (3, 32, 32), "width 3 would turn 192 channels into 4.5"),
    ],
)
def test_refusals(arch, shape, message):
    with pytest.raises(ValueError, match=message):
        models.network_size(arch, shape, 10)


def test_sizes_and_ids_load_no_torch():
    program = (
        "import sys; from nsdbench import models; models.network_size('vgg11', (3, 32, 32), 10); "
        "models.NAMES, models.NORMS, models.resolve_id; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
