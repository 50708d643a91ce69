"""Networks against forward passes written out from the reference description."""

import pytest
import torch
from torch.nn import functional as F

from nsdbench import models
from nsdbench.seeding import generator

# spec: networks.py of MTT; the counts were taken from its networks, that of alexnet_ap is alexnet's
# and two for each of its 960 channels
PUBLISHED_COUNTS = [
    ("convnet", 3, 32, 10, None, 320_010),
    ("convnet", 3, 32, 100, None, 504_420),
    ("convnet", 1, 28, 10, None, 317_706),
    ("convnet", 3, 64, 200, 4, 857_160),
    ("convnet", 3, 64, 200, 3, 1_938_120),
    ("convnet", 3, 128, 10, 5, 615_690),
    ("alexnet", 3, 32, 10, None, 1_872_202),
    ("alexnet_ap", 3, 32, 10, None, 1_872_202 + 2 * 960),
    # 28 -> 3 px: 9 (1 + 1024 + 1024) 1024 weights, 3 x 1024 biases, 9216 features
    ("convnet_plain", 1, 28, 10, None, 9 * 2049 * 1024 + 3 * 1024 + 92_170),
    ("vgg11", 3, 32, 10, None, 9_231_114),
    ("resnet18", 3, 32, 10, None, 11_173_962),
    ("resnet18_ap", 3, 32, 10, None, 11_250_762),
    # stem 1,856; stages 73,984 + 230,144 + 919,040 + 3,673,088 of one block each; classifier 5,130
    ("resnet10", 3, 32, 10, None, 1_856 + 73_984 + 230_144 + 919_040 + 3_673_088 + 5_130),
    # those of 3, 4, 6 and 3 blocks: a further one has 18 c^2 weights and 4 c of norms
    ("resnet34", 3, 32, 10, None, 4_903_242 + 2 * 73_984 + 3 * 295_424 + 5 * 1_180_672
     + 2 * 4_720_640),
    # 14,710,464 weights, 4,224 biases and 8,448 of norms; classifier 5,130
    ("vgg16", 3, 32, 10, None, 14_710_464 + 4_224 + 8_448 + 5_130),
    # LeCun et al. 1998 in colour and in grey, with all connections: 156 (456) + 2,416 + 48,120
    # + 10,164 + 850
    ("lenet", 3, 32, 10, None, 62_006),
    ("lenet", 1, 28, 10, None, 61_706),
    ("mlp", 3, 32, 10, None, 3_073 * 128 + 129 * 128 + 1_290),
    ("mlp", 1, 28, 10, None, 785 * 128 + 129 * 128 + 1_290),
    # DeiT-Ti, printed as 5M; the count is that of timm's deit_tiny_patch16_224
    ("vit_tiny", 3, 224, 1000, None, 5_717_416),
    # patches of 4 px: 49 (48) weights each, 64 positions and the class token's, the class token
    ("vit_tiny", 3, 32, 10, None, 49 * 192 + 66 * 192 + 12 * 444_864 + 384 + 1_930),
]  # fmt: skip
NARROW = {
    "convnet": 8, "alexnet": 8, "alexnet_ap": 8, "vgg11": 4, "resnet18": 4, "resnet18_ap": 4,
    "convnet_frepo": 4, "convnet_plain": 8, "resnet10": 4, "resnet34": 4, "vgg16": 4, "lenet": 3,
    "mlp": 8, "vit_tiny": 12,
}  # fmt: skip


@pytest.mark.parametrize("name, channels, size, classes, depth, count", PUBLISHED_COUNTS)
def test_published_parameter_counts(name, channels, size, classes, depth, count):
    model = models.build(
        name, in_channels=channels, image_size=size, num_classes=classes, depth=depth
    )
    assert models.num_parameters(model) == count


def take(parameters, count):
    return [next(parameters) for _ in range(count)]


