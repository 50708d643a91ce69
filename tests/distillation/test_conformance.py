"""What every parameterization and every objective promise, in every combination, by name.

A new one joins by itself: its settings are those of the first recipe that names it, made small.
"""

import math

import pytest
import torch

from nsdbench import data, methods
from nsdbench.data.training import TrainingData
from nsdbench.distillation import loop as distillation
from nsdbench.distillation import objectives
from nsdbench.distillation.checkpoint import read_checkpoint
from nsdbench.experts import AT_HOME
from nsdbench.seeding import generator
from nsdbench.sets import budget, parameterizations

DATASET, IPC, STEPS, STOP_AT = "Digits", 2, 3, 2
RECIPE_OF = ("Digits16", 10, "smoke")  # where settings are taken from
# Parameterizations that no recipe of ours names within the budget, or with what is here.
UNNAMED = {
    "generator": {
        "name": "generator",
        "prior": "suite-trained",
        "layer": 1,
        "prior_width": 4,
        "prior_z_dim": 4,
        "prior_w_dim": 8,
        "prior_epochs": 1,
        "prior_batch_size": 256,
        "prior_lr": 1e-3,
        "prior_kl_weight": 1.0,
    },
    "hallucinator": {"name": "hallucinator", "num_hallucinators": 2, "bases_per_class": 1},
}
# Counts of a recipe become at most these.
SMALL = {
    "real_batch": 8, "batch_syn": 8, "batch_network": 8,
    "syn_steps": 2, "expert_epochs": 1, "max_start_epoch": 2, "inner_epochs": 1, "outer_loops": 2,
    "inner_loops": 2, "window": 2, "max_image_steps": 2, "max_epochs": 2, "real_images_network": 16,
    "targets_per_class": 1,
}  # fmt: skip
COMMON = {
    "network.width": 4,
    "network.depth": 1,
    "optimiser.iterations": STEPS,
    "optimiser.momentum": 0.9,
    "optimiser.lr_syn": 0.1,
    "optimiser.lr_kernels": 0.01,
    "optimiser.lr_lr": 1e-6,
    "experts.num_experts": 1,
    "experts.epochs": 2,
    "experts.lr": 0.01,
    "experts.momentum": 0.0,
    "experts.weight_decay": 0.0,
    "experts.batch_size": 256,
}


def recipe_of(section, name):
    """Return the first recipe of ours whose `section` names this, None if there is none."""
    for method in methods.names():
        if methods.load(method).kind != "distillation":
            continue
        recipe = methods.resolve(method, *RECIPE_OF)
        if recipe.values.get(section, {}).get("name") == name:
            return recipe
    return None


def combine(parameterization, objective):
    """Return a method and the overrides that make it a small run of this combination."""
    host = recipe_of("objective", objective)
    assert host is not None, f"no recipe names the objective {objective!r}"
    stored = recipe_of("parameterization", parameterization)
    settings = UNNAMED.get(parameterization) or (stored and stored.values["parameterization"])
    assert settings, f"no recipe names the parameterization {parameterization!r}; add it to UNNAMED"
    overrides = dict(COMMON)
    overrides |= {f"parameterization.{key}": value for key, value in settings.items()}
    for key, value in host.values["objective"].items():
        overrides[f"objective.{key}"] = min(value, SMALL[key]) if key in SMALL else value
    return host.method, overrides


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    """Record the one small expert once for all combinations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def dataset():
    return data.load(DATASET)


@pytest.mark.parametrize("objective", objectives.names())
@pytest.mark.parametrize("parameterization", parameterizations.names())
def test_combination(tmp_path, dataset, parameterization, objective):
    method, overrides = combine(parameterization, objective)
    recipe = methods.resolve(method, DATASET, IPC, "smoke", overrides)
    sealed = dataset.without_test()
    real = TrainingData(sealed, data.preprocessing("standardise", sealed))

    start = distillation._initialized(recipe, sealed, real, 0, AT_HOME)
    learner = distillation._objective(recipe, sealed, real, AT_HOME)
    loss = learner.accumulate(start, 0, generator(0, "test"))
    assert math.isfinite(loss)
    groups = start.parameter_groups(recipe.values["optimiser"])
    learned = {id(tensor) for group in groups for tensor in group["params"]}
    for name, tensor in start.named_parameters():
        if id(tensor) in learned:
            assert tensor.grad is not None and tensor.grad.isfinite().all(), name
            assert tensor.grad.abs().max() > 0, f"{name} gets no gradient"
        else:
            assert tensor.grad is None, f"{name} is not learned but gets a gradient"

    def distil(progress=distillation.silent, **places):
        return distillation.distill(
            method, dataset, IPC, overrides=overrides, progress=progress, **places
        )

    def interrupt(phase, done, total, note=""):
        if (phase, done) == ("distill", STOP_AT):
            raise KeyboardInterrupt

    undisturbed = distil()
    with pytest.raises(KeyboardInterrupt):
        distil(interrupt, work=tmp_path / "work")
    resumed = distil(work=tmp_path / "work", out=tmp_path / "set.safetensors")
    if not parameterizations.may_exceed(recipe.values["parameterization"]):
        budget.check(resumed.ledger(), dataset.image_shape, dataset.num_classes, IPC)
    stored = undisturbed.parameterization.state_dict()
    counted = sum(tensor.numel() * tensor.element_size() * 8 for tensor in stored.values())
    assert undisturbed.ledger().stored_bits == counted

    found = resumed.parameterization.state_dict()  # read back from the file
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], stored[name]) for name in stored)
    for stream, same in ((None, None), (generator(1, "test"), generator(1, "test"))):
        assert torch.equal(resumed.images(stream), undisturbed.images(same))
    assert torch.equal(resumed.labels(), undisturbed.labels())
    assert resumed.metadata["distillation"] == undisturbed.metadata["distillation"]
    (checkpoint,) = (tmp_path / "work").glob("*.pt")
    last = read_checkpoint(checkpoint)["parameterization"]
    assert last.keys() == start.state_dict().keys()
    for name, tensor in start.named_parameters():
        has_moved = not torch.equal(tensor, last[name])
        assert has_moved == (id(tensor) in learned), name
