"""GLaD: the settings of the authors' code, and its gradients of images and step size."""

import pytest
import torch
import torch.nn.functional as F

from nsdbench import data, methods, models, unroll
from nsdbench.bench.cost import estimate
from nsdbench.data.training import TrainingData
from nsdbench.distillation import distill, loop
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.evaluation import protocols
from nsdbench.experts import AT_HOME
from nsdbench.student import augment

SUBSETS = ("ImageNette", "ImageWoof", "ImageFruit", "ImageMeow", "ImageSquawk", "ImageYellow")
FEW_STEPS = {
    "network.width": 4, "network.depth": 1, "optimiser.iterations": 3,
    "parameterization.prior_epochs": 1, "parameterization.prior_width": 2,
    "parameterization.layer": -2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("method", ["glad", "glad-suite", "glad-random"])
@pytest.mark.parametrize("dataset", SUBSETS)
def test_settings_of_every_cell_of_table_3(dataset, method):
    """distill_mtt.py: defaults; readme: 100 experts of 15 epochs; buffer_mtt.py: plain SGD."""
    recipe = methods.resolve(method, dataset, 1, "paper")
    values = recipe.values
    objective, optimiser, experts = (values[s] for s in ("objective", "optimiser", "experts"))
    assert objective == {
        "name": "trajectory", "syn_steps": 20, "expert_epochs": 3, "max_start_epoch": 5,
        "lr_inner": 0.01, "lr_inner_min": -1e6, "guided_weight": 0.0, "real_batch": 256,
        "mode": "first_order",
    }  # fmt: skip
    assert optimiser == {
        "momentum": 0.5, "iterations": 1000, "lr_syn": 1e4, "lr_kernels": 10.0, "lr_lr": 1e-6,
    }  # fmt: skip
    assert (experts["num_experts"], experts["epochs"], experts["batch_size"]) == (100, 15, 256)
    assert (experts["lr"], experts["momentum"], experts["weight_decay"]) == (0.01, 0, 0)
    assert values["data"]["preprocessing"] == "standardise"
    assert values["network"] == {"name": "convnet", "width": 128}
    stored = values["parameterization"]
    assert (stored["name"], stored["start"], stored["chunk"]) == ("generator", "sampled", 10)
    if method == "glad":
        assert (stored["prior"], stored["layer"]) == ("stylegan-xl", 12)
    assert all("GLaD reference code" in source or "our choice" in source
               for source in recipe.sources.values())  # fmt: skip


@pytest.mark.parametrize(
    ("method", "rates", "layer_of", "objective"),
    [
        ("glad-dc", (1.0, 1e-3), 64, {"name": "gradient", "augment": True, "real_batch": 256,
         "distance": "grouped_cosine", "outer_loops": 1, "inner_epochs": 1}),
        ("glad-dm", (10.0, 1e-2), 128, {"name": "distribution", "augment": True,
         "real_batch": 256}),
        ("glad-suite", (1e4, 10.0), 64, {"name": "trajectory"}),
    ],
)  # fmt: skip
def test_every_objective_has_its_rates_and_its_layer(method, rates, layer_of, objective):
    values = methods.resolve(method, "ImageNette", 1, "paper").values
    assert (values["optimiser"]["lr_syn"], values["optimiser"]["lr_kernels"]) == rates
    assert (values["optimiser"]["iterations"], values["optimiser"]["momentum"]) == (1000, 0.5)
    assert objective.items() <= values["objective"].items()
    sides = [4, 4, 8, 16, 32, 64, 128]  # of what goes into the seven layers at 128 px
    assert sides[values["parameterization"]["layer"]] == layer_of


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
@pytest.mark.parametrize("method", ["glad-suite", "glad-random", "glad-dc", "glad-dm"])
def test_every_recipe_has_a_price(method, scale):
    dataset = {"smoke": "Digits64", "small": "FashionMNIST", "paper": "ImageNette"}[scale]
    spec = data.spec(dataset)
    recipe = methods.resolve(method, dataset, 1, scale)
    cost = estimate(recipe, spec, 1, "convnet3-w16", protocols.get("glad-10ep"), 1, 1)
    phases = [part.phase for part in cost.work]
    assert ("prior" in phases) == (method != "glad-random")
    assert ("experts" in phases) == (method in ("glad-suite", "glad-random"))
    assert cost.stored_bytes == 4 * cost.num_images * spec.image_shape[0] * spec.image_shape[1] ** 2


@pytest.mark.parametrize("method", ["glad-dc", "glad-dm"])
def test_the_other_objectives_distil(method):
    artefact = distill(method, "synthetic:3x1x8x8", 2, overrides=FEW_STEPS)
    assert artefact.metadata["distillation"]["images_moved"] > 0
    assert artefact.metadata["distillation"]["prior"]["name"].startswith("synthetic")
    assert artefact.metadata["learned"] == {} and artefact.metadata["cost"]["prior"] > 0


def test_images_and_step_size_get_the_gradients_of_the_authors_code():
    """Weights are constants in every step; the step size has its direct term alone.

    With g_k the gradient of step k at constant weights, G = sum g_k, D = |theta_0 - theta*|^2 and
    lr a number, the authors descend for the images of step k

        ( lr^2 g_k.g_k + 2 lr g_k.(lr (G - g_k) - theta_0 + theta*) ) / D

    with G - g_k held constant, and for the step size |theta_0 - lr G - theta*|^2 / D with G held
    constant.
    """
    torch.manual_seed(0)
    model = models.build("convnet", in_channels=1, image_size=8, num_classes=3, width=4, depth=1)
    model.double()
    start = models.flatten(model).detach()
    target = start + 0.1 * torch.randn_like(start)
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    stream = torch.Generator().manual_seed(1)
    draws = [
        augment.sample("color_crop_cutout_flip_scale_rotate", 6, (1, 8, 8), stream)
        for _ in range(4)
    ]
    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    batches = [torch.arange(6)] * 4
    mode = methods.resolve("glad", "ImageNette", 1, "paper").values["objective"]["mode"]
    theta = unroll.unrolled_sgd(model, start, images, labels, batches, lr, augment=draws, mode=mode)
    denominator = (start - target).square().sum()
    loss = (theta - target).square().sum() / denominator
    found = torch.autograd.grad(loss, (images, lr))

    rate, weights, gradients = 0.05, start, []
    for draw in draws:
        constant = weights.detach().requires_grad_()
        logits = models.functional(model, constant, augment.apply(images, draw))
        step_loss = F.cross_entropy(logits, labels)
        gradients.append(torch.autograd.grad(step_loss, constant, create_graph=True)[0])
        weights = constant - rate * gradients[-1].detach()
    total = sum(gradient.detach() for gradient in gradients)
    of_images = torch.zeros_like(images)
    for gradient in gradients:
        others = rate * (total - gradient.detach()) - start + target
        per_step = rate**2 * (gradient @ gradient) + 2 * rate * (gradient @ others)
        of_images += torch.autograd.grad(per_step / denominator, images, retain_graph=True)[0]
    free = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    whole = (start - free * total - target).square().sum() / denominator
    (of_rate,) = torch.autograd.grad(whole, free)
    torch.testing.assert_close(found[0], of_images, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[1], of_rate, rtol=1e-9, atol=1e-12)


def test_one_step_moves_latents_and_step_size_with_momentum_and_no_floor():
    """f, w and the step size descend by SGD of momentum 0.5 at rates of their own."""
    dataset = data.load("synthetic:3x1x8x8@30+6").without_test()
    given = {
        "network.width": 4, "network.depth": 1, "experts.num_experts": 1, "experts.epochs": 9,
        "parameterization.layer": 1, "parameterization.prior_width": 2,
        "objective.lr_inner_min": -1e6, "optimiser.lr_lr": 10.0,
    }  # fmt: skip
    recipe = methods.resolve("glad-random", dataset.spec.name, 1, "smoke", given)
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    latents = loop._initialized(recipe, dataset, real, 0, AT_HOME)
    objective = loop._objective(recipe, dataset, real, AT_HOME)
    state = LoopState.start(latents, objective, recipe.values["optimiser"])
    rates = {"f": 100.0, "w": 1.0, "lr_inner": 10.0}
    tensors = {"f": latents.f, "w": latents.w, "lr_inner": objective.lr_inner}
    expected = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    velocity = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    gradients = {name: torch.randn_like(tensor) for name, tensor in tensors.items()}
    gradients["lr_inner"] = torch.tensor(1.0)
    for _ in range(3):
        for name, tensor in tensors.items():
            tensor.grad = gradients[name].clone()
            velocity[name] = 0.5 * velocity[name] + gradients[name]
            expected[name] = expected[name] - rates[name] * velocity[name]
        state.optimiser.step()
        latents.constrain()
        objective.constrain()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor.data, expected[name])
    assert objective.lr_inner < -1, "nothing keeps it above 0"