def instance_norm(x, weight, bias):
    """(x - mean) / sqrt(var + 1e-5) per image and channel, then scale and shift."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    normal = (x - mean) / (variance + 1e-5).sqrt()
    return normal * weight[:, None, None] + bias[:, None, None]


def convnet_forward(x, parameters, depth):
    for block in range(depth):
        weight, bias, scale, shift = take(parameters, 4)
        padding = 3 if block == 0 and x.shape[1] == 1 else 1
        x = instance_norm(F.conv2d(x, weight, bias, padding=padding), scale, shift).relu()
        x = F.avg_pool2d(x, 2)
    return x


def convnet_frepo_forward(x, parameters, depth):
    padding = 3 if x.shape[1] == 1 else 1
    for block in range(depth):
        x = instance_norm(x, *take(parameters, 2)) if block else x
        x = F.conv2d(x, *take(parameters, 2), padding=padding).relu()
        x = F.avg_pool2d(x, 2)
        padding = 1
    return x


def plain_convnet_forward(x, parameters, depth):
    for _ in range(depth):
        weight, bias = take(parameters, 2)
        x = F.avg_pool2d(F.conv2d(x, weight, bias, padding=1).relu(), 2)
    return x


def alexnet_forward(x, parameters, is_normed):
    paddings = [4 if x.shape[1] == 1 else 2, 2, 1, 1, 1]
    stride = 2 if x.shape[2] >= 64 else 1
    for layer, padding in enumerate(paddings):
        weight, bias = take(parameters, 2)
        x = F.conv2d(x, weight, bias, padding=padding, stride=stride if layer == 0 else 1)
        x = (instance_norm(x, *take(parameters, 2)) if is_normed else x).relu()
        if layer in (0, 1, 4):
            x = F.avg_pool2d(x, 2) if is_normed else F.max_pool2d(x, 2)
    return x


def vgg_forward(x, parameters, pooled):
    for layer in range(pooled[-1] + 1):
        weight, bias, scale, shift = take(parameters, 4)
        padding = 3 if layer == 0 and x.shape[1] == 1 else 1
        x = instance_norm(F.conv2d(x, weight, bias, padding=padding), scale, shift).relu()
        if layer in pooled:
            x = F.max_pool2d(x, 2)
    return x


def lenet_forward(x, parameters):
    padding = 2 if x.shape[1] == 1 else 0
    for _ in range(2):
        x = F.max_pool2d(F.conv2d(x, *take(parameters, 2), padding=padding).relu(), 2)
        padding = 0
    return mlp_forward(x, parameters)


def mlp_forward(x, parameters):
    x = x.flatten(1)
    for _ in range(2):
        x = F.linear(x, *take(parameters, 2)).relu()
    return x


def layer_norm(x, weight, bias):
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * weight + bias


def vit_forward(x, parameters):
    """Twelve blocks, three heads, all tokens one by one as far as that is readable."""
    first, positions, weight, bias = take(parameters, 4)
    x = F.conv2d(x, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([first.expand(len(x), -1, -1), x], dim=1) + positions
    head = x.shape[2] // 3
    for _ in range(12):
        normal = layer_norm(x, *take(parameters, 2))
        qkv = F.linear(normal, *take(parameters, 2)).split(3 * head, dim=2)
        seen = []
        for rows in zip(*(part.split(head, dim=2) for part in qkv), strict=True):
            query, key, value = rows
            scores = torch.einsum("bid,bjd->bij", query, key) / head**0.5
            seen.append(
                torch.einsum("bij,bjd->bid", scores.exp() / scores.exp().sum(2, True), value)
            )
        x = x + F.linear(torch.cat(seen, dim=2), *take(parameters, 2))
        normal = layer_norm(x, *take(parameters, 2))
        hidden = F.linear(normal, *take(parameters, 2))
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        x = x + F.linear(hidden, *take(parameters, 2))
    return layer_norm(x, *take(parameters, 2))[:, 0]


def resnet_forward(x, parameters, pools=False, blocks=(2, 2, 2, 2)):
    weight, scale, shift = take(parameters, 3)
    x = instance_norm(F.conv2d(x, weight, padding=1), scale, shift).relu()
    firsts = [sum(blocks[:stage]) for stage in (1, 2, 3)]
    for block in range(sum(blocks)):
        shrinks = block in firsts
        stride = 2 if shrinks and not pools else 1
        weight, scale, shift = take(parameters, 3)
        branch = instance_norm(F.conv2d(x, weight, padding=1, stride=stride), scale, shift).relu()
        if shrinks and pools:
            branch = F.avg_pool2d(branch, 2)
        weight, scale, shift = take(parameters, 3)
        branch = instance_norm(F.conv2d(branch, weight, padding=1), scale, shift)
        if shrinks:
            weight, scale, shift = take(parameters, 3)
            x = F.conv2d(x, weight, stride=stride)
            x = instance_norm(F.avg_pool2d(x, 2) if pools else x, scale, shift)
        x = (branch + x).relu()
    return x if pools else F.avg_pool2d(x, min(4, x.shape[2]))


def reference_forward(name, x, parameters, depth=3):
    parameters = iter(parameters)
    if name == "convnet":
        x = convnet_forward(x, parameters, depth)
    elif name == "convnet_plain":
        x = plain_convnet_forward(x, parameters, depth)
    elif name.startswith("alexnet"):
        x = alexnet_forward(x, parameters, is_normed=name == "alexnet_ap")
    elif name == "vgg11":
        x = vgg_forward(x, parameters, (0, 1, 3, 5, 7))
    elif name == "vgg16":
        x = vgg_forward(x, parameters, (1, 3, 6, 9, 12))
    elif name == "lenet":
        x = lenet_forward(x, parameters)
    elif name == "mlp":
        x = mlp_forward(x, parameters)
    elif name == "vit_tiny":
        x = vit_forward(x, parameters)
    elif name == "convnet_frepo":
        x = convnet_frepo_forward(x, parameters, depth)
    elif name == "resnet18_ap":
        x = resnet_forward(x, parameters, pools=True)
    else:
        blocks = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
        x = resnet_forward(x, parameters, blocks=blocks[name])
    weight, bias = take(parameters, 2)
    assert next(parameters, None) is None, "a parameter was not used"
    return F.linear(x.flatten(1), weight, bias), x.flatten(1)


@pytest.mark.parametrize(
    ("name", "channels", "size", "depth"),
    [
        *[(name, channels, 32, None) for name in models.NAMES for channels in (1, 3)],
        *[(name, 1, 28, None) for name in models.NAMES],
        ("convnet_frepo", 1, 16, 2),
        ("convnet_frepo", 3, 64, 4),
        ("convnet", 3, 16, 2),
        ("convnet_plain", 1, 16, 2),
        ("convnet", 1, 16, 2),
        ("convnet", 3, 7, 1),
        ("convnet", 1, 4, 3),
        ("convnet", 3, 64, 4),
        ("alexnet", 3, 64, None),
        ("alexnet_ap", 3, 64, None),
        ("resnet18", 3, 16, None),
        ("resnet18_ap", 3, 16, None),
    ],
)
def test_network_equals_reference_forward(name, channels, size, depth):
    """Layers, their order and the order of parameters() are those of the reference networks."""
    generator = torch.Generator().manual_seed(size + channels)
    model = models.build(
        name,
        in_channels=channels,
        image_size=size,
        num_classes=5,
        width=NARROW[name],
        depth=depth,
    ).double()
    models.initialize(model, generator)
    with torch.no_grad():  # scales and shifts that show a wrong order
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    x = torch.randn(3, channels, size, size, generator=generator, dtype=torch.float64)
    logits, features = reference_forward(name, x, model.parameters(), depth or 3)
    torch.testing.assert_close(model(x), logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.embed(x), features, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name, share",
    [(name, {"lenet": 2}.get(name, 4)) for name in models.NAMES if name != "vit_tiny"],
)
def test_width_scales_every_layer(name, share):
    """A share of the width has that share of the output channels in every layer but the last."""

    def channels(width):
        model = models.build(name, in_channels=3, image_size=32, num_classes=7, width=width)
        return [p.shape[0] for p in model.parameters()]

    assert models.NAMES[-1] == "vit_tiny"  # see below
    published = channels(None)
    assert channels(models.PUBLISHED_WIDTHS[name]) == published
    narrow = channels(models.PUBLISHED_WIDTHS[name] // share)
    assert [share * count for count in narrow[:-2]] == published[:-2]
    assert narrow[-2:] == published[-2:] == [7, 7]


def test_width_of_a_vit_is_that_of_its_tokens():
    model = models.build("vit_tiny", in_channels=3, image_size=32, num_classes=7, width=6)
    sizes = dict.fromkeys(size for p in model.parameters() for size in p.shape)
    # one class token, 65 positions, 3 channels and 4 px of a patch, 6, 18 and 24 wide, 7 classes
    assert set(sizes) == {1, 65, 3, 4, 6, 18, 24, 7}


@pytest.mark.parametrize(
    ("size", "patch"), [(224, 16), (128, 16), (64, 8), (32, 4), (28, 4), (16, 2), (8, 1), (31, 1)]
)
def test_patches_of_a_vit(size, patch):
    model = models.build("vit_tiny", in_channels=1, image_size=size, num_classes=2, width=3)
    assert model.features.patches.weight.shape == (3, 1, patch, patch)
    assert len(model.features.positions.weight) == (size // patch) ** 2 + 1


def test_norms():
    sizes = {"in_channels": 3, "image_size": 32, "num_classes": 10, "width": 8}
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    names = [name for name, network in models.NETWORKS.items() if network.norms]
    assert set(models.NAMES) - set(names) == {
        "alexnet", "convnet_plain", "lenet", "mlp", "vit_tiny",
    }  # fmt: skip
    for name in names:
        kinds = {}
        for norm in models.NORMS:
            model = models.build(name, **sizes, norm=norm)
            assert model(x).shape == (5, 10)
            layers = {type(module).__name__ for module in model.modules()}
            kinds[norm] = layers & {"GroupNorm", "BatchNorm2d"}
        assert kinds["instance_norm"] == {"GroupNorm"}, name
        assert kinds["batch_norm"] == {"BatchNorm2d"}, name
        assert kinds["none"] == set(), name


def test_running_statistics_of_batch_norm():
    """Of old statistics (0, 1) and of a batch: .9 and .1 (PyTorch), .1 and .9 for FRePo's."""
    sizes = {"in_channels": 1, "image_size": 8, "num_classes": 3, "width": 2, "depth": 2}
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for name, kept, layer in (("convnet", 0.9, 1), ("convnet_frepo", 0.1, 3)):
        model = models.build(name, **sizes, norm="batch_norm").train()
        models.initialize(model, torch.Generator().manual_seed(1))
        norm = model.features[layer]
        seen = model.features[:layer](x)
        model(x)
        mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3))
        torch.testing.assert_close(norm.running_mean, (1 - kept) * mean)
        torch.testing.assert_close(norm.running_var, kept + (1 - kept) * variance)
        before = norm.running_mean.clone()
        model.eval()(x)
        assert torch.equal(norm.running_mean, before)
        models.initialize(model, torch.Generator().manual_seed(1))
        assert not norm.running_mean.any() and (norm.running_var == 1).all()


