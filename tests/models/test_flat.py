import pytest
import torch

from nsdbench import models


@pytest.fixture
def model():
    model = models.build("convnet", in_channels=1, image_size=8, num_classes=3, width=2, depth=2)
    models.initialize(model, torch.Generator().manual_seed(0))
    return model.double()


def test_theta_is_the_parameters_in_order(model):
    theta = models.flatten(model)
    assert theta.shape == (models.num_parameters(model),) and not theta.requires_grad
    start = 0
    for parameter in model.parameters():
        assert torch.equal(theta[start : start + parameter.numel()], parameter.flatten())
        start += parameter.numel()
    assert start == len(theta)


def test_flatten_copies(model):
    theta = models.flatten(model)
    before = theta.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(theta, before)


def test_functional_uses_theta_and_leaves_the_network_alone(model):
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theta, logits = models.flatten(model), model(x)
    assert torch.equal(models.functional(model, theta, x), logits)
    other = theta + 0.1
    shifted = models.functional(model, other, x)
    assert torch.equal(models.flatten(model), theta)
    models.load_flat(model, other)
    assert torch.equal(model(x), shifted) and not torch.equal(shifted, logits)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_functional_is_differentiable_in_theta_and_x(model):
    x = torch.randn(
        2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()
    theta = models.flatten(model).requires_grad_()
    by_theta, by_x = torch.autograd.grad(
        models.functional(model, theta, x).square().sum(), (theta, x)
    )
    expected = torch.autograd.grad(model(x).square().sum(), [*model.parameters(), x])
    assert torch.equal(by_theta, torch.cat([g.flatten() for g in expected[:-1]]))
    assert torch.equal(by_x, expected[-1])


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t[None], lambda t: t.repeat(2)])
def test_wrong_theta(model, change):
    theta = change(models.flatten(model))
    message = f"the network has {models.num_parameters(model)} parameters"
    with pytest.raises(ValueError, match=message):
        models.functional(model, theta, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=message):
        models.load_flat(model, theta)
