"""Optimisers of the outer loop: AdaBelief and LAMB against their formulas, rates, names, state."""

import math

import pytest
import torch

from nsdbench.distillation import optimisers
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.distillation.optimisers import AdaBelief, Lamb


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


def test_lamb_is_the_published_algorithm():
    """You et al., a number at a time in Python floats, with a ratio for each of two tensors."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(6, 5, generator=generator, dtype=torch.float64).tolist()
    starts, rates, eps = [[1.0, -2.0, 0.5], [3.0, 0.1]], [0.03, 0.2], 1e-3
    tensors = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in starts]
    groups = [{"params": [t], "lr": lr} for t, lr in zip(tensors, rates, strict=True)]
    optimiser = Lamb(groups, lr=0.0, eps=eps)
    for row in gradients:
        for tensor, part in zip(tensors, (row[:3], row[3:]), strict=True):
            tensor.grad = torch.tensor(part, dtype=torch.float64)
        optimiser.step()

    for tensor, start, lr, first in zip(tensors, starts, rates, (0, 3), strict=True):
        values, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
        for t, row in enumerate(gradients, start=1):
            update = []
            for i, g in enumerate(row[first : first + len(start)]):
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                update.append(m[i] / (1 - 0.9**t) / (math.sqrt(v[i] / (1 - 0.999**t)) + eps))
            ratio = math.hypot(*values) / math.hypot(*update)
            values = [x - lr * ratio * u for x, u in zip(values, update, strict=True)]
        assert tensor.tolist() == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(
    ("start", "gradient"), [([0.0, 0.0], [1.0, -3.0]), ([1.0, 2.0], [0.0, 0.0])]
)
def test_lamb_where_a_length_is_zero_has_the_ratio_one(start, gradient):
    """Adam's first step has the length lr in every number with a gradient, and none without."""
    tensor = torch.tensor(start, requires_grad=True)
    tensor.grad = torch.tensor(gradient)
    Lamb([tensor], lr=0.1).step()
    expected = torch.tensor(start) - 0.1 * torch.tensor(gradient).sign()
    torch.testing.assert_close(tensor.detach(), expected, rtol=0, atol=1e-6)


class NoObjective:
    """What `LoopState.start` asks of an objective that learns nothing itself."""

    def parameter_groups(self, settings):
        return []


class OneTensor(torch.nn.Module):
    """A parameterization as far as rates go."""

    def __init__(self):
        super().__init__()
        self.stored = torch.nn.Parameter(torch.ones(2))

    def parameter_groups(self, settings):
        return [{"params": [self.stored], "lr": settings["lr_syn"]}]


@pytest.mark.parametrize(("changes", "end"), [({"cosine_to": 0.1}, 0.1), ({}, 1.0)])
def test_rates_fall_along_half_a_cosine(changes, end):
    """From 1 through halfway between 1 and the end to, after the last step, the end."""
    settings = {"momentum": 0.0, "lr_syn": 3.0, **changes}
    state = LoopState.start(OneTensor(), NoObjective(), settings)
    rates = []
    for state.step in (0, 25, 50, 75, 99):
        state.set_rates(100)
        rates.append(state.optimiser.param_groups[0]["lr"])
    shares = [0.5 * (1 + math.cos(math.pi * step / 100)) for step in (0, 25, 50, 75, 99)]
    assert rates == pytest.approx([3 * (end + (1 - end) * share) for share in shares])


@pytest.mark.parametrize("kind", [AdaBelief, Lamb])
def test_a_state_that_was_saved_goes_on_where_it_was(tmp_path, kind):
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(6, 4, generator=generator)

    def run(tensor, optimiser, rows):
        for gradient in rows:
            tensor.grad = gradient.clone()
            optimiser.step()

    whole = torch.ones(4, requires_grad=True)
    run(whole, kind([whole], lr=0.1), gradients)
    first = torch.ones(4, requires_grad=True)
    optimiser = kind([first], lr=0.1)
    run(first, optimiser, gradients[:3])
    torch.save(optimiser.state_dict(), tmp_path / "state.pt")
    resumed = kind([first], lr=0.1)
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
        ({"name": "lamb"}, Lamb),
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
    with pytest.raises(
        ValueError, match="unknown optimiser 'adan'; known: sgd, adam, adabelief, lamb"
    ):
        optimisers.build({"name": "adan"}, [])