def test_frepos_network_has_its_published_sizes():
    """128, 256 and 512 channels, norms before blocks 2 and 3, 1.56 million parameters on grey."""
    model = models.from_id("convnet_frepo3-w128-bn", in_channels=1, image_size=28, num_classes=10)
    kinds = [type(module).__name__ for module in model.features]
    block = ["Conv2d", "ReLU", "AvgPool2d"]
    assert kinds == [*block, "BatchNorm2d", *block, "BatchNorm2d", *block]
    weights = 9 * (128 + 128 * 256 + 256 * 512) + 10 * 8192
    assert models.num_parameters(model) == weights + 128 + 256 + 512 + 2 * (128 + 256) + 10
    assert model.classifier.in_features == 8192


def test_training_equals_evaluation_with_instance_norm():
    for name in models.NAMES:
        model = models.build(name, in_channels=3, image_size=32, num_classes=10, width=NARROW[name])
        assert not list(model.buffers())
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        assert torch.equal(model.train()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "lenet5"}, "unknown network 'lenet5'.*convnet, resnet10.*did you mean lenet"),
        ({"name": "convnet", "norm": "layer_norm"}, "unknown norm 'layer_norm'.*instance_norm"),
        ({"name": "alexnet", "norm": "batch_norm"}, "alexnet has no norm layer"),
        ({"name": "vit_tiny", "norm": "none"}, "vit_tiny has no norm layer to choose"),
        ({"name": "vit_tiny", "width": 64}, "width 64 does not divide among the 3 heads"),
        ({"name": "lenet", "width": 4}, "width 4 would turn 16 channels into 10.6"),
        ({"name": "vgg16", "image_size": 31}, "VGG16 needs images of at least 32 px, got 31"),
        ({"name": "resnet34", "image_size": 8}, "ResNet34 needs images of at least 9 px, got 8"),
        ({"name": "vgg11", "depth": 3}, "vgg11 has a fixed depth"),
        ({"name": "convnet", "depth": 6}, "at least 64 px, got 32 px.*smaller depth"),
        ({"name": "convnet", "in_channels": 1, "depth": 6}, "at least 60 px, got 32 px"),
        ({"name": "convnet", "depth": 0}, "depth must be at least 1, got 0"),
        ({"name": "convnet", "width": 0}, "width must be at least 1, got 0"),
        ({"name": "convnet", "num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"name": "alexnet", "width": 3}, "width 3 would turn 192 channels into 4.5"),
        ({"name": "vgg11", "image_size": 31}, "VGG11 needs images of at least 32 px, got 31"),
        ({"name": "alexnet", "image_size": 7}, "AlexNet needs images of at least 8 px, got 7"),
        ({"name": "resnet18", "image_size": 8}, "ResNet18 needs images of at least 9 px, got 8"),
        ({"name": "resnet18_ap", "image_size": 15}, "ResNet18_AP needs .* 16 px, got 15"),
    ],
)
def test_wrong_arguments(arguments, message):
    sizes = {"in_channels": 3, "image_size": 32, "num_classes": 10}
    with pytest.raises(ValueError, match=message):
        models.build(**{**sizes, **arguments})


