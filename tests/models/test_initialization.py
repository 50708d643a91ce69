import copy

import pytest
import torch
from torch import nn

from nsdbench import models


def build(name, **kwargs):
    return models.build(name, in_channels=3, image_size=32, num_classes=10, **kwargs)


@pytest.mark.parametrize("name", models.NAMES)
def test_a_seed_decides_every_parameter(name):
    width = {"lenet": 6, "vit_tiny": 12}.get(name, 8)
    model, twin = build(name, width=width), build(name, width=width)
    models.initialize(model, torch.Generator().manual_seed(3))
    models.initialize(twin, torch.Generator().manual_seed(3))
    assert torch.equal(models.flatten(model), models.flatten(twin))
    models.initialize(twin, torch.Generator().manual_seed(4))
    for (parameter_name, first), second in zip(
        model.named_parameters(), twin.parameters(), strict=True
    ):
        is_constant = bool((first == first.flatten()[0]).all())  # the scale and shift of norms
        assert is_constant == torch.equal(first, second), parameter_name


def test_lecun_normal_is_that_of_flax():
    """Of n weights: mean 0 and variance 1/fan_in within 6 errors, none beyond 2 / 0.8796 of it."""
    model = build("convnet_frepo", norm="batch_norm")
    models.initialize(model, torch.Generator().manual_seed(0))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            scaled = module.weight.detach().double().flatten() * fan_in**0.5
            n = len(scaled)
            assert abs(scaled.mean()) < 6 / n**0.5, name
            assert abs(scaled.square().mean() - 1) < 6 * (2 / n) ** 0.5, name
            limit = 2 / 0.87962566103423978
            assert 0.95 * limit < scaled.abs().max() <= limit * (1 + 1e-6), name
            assert not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()


def test_a_transformer_starts_as_deit():
    """Linear weights and embeddings N(0, 0.02^2), biases 0; the patches as PyTorch's convolutions.

    Mean and mean square of n such values have standard errors 0.02/sqrt(n) and 0.0004 sqrt(2/n); 6
    are allowed.
    """
    model = build("vit_tiny")
    models.initialize(model, torch.Generator().manual_seed(0))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            weight = module.weight.detach().double().flatten() / 0.02
            assert abs(weight.mean()) < 6 / len(weight) ** 0.5, name
            assert abs(weight.square().mean() - 1) < 6 * (2 / len(weight)) ** 0.5, name
            assert not getattr(module, "bias", torch.zeros(1)).any()
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and not module.bias.any()
    patches = model.features.patches.weight
    assert 0.9 < patches.abs().max() * 48**0.5 <= 1


def test_global_generator_is_left_alone():
    model = build("convnet", width=8)
    state = torch.get_rng_state()
    models.initialize(model, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_plain_convnet_starts_normally_distributed():
    """Weights N(0, 2 / fan_in), biases N(0, 0.01).

    With n values of variance v, mean and mean square have standard errors sqrt(v / n) and
    v sqrt(2 / n), the mean fourth power, which tells a normal distribution, v^2 sqrt(96 / n);
    6 errors are allowed.
    """
    model = models.build("convnet_plain", in_channels=3, image_size=32, num_classes=10, width=64)
    models.initialize(model, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        is_bias, n = name.endswith("bias"), parameter.numel()
        variance = 0.01 if is_bias else 2 / parameter[0].numel()
        values = parameter.detach().double()
        assert abs(values.mean()) < 6 * (variance / n) ** 0.5, name
        second, fourth = (float(values.pow(k).mean()) for k in (2, 4))
        assert second == pytest.approx(variance, abs=6 * variance * (2 / n) ** 0.5), name
        assert fourth == pytest.approx(3 * variance**2, abs=6 * variance**2 * (96 / n) ** 0.5), name


OTHERS = ("convnet_frepo", "convnet_plain", "vit_tiny")


@pytest.mark.parametrize("name", [name for name in models.NAMES if name not in OTHERS])
def test_distribution_is_pytorchs_default(name):
    """Uniform in PyTorch's own bound: range, mean and variance; norms at 1 and 0.

    The bound is read from PyTorch itself, as the largest value of many default draws. With n values
    uniform in [-b, b], the largest misses b by a factor 1 - t with probability exp(-n t), and mean
    and variance have standard errors b / sqrt(3 n) and b^2 sqrt(4 / 45 n); 6 errors are allowed.
    """
    torch.manual_seed(0)  # build() draws from the global generator
    default = build(name)
    ours = copy.deepcopy(default)
    models.initialize(ours, torch.Generator().manual_seed(0))
    for (parameter_name, theirs), parameter in zip(
        default.named_parameters(), ours.parameters(), strict=True
    ):
        n, values = parameter.numel(), parameter.detach().double()
        if torch.equal(theirs, torch.ones(n)) or torch.equal(theirs, torch.zeros(n)):
            assert torch.equal(parameter, theirs), parameter_name
            continue
        bound = float(theirs.detach().abs().max())
        assert values.abs().max() == pytest.approx(bound, rel=40 / n), parameter_name
        assert abs(values.mean()) < 6 * bound / (3 * n) ** 0.5, parameter_name
        error = 6 * bound**2 * (4 / (45 * n)) ** 0.5 + bound**2 * 80 / (3 * n)
        assert values.square().mean() == pytest.approx(bound**2 / 3, abs=error), parameter_name


def test_batch_norm_forgets_its_statistics():
    model = build("convnet", width=4, norm="batch_norm")
    model(torch.ones(4, 3, 32, 32))
    models.initialize(model, torch.Generator().manual_seed(0))
    norm = model.features[1]
    assert torch.equal(norm.running_mean, torch.zeros(4)) and norm.num_batches_tracked == 0


def test_unknown_parameters_are_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.PReLU())
    with pytest.raises(ValueError, match="module '1' is a PReLU"):
        models.initialize(model, torch.Generator().manual_seed(0))
