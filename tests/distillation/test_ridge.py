"""Kernel ridge regression and its losses: against ridge regression of features, and by hand."""

import math

import pytest
import torch

from nsdbench.data import catalog
from nsdbench.distillation import ridge
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations


def draw(*shape):
    return torch.randn(*shape, generator=generator(0, "ridge", *shape), dtype=torch.float64)


def test_prediction_is_that_of_ridge_regression_on_features():
    """K = Phi Phi^T: f = Phi_t w with w the minimiser of |Phi_s w - y|^2 + lambda |w|^2."""
    phi_s, phi_t, y = draw(5, 7), draw(4, 7), draw(5, 3)
    share = 0.03
    penalty = share * float((phi_s * phi_s).sum()) / 5
    weights = torch.linalg.inv(phi_s.mT @ phi_s + penalty * torch.eye(7).double()) @ phi_s.mT @ y
    found = ridge.predict(phi_s @ phi_s.mT, phi_t @ phi_s.mT, y, share)
    torch.testing.assert_close(found, phi_t @ weights, rtol=1e-10, atol=1e-12)


def test_without_a_ridge_the_labels_themselves_are_predicted():
    phi, y = draw(4, 9), draw(4, 2)
    k = phi @ phi.mT
    torch.testing.assert_close(ridge.predict(k, k, y, 0.0), y, rtol=1e-8, atol=1e-10)


def test_systems_are_solved_in_double():
    """A ridge of 1e-6 is below the resolution of float32 beside a trace of 4e3."""
    phi, y = 30 * draw(4, 5), draw(4, 2)
    k = (phi @ phi.mT).float()
    found = ridge.predict(k, k, y.float(), 1e-6)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, ridge.predict(k.double(), k.double(), y.float(), 1e-6))


def test_gradients_of_the_prediction():
    phi_s, phi_t, y = (x.requires_grad_() for x in (draw(3, 4), draw(2, 4), draw(3, 2)))

    def predict(a, b, labels):
        return ridge.predict(a @ a.mT, b @ a.mT, labels, 0.1)

    assert torch.autograd.gradcheck(predict, (phi_s, phi_t, y))
    assert torch.autograd.gradcheck(
        lambda f, k: ridge.platt_loss(f, torch.tensor([1, 0]), k),
        (draw(2, 3).requires_grad_(), torch.tensor(0.3).double().requires_grad_()),
    )


def test_centred_labels():
    found = ridge.centred_labels(torch.tensor([2, 0]), 4)
    assert found.tolist() == [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]


def test_losses_by_hand():
    f = torch.tensor([[0.2, -0.1], [0.4, 0.3]], dtype=torch.float64)
    classes, k = torch.tensor([0, 1]), torch.tensor(0.7, dtype=torch.float64)
    squares = (0.2 - 0.5) ** 2 + (-0.1 + 0.5) ** 2 + (0.4 + 0.5) ** 2 + (0.3 - 0.5) ** 2
    assert ridge.squared_loss(f, classes).item() == pytest.approx(squares / 2 / 4, rel=1e-12)
    scale = math.exp(0.7)
    likelihoods = [
        1 / (1 + math.exp(scale * (-0.1 - 0.2))),
        1 / (1 + math.exp(scale * (0.4 - 0.3))),
    ]
    expected = -sum(map(math.log, likelihoods)) / 2
    assert ridge.platt_loss(f, classes, k).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch_syn", [3, 6, 9])
@pytest.mark.parametrize("learned", [False, True])
def test_the_images_of_a_step(batch_syn, learned):
    """All in order, or some of them without replacement; labels are learned or follow the class."""
    section = {"name": "pixels", "learned_labels": learned, "over_budget": learned}
    pixels = parameterizations.build(section, catalog.spec("synthetic:3x1x4x4"), 2)
    with torch.no_grad():
        pixels.spectra.copy_(torch.arange(6.0).view(1, 6, 1, 1, 1).expand(1, 6, 1, 4, 4))
        if learned:
            pixels.soft_labels.copy_(draw(6, 3))
    images, labels = ridge.decode_support(pixels, 3, batch_syn, generator(0, "step"))
    rows = images[:, 0, 0, 0].long()
    assert len(set(rows.tolist())) == min(batch_syn, 6)
    if batch_syn >= 6:
        assert rows.tolist() == list(range(6))
    expected = pixels.soft_labels if learned else ridge.centred_labels(pixels.labels, 3)
    assert torch.equal(labels, expected[rows])