@pytest.mark.parametrize(
    ("name", "channels", "smallest"),
    [
        ("convnet", 3, 8),
        ("convnet", 1, 4),
        ("alexnet", 3, 8),
        ("alexnet", 1, 4),
        ("alexnet_ap", 3, 8),
        ("vgg11", 3, 32),
        ("vgg11", 1, 28),
        ("vgg16", 3, 32),
        ("resnet10", 3, 9),
        ("resnet18", 3, 9),
        ("resnet34", 3, 9),
        ("resnet18_ap", 3, 16),
        ("lenet", 3, 16),
        ("lenet", 1, 12),
        ("mlp", 1, 1),
        ("vit_tiny", 3, 7),
    ],
)
def test_smallest_image(name, channels, smallest):
    sizes = {"in_channels": channels, "num_classes": 10, "width": NARROW[name]}
    model = models.build(name, image_size=smallest, **sizes)
    assert model(torch.zeros(2, channels, smallest, smallest)).shape == (2, 10)
    wrong = f"at least {smallest} px" if smallest > 1 else "at least 1, got 0"
    with pytest.raises(ValueError, match=wrong):
        models.build(name, image_size=smallest - 1, **sizes)


def test_images_of_another_size_are_refused():
    model = models.build("convnet", in_channels=3, image_size=32, num_classes=10, width=4)
    with pytest.raises(ValueError, match=r"shape \[2, 3, 28, 28\].*built for \[B, 3, 32, 32\]"):
        model(torch.zeros(2, 3, 28, 28))


def test_alexnet_computes_the_same_in_its_memory_format():
    model = models.build("alexnet", in_channels=1, image_size=28, num_classes=3, width=8).double()
    images = torch.randn(4, 1, 28, 28, dtype=torch.float64, generator=generator(0, "images"))
    parameters = tuple(model.parameters())
    expected = [torch.autograd.grad(model(images).square().sum(), parameters), model(images)]
    model.to(memory_format=model.memory_format)
    assert model.features[0].weight.is_contiguous(memory_format=torch.channels_last)
    found = [torch.autograd.grad(model(images).square().sum(), parameters), model(images)]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
