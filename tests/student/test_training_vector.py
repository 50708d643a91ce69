"""Training steps on one vector: autograd's gradient, and the network sees every step."""

import copy

import pytest
import torch
from torch.nn import functional as F

from nsdbench import models
from nsdbench.student.training_step import TrainingStep, vector_of

IMAGES, CLASSES = 7, 3


def build(norm: str = "instance_norm") -> models.ImageClassifier:
    sizes = {"in_channels": 3, "image_size": 8, "width": 5, "depth": 2}
    model = models.build("convnet", num_classes=CLASSES, norm=norm, **sizes).double()
    models.initialize(model, torch.Generator().manual_seed(1))
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture(params=["classes", "probabilities"])
def labels(request) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    if request.param == "classes":
        return torch.randint(CLASSES, (IMAGES,), generator=generator)
    return torch.rand(IMAGES, CLASSES, generator=generator).double()


def not_called(x, y):
    raise AssertionError("the operator has its own loss")


def test_steps_of_sgd_are_those_of_autograd_with_everything_written_out(images, labels):
    """Momentum and weight decay on the vector, gradients of PyTorch's modules; three steps."""
    model, other = build(), build()
    theta, start = vector_of(model), models.flatten(other).clone()
    assert torch.equal(theta, start)
    copied = copy.deepcopy(model)
    sgd = torch.optim.SGD([theta], lr=0.1, momentum=0.9, weight_decay=0.01)
    step = TrainingStep(model, sgd, not_called, theta=theta)
    velocity = torch.zeros_like(start)
    for _ in range(3):
        (loss,) = step(images, labels)
        expected = F.cross_entropy(other(images, path="generic"), labels)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
        parts = torch.autograd.grad(expected, list(other.parameters()))
        gradient = torch.cat([part.flatten() for part in parts])
        torch.testing.assert_close(theta.grad, gradient, rtol=1e-9, atol=1e-12)
        velocity = 0.9 * velocity + gradient + 0.01 * models.flatten(other)
        models.load_flat(other, models.flatten(other) - 0.1 * velocity)
    torch.testing.assert_close(models.flatten(model), models.flatten(other), rtol=1e-9, atol=1e-12)
    assert torch.equal(models.flatten(copied), start), "a copy has parameters of its own"
    assert step.code_path == "native"


def test_networks_without_the_operator_have_no_vector(monkeypatch):
    for model in (build("batch_norm"), torch.nn.Linear(2, 3)):
        before = [parameter.data_ptr() for parameter in model.parameters()]
        assert vector_of(model) is None
        assert [parameter.data_ptr() for parameter in model.parameters()] == before
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    assert vector_of(build()) is None
