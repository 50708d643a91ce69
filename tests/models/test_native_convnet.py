"""The ConvNet on operators, native or fused, is the ConvNet of its modules."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nsdbench import models
from nsdbench.ops import backend, convnet


@pytest.fixture(params=["native", "fused"])
def path(request):
    """Run a test on the CPU's path, then on CUDA's, which runs here on the same operators."""
    if request.param == "fused":
        request.getfixturevalue("fused_on_cpu")
    return request.param


on_both = pytest.mark.usefixtures("path")


def build(in_channels=3, image_size=16, depth=2, width=12, dtype=torch.float64, **options):
    model = models.build(
        "convnet",
        in_channels=in_channels,
        image_size=image_size,
        num_classes=4,
        width=width,
        depth=depth,
        **options,
    )
    models.initialize(model, torch.Generator().manual_seed(0))
    return model.to(dtype)


def batch(model, size=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    x = torch.randn(size, *model.image_shape, generator=generator).to(dtype)
    return x, torch.randint(4, (size,), generator=generator)


@pytest.fixture
def composed(monkeypatch):
    """Return a function that calls another without the native operators."""

    def call(function, *arguments):
        with monkeypatch.context() as context:
            context.setenv("NSDBENCH_NATIVE", "0")
            return function(*arguments)

    return call


def is_conv_bias(model, name):
    *path, last = name.split(".")
    return last == "bias" and isinstance(model.get_submodule(".".join(path)), nn.Conv2d)


@pytest.mark.parametrize(("in_channels", "size", "depth"), [(3, 16, 2), (1, 28, 3), (3, 7, 1)])
def test_loss_and_gradients_are_those_of_the_modules(path, composed, in_channels, size, depth):
    model = build(in_channels, size, depth)
    assert models.code_path(model) == path
    x, y = batch(model)
    x.requires_grad_()
    inputs = {"x": x, **dict(model.named_parameters())}

    def loss_and_gradients():
        loss = F.cross_entropy(model(x), y)
        found = torch.autograd.grad(loss, list(inputs.values()))
        return loss.detach(), dict(zip(inputs, found, strict=True)), model.embed(x).detach()

    loss, gradients, features = loss_and_gradients()
    expected_loss, expected, expected_features = composed(loss_and_gradients)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(features, expected_features, rtol=1e-11, atol=1e-11)
    for name, gradient in gradients.items():
        if name != "x" and is_conv_bias(model, name):
            assert gradient.abs().max() == 0
            assert expected[name].abs().max() < 1e-14  # rounding: the norm cancels the bias
        else:
            assert (gradient - expected[name]).norm() < 1e-11 * expected[name].norm(), name


@on_both
def test_training_for_some_steps_gives_the_same_network(composed):
    def train():
        model = build()
        sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        for seed in range(5):
            x, y = batch(model, seed=seed)
            sgd.zero_grad()
            F.cross_entropy(model(x), y).backward()
            sgd.step()
        return model.state_dict()

    native, modules = train(), composed(train)
    assert list(native) == list(modules)
    for name, tensor in native.items():
        torch.testing.assert_close(tensor, modules[name], rtol=1e-9, atol=1e-12)


@on_both
def test_gradient_matching_through_create_graph(composed):
    """A loss on gradients, differentiated with respect to images: DC's objective."""
    model = build()
    x, y = batch(model)
    x.requires_grad_()

    def matching():
        loss = F.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        distance = sum((g - g.detach().roll(1)).square().sum() for g in gradients)
        return torch.autograd.grad(distance, x)[0]

    ours, expected = matching(), composed(matching)
    assert (ours - expected).norm() < 1e-10 * expected.norm()


@on_both
def test_embedding_matching_and_frozen_parameters(composed):
    model = build()
    for parameter in model.features.parameters():
        parameter.requires_grad_(False)
    x, _ = batch(model)
    x.requires_grad_()

    def gradient():
        return torch.autograd.grad(model.embed(x).mean(dim=0).square().sum(), x)[0]

    ours, expected = gradient(), composed(gradient)
    assert (ours - expected).norm() < 1e-11 * expected.norm()
    with torch.no_grad():
        assert not model.embed(x).requires_grad
    features = model.embed(x.detach())
    torch.testing.assert_close(features, composed(model.embed, x.detach()), rtol=0, atol=1e-11)


