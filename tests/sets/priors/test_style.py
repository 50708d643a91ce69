"""The style-based generator: layers by explicit sums, layout, derivatives, price."""

import itertools
from math import sqrt

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nsdbench.seeding import generator
from nsdbench.sets.priors.families import RANDOM, SUITE_TRAINED, StyleSettings, layout
from nsdbench.sets.priors.style import ModulatedLayer, StyleGenerator

SETTINGS = StyleSettings(width=2, z_dim=3, w_dim=5)


def filled(shape=(3, 8, 8), num_classes=4, settings=SETTINGS):
    made = StyleGenerator(settings, shape, num_classes).double()
    made.initialize(generator(0, "style"))
    return made


@pytest.mark.parametrize(("kernel", "demodulates"), [(3, True), (3, False), (1, False)])
def test_a_layer_is_a_convolution_with_weights_of_its_own_for_every_image(kernel, demodulates):
    """W'_oi = s_i W_oi, W'' = W' / sqrt(sum W'^2 + 1e-8), then sums over a zero border."""
    torch.manual_seed(0)
    layer = ModulatedLayer(2, 3, kernel, 4, demodulates=demodulates).double()
    for tensor in layer.parameters():
        tensor.data = torch.randn_like(tensor)
    layer.requires_grad_(False)
    x, w = torch.randn(2, 2, 4, 5, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    found = layer(x, w)
    assert found.shape == (2, 3, 4, 5)
    border = kernel // 2
    for n, o in itertools.product(range(2), range(3)):
        style = [
            sum(layer.style.weight[i, j] * w[n, j] for j in range(4)) + layer.style.bias[i]
            for i in range(2)
        ]
        taps = list(itertools.product(range(2), range(kernel), range(kernel)))
        own = {(i, a, b): float(style[i] * layer.weight[o, i, a, b]) for i, a, b in taps}
        norm = sqrt(sum(v**2 for v in own.values()) + 1e-8) if demodulates else 1.0
        for row, column in itertools.product(range(4), range(5)):
            total = layer.bias[o].item()
            for i, a, b in taps:
                y, z = row + a - border, column + b - border
                if 0 <= y < 4 and 0 <= z < 5:
                    total += own[i, a, b] * float(x[n, i, y, z]) / norm
            assert found[n, o, row, column].item() == pytest.approx(total, rel=1e-12, abs=1e-12)


def test_a_layer_that_upsamples_enlarges_all_but_its_bias():
    torch.manual_seed(0)
    small = ModulatedLayer(2, 3, 3, 4).double()
    large = ModulatedLayer(2, 3, 3, 4, upsamples=True).double()
    large.load_state_dict(small.state_dict())
    x, w = torch.randn(1, 2, 3, 3, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    y = small(x, w)
    found = large(x, w)
    assert found.shape == (1, 3, 6, 6)
    # Half a pixel off the centres: weights 3/4 and 1/4 along rows and columns, edges repeated.
    mix = torch.zeros(6, 3, dtype=torch.float64)
    for i in range(6):
        for source, share in ((i // 2, 0.75), (i // 2 + (1 if i % 2 else -1), 0.25)):
            mix[i, min(max(source, 0), 2)] += share
    torch.testing.assert_close(found, mix @ y @ mix.T, rtol=1e-12, atol=1e-12)


def test_demodulated_maps_have_unit_variance_away_from_the_border():
    torch.manual_seed(0)
    layer = ModulatedLayer(16, 4, 3, 2)
    for tensor in layer.parameters():
        tensor.data = torch.randn_like(tensor)
    layer.bias.data.zero_()
    found = layer(torch.randn(400, 16, 8, 8), torch.randn(1, 2).expand(400, 2))[..., 1:-1, 1:-1]
    assert found.std().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("layer", range(4))
def test_synthesis_can_be_entered_before_any_layer(layer):
    made = filled((1, 16, 16))
    assert len(made.layers) == 4
    w = torch.randn(3, 4, 5, dtype=torch.float64)
    whole = made.from_f(w, made.to_f(w, 0), 0)
    f = made.to_f(w, layer)
    sides = [4, 4, 8, 16]  # what goes into each layer
    assert f.shape[2:] == (sides[layer],) * 2 and whole.shape == (3, 1, 16, 16)
    assert torch.equal(made.from_f(w, f, layer), whole)
    changed = w.clone()
    changed[:, :layer] += 1
    assert torch.equal(made.from_f(changed, f, layer), whole), "rows of earlier layers"
    changed[:, layer] += 1
    assert not torch.equal(made.from_f(changed, f, layer), whole)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gradients_of_latents(layer):
    made = filled().requires_grad_(False)
    torch.manual_seed(0)
    w = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    f = made.to_f(w, layer).detach().clone(memory_format=torch.contiguous_format)
    f.requires_grad_()
    assert torch.autograd.gradcheck(lambda w, f: made.from_f(w, f, layer), (w, f))


def test_an_image_depends_on_its_own_latents_and_its_class():
    made = filled()
    z = torch.randn(4, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3])
    w = made.map(z, labels)
    assert w.shape == (4, 3, 5) and torch.equal(w[:, 0], w[:, 2])
    images = made.from_f(w, made.to_f(w, 0), 0)
    alone = made.map(z[2:3], labels[2:3])
    torch.testing.assert_close(made.from_f(alone, made.to_f(alone, 0), 0), images[2:3])
    assert not torch.allclose(made.map(z[:1], labels[:1]), made.map(z[:1], labels[1:2]))


def test_one_seed_one_generator():
    first, again = filled(), filled()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert all(tensor.any() for name, tensor in first.named_parameters() if "weight" in name)


@pytest.mark.parametrize(
    ("side", "sides", "widths"),
    [
        (4, (4,), (1,)), (7, (7,), (1,)), (8, (4, 8), (2, 1)), (28, (7, 14, 28), (4, 2, 1)),
        (32, (4, 8, 16, 32), (8, 4, 2, 1)), (64, (4, 8, 16, 32, 64), (8, 8, 4, 2, 1)),
        (128, (4, 8, 16, 32, 64, 128), (8, 8, 8, 4, 2, 1)),
    ],
)  # fmt: skip
def test_sides_and_channels(side, sides, widths):
    planned = layout(SETTINGS, (3, side, side))
    assert (planned.sides, planned.channels) == (sides, tuple(2 * width for width in widths))
    assert planned.num_layers == len(sides) + 1


@pytest.mark.parametrize("shape", [(3, 30, 30), (3, 3, 3), (3, 32, 28), (1, 9, 9), (1, 1, 1)])
def test_images_that_it_cannot_make_are_named(shape):
    with pytest.raises(ValueError, match=f"images are {shape[1]}x{shape[2]}; .* square") as caught:
        RANDOM.sizes(SETTINGS, shape, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 28, 28), (3, 64, 64)])
def test_the_price_counts_the_convolutions_as_torch_does(shape):
    made = filled(shape).float()
    sizes = SUITE_TRAINED.sizes(SETTINGS, shape, 4)
    w = torch.randn(1, sizes.num_ws, sizes.w_dim)
    with FlopCounterMode(display=False) as counter:
        made.from_f(w, made.to_f(w, 0), 0)
    convolved = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert sizes.flops == convolved
    assert (sizes.num_ws, sizes.num_layers, sizes.z_dim) == (len(made.layers),) * 2 + (3,)
