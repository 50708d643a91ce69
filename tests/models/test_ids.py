from types import SimpleNamespace

import pytest

from nsdbench import models


@pytest.mark.parametrize(
    ("identifier", "parts"),
    [
        ("convnet3-w128", ("convnet", 3, 128, "instance_norm")),
        ("convnet12-w32", ("convnet", 12, 32, "instance_norm")),
        ("convnet_plain3-w1024", ("convnet_plain", 3, 1024, "instance_norm")),
        ("alexnet", ("alexnet", None, None, "instance_norm")),
        ("alexnet-w16", ("alexnet", None, 16, "instance_norm")),
        ("alexnet_ap-w16", ("alexnet_ap", None, 16, "instance_norm")),
        ("vgg11", ("vgg11", None, None, "instance_norm")),
        ("resnet18", ("resnet18", None, None, "instance_norm")),
        ("resnet18_ap", ("resnet18_ap", None, None, "instance_norm")),
        ("resnet18_ap-w8", ("resnet18_ap", None, 8, "instance_norm")),
        ("convnet3-w128-bn", ("convnet", 3, 128, "batch_norm")),
        ("convnet3-w1024-nonorm", ("convnet", 3, 1024, "none")),
        ("convnet_frepo3-w128-bn", ("convnet_frepo", 3, 128, "batch_norm")),
        ("vgg11-bn", ("vgg11", None, None, "batch_norm")),
        ("resnet18-w8-bn", ("resnet18", None, 8, "batch_norm")),
        ("resnet10-bn", ("resnet10", None, None, "batch_norm")),
        ("resnet34-nonorm", ("resnet34", None, None, "none")),
        ("vgg16-w8-bn", ("vgg16", None, 8, "batch_norm")),
        ("lenet", ("lenet", None, None, "instance_norm")),
        ("mlp-w64", ("mlp", None, 64, "instance_norm")),
        ("vit_tiny-w96", ("vit_tiny", None, 96, "instance_norm")),
    ],
)
def test_id_to_parts_and_back(identifier, parts):
    assert models.parse_id(identifier) == parts
    assert models.arch_id(*parts) == identifier


def test_published_sizes_are_filled_in():
    assert models.arch_id("convnet") == "convnet3-w128"
    assert models.arch_id("convnet", depth=5) == "convnet5-w128"
    assert models.arch_id("alexnet", width=128) == "alexnet"
    assert models.arch_id("vgg11", width=64) == "vgg11"


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "convnet",
        "convnet3",
        "convnet0-w128",
        "convnet3-w0",
        "convnet3-w128 ",
        "lenet5",
        "lenet-bn",
        "vit_tiny-nonorm",
        "mlp3-w128",
        "resnet50",
        "vgg13",
        "convnet-w8",
        "resnet184",
        "resnet18_ap2-w8",
        "vgg11-w0",
        "convnet3-bn",
        "convnet3-bn-w128",
        "convnet3-w128-bn-nonorm",
        "alexnet-bn",
    ],
)
def test_unknown_ids(identifier):
    with pytest.raises(ValueError, match="unknown architecture id.*convnet3-w128"):
        models.parse_id(identifier)


def test_arch_id_refuses_what_build_refuses():
    with pytest.raises(ValueError, match="fixed depth"):
        models.arch_id("resnet18", depth=2)
    with pytest.raises(ValueError, match="unknown network 'mpl'.*mlp"):
        models.arch_id("mpl")
    with pytest.raises(ValueError, match="alexnet has no norm layer"):
        models.arch_id("alexnet", norm="batch_norm")
    with pytest.raises(ValueError, match="unknown norm 'layer'"):
        models.arch_id("convnet", norm="layer")


@pytest.mark.parametrize(
    ("identifier", "resolved"),
    [
        ("convnet", "convnet4-w128"),
        ("convnet-w32", "convnet4-w32"),
        ("convnet2", "convnet2-w128"),
        ("convnet3-w128", "convnet3-w128"),
        ("alexnet", "alexnet"),
        ("resnet18-w64", "resnet18"),
        ("convnet-bn", "convnet4-w128-bn"),
        ("resnet18-w64-bn", "resnet18-bn"),
    ],
)
def test_resolve_with_the_depth_of_a_dataset(identifier, resolved):
    assert models.resolve_id(identifier, SimpleNamespace(default_depth=4)) == resolved


def test_from_id_builds_that_network():
    sizes = {"in_channels": 3, "image_size": 32, "num_classes": 10}
    convnet = models.from_id("convnet2-w16", **sizes)
    assert (type(convnet), convnet.depth, convnet.width) == (models.ConvNet, 2, 16)
    assert models.num_parameters(models.from_id("alexnet", **sizes)) == 1_872_202
    assert models.from_id("convnet2-w16-bn", **sizes).norm == "batch_norm"
    assert models.from_id("vgg11-w4-nonorm", **sizes).norm == "none"
    assert models.from_id("resnet18_ap-w4", **sizes).pools
    assert not models.from_id("resnet18-w4", **sizes).pools