@on_both
def test_functional_calls_and_copies(composed):
    model = build()
    x, _ = batch(model)
    theta = models.flatten(model).mul(1.1).requires_grad_()
    ours, expected = (
        run(lambda: torch.autograd.grad(models.functional(model, theta, x).sum(), theta)[0])
        for run in (lambda f: f(), composed)
    )
    biases = torch.cat(
        [
            torch.full((p.numel(),), is_conv_bias(model, name))
            for name, p in model.named_parameters()
        ]
    )
    torch.testing.assert_close(ours[~biases], expected[~biases], rtol=1e-9, atol=1e-12)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@on_both
def test_equal_calls_give_equal_bits_also_through_a_kept_graph():
    model = build(dtype=torch.float32)
    x, y = batch(model)
    loss = F.cross_entropy(model(x), y)
    parameters = list(model.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, parameters)))
    again = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
    assert all(map(torch.equal, first, again))


def with_hook(model):
    model.features[1].register_forward_hook(lambda *arguments: None)
    return model


def with_other_eps(model):
    model.features[1].eps = 1e-3
    return model


def with_other_module(model):
    model.features[2] = nn.LeakyReLU()
    return model


def with_parametrization(model):
    return nn.utils.parametrizations.weight_norm(model.features[0], "weight") and model


@pytest.mark.parametrize(
    "model",
    [
        build(norm="batch_norm"),
        build(norm="none"),
        build(in_channels=5),
        build(dtype=torch.float16),
        with_hook(build()),
        with_other_eps(build()),
        with_other_module(build()),
        with_parametrization(build()),
        models.build("resnet18", in_channels=3, image_size=16, num_classes=4, width=4),
        nn.Linear(2, 2),
    ],
)
@on_both
def test_everything_else_is_generic(model):
    assert models.code_path(model) == "generic"


@on_both
def test_a_changed_network_runs_its_modules():
    model = with_other_module(build())
    x, _ = batch(model)
    assert torch.equal(model.embed(x), model.features(x).flatten(1))
    called = []
    model = build()
    model.features[1].register_forward_hook(lambda *arguments: called.append(1))
    model(x)
    assert called == [1]


def test_switch_and_mixed_dtypes(path, monkeypatch):
    model = build()
    x, _ = batch(model)
    with pytest.raises(RuntimeError):  # as PyTorch's own convolution
        model(x.float())
    assert model(x[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match="built for"):
        model(x[..., 1:])
    assert torch.equal(model.embed(x, "generic"), model.features(x).flatten(1))
    assert models.code_path(model) == path
    with torch.autocast("cpu"):
        assert build(dtype=torch.float32)(x.float()).dtype == torch.bfloat16
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    assert models.code_path(model) == "generic"
    assert torch.equal(model.embed(x), model.features(x).flatten(1))


def test_every_device_has_its_path(monkeypatch):
    model = build()

    for reason, expected in (("", "fused"), ("no device", "generic")):
        monkeypatch.setattr(backend.library, "cuda_missing_because", reason)
        paths = [convnet.path_on(torch.device(name)) for name in ("cpu", "cuda", "meta")]
        assert paths == ["native", expected, "generic"]
    assert models.code_path(model, [torch.empty(1, device="meta")]) == "generic"
    assert models.code_path(model, [torch.empty(1), torch.empty(1).double()]) == "generic"


@on_both
def test_vmap_is_refused_in_words(monkeypatch):
    model = build()
    x = torch.stack([batch(model, seed=seed)[0] for seed in range(2)])
    with pytest.raises(ValueError, match="vmap: call it once for each element.*NSDBENCH_NATIVE=0"):
        torch.func.vmap(model)(x)
    expected = torch.stack([model(part) for part in x])
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    together = torch.func.vmap(model)(x)
    torch.testing.assert_close(together, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    model = build(dtype=torch.float64)
    x, y = batch(model)

    def run(model, x, y):
        loss = F.cross_entropy(model(x), y)
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    expected = run(model, x, y)
    model = copy.deepcopy(model).cuda()
    assert models.code_path(model) == "fused"
    for ours, exact in zip(run(model, x.cuda(), y.cuda()), expected, strict=True):
        torch.testing.assert_close(ours.cpu(), exact, rtol=1e-10, atol=1e-12)
