"""Optimisers of the outer loop: AdaBelief against its formula, names, state."""

import math

import pytest
import torch

from nsdbench.distillation import optimisers
from nsdbench.distillation.optimisers import AdaBelief


def test_adabelief_is_the_published_algorithm():
    """Algorithm 2 of Zhuang et al., a number at a time in Python floats."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(7, 3, generator=generator, dtype=torch.float64).tolist()
    start, lr, eps = [1.0, -2.0, 0.5], 0.03, 1e-3
    tensor = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimiser = AdaBelief([{"params": [tensor], "lr": lr}], lr=0.0, eps=eps)
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser.step()

    for i, value in enumerate(start):
        m = s = 0.0
        for t, gradient in enumerate(gradients, start=1):
            g = gradient[i]
            m = 0.9 * m + 0.1 * g
            s = 0.999 * s + 0.001 * (g - m) ** 2 + eps
            value -= lr * (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.999**t)) + eps)
        assert tensor[i].item() == pytest.approx(value, rel=1e-12)


def test_a_state_that_was_saved_goes_on_where_it_was(tmp_path):
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(6, 4, generator=generator)

    def run(tensor, optimiser, rows):
        for gradient in rows:
            tensor.grad = gradient.clone()
            optimiser.step()

    whole = torch.ones(4, requires_grad=True)
    run(whole, AdaBelief([whole], lr=0.1), gradients)
    first = torch.ones(4, requires_grad=True)
    optimiser = AdaBelief([first], lr=0.1)
    run(first, optimiser, gradients[:3])
    torch.save(optimiser.state_dict(), tmp_path / "state.pt")
    resumed = AdaBelief([first], lr=0.1)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run(first, resumed, gradients[3:])
    assert torch.equal(first, whole)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"momentum": 0.5}, torch.optim.SGD),
        ({"name": "sgd", "momentum": 0.5}, torch.optim.SGD),
        ({"name": "adam"}, torch.optim.Adam),
        ({"name": "adabelief"}, AdaBelief),
    ],
)
def test_a_recipe_names_its_optimiser(settings, kind):
    tensors = [torch.ones(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [tensors[0]], "lr": 0.1}, {"params": [tensors[1]], "lr": 0.2}]
    built = optimisers.build(settings, groups)
    assert type(built) is kind
    assert [group["lr"] for group in built.param_groups] == [0.1, 0.2]
    assert built.defaults.get("momentum", 0.5) == 0.5


def test_unknown_optimisers_are_refused():
    with pytest.raises(ValueError, match="unknown optimiser 'adan'; known: sgd, adam, adabelief"):
        optimisers.build({"name": "adan"}, [])
