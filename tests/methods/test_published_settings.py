"""Settings of published methods that are derived, or easily confused, by hand."""

import json

import pytest

from nsdbench import data, methods

IMAGENET = ("ImageNette", "ImageWoof", "ImageFruit", "ImageMeow", "ImageSquawk", "ImageYellow")


def resolve(method, dataset, ipc, scale="paper"):
    return methods.resolve(method, dataset, ipc, scale)


@pytest.mark.parametrize("dataset", IMAGENET)
def test_mtt_on_imagenet_is_what_its_author_says(dataset):
    """Issue 1 of the repository: one command for all experiments, and batches of 20 at ipc 10."""
    for ipc, batch in ((1, None), (10, 20)):
        recipe = resolve("mtt", dataset, ipc)
        objective, optimiser = recipe.values["objective"], recipe.values["optimiser"]
        named = ("syn_steps", "expert_epochs", "max_start_epoch", "lr_inner")
        assert [objective[key] for key in named] == [20, 2, 10, 0.01]
        assert (optimiser["lr_syn"], optimiser["lr_lr"]) == (1e5, 1e-6)
        assert objective.get("batch_syn") == batch
        assert "issue 1" in recipe.sources["optimiser.lr_syn"]


@pytest.mark.parametrize("dataset", ["CIFAR10", "CIFAR100", "TinyImageNet"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_idc_follows_its_rule(dataset, ipc):
    """5e-3 (ipc / 10) (side / 32)^2 on pixels in [0, 1]; standardised, over the mean of std^2."""
    spec = data.spec(dataset)
    on_pixels = 5e-3 * ipc / 10 * (spec.image_shape[1] / 32) ** 2
    variance = sum(std**2 for std in spec.std) / len(spec.std)
    rate = resolve("idc", dataset, ipc).values["optimiser"]["lr_syn"]
    assert rate == pytest.approx(on_pixels / variance, rel=5e-3)  # three digits are written


def test_dc_dsa_and_dm_standardise_cifar100_by_its_own_constants():
    spec = data.spec("CIFAR100")
    ours, dc = (sum(s**2 for s in std) for std in (spec.std, spec.dc_statistics[1]))
    assert ours / dc == pytest.approx(0.57, abs=0.005)
    for method in ("dc", "dsa", "dm"):
        for dataset, kind in (("CIFAR100", "standardise_dc"), ("CIFAR10", "standardise")):
            assert resolve(method, dataset, 1).values["data"] == {"preprocessing": kind}
    assert resolve("mtt", "CIFAR100", 10).values["data"] == {"preprocessing": "standardise"}


def test_forgetting_trains_as_its_authors_did_at_scale_paper_alone():
    published = {"lr": 0.1, "nesterov": True, "lr_milestones": [60, 120, 160], "lr_factor": 0.2}
    for dataset in ("CIFAR10", "CIFAR100", "TinyImageNet"):
        assert resolve("forgetting", dataset, 1).values["experts"].items() >= published.items()
    small = resolve("forgetting", "CIFAR10", 1, "small")
    assert small.values["experts"]["lr"] == 0.01
    assert not {"nesterov", "lr_milestones", "lr_factor"} & set(small.values["experts"])
    assert "leaves out" in small.sources["experts.lr"]


def test_dwt_fuses_random_bands_where_it_has_several_at_scale_paper():
    for scale, ipc, draw in (("paper", 10, "fusion"), ("paper", 1, "mask"), ("small", 10, "mask")):
        recipe = resolve("dwt", "CIFAR10", ipc, scale)
        assert recipe.values["parameterization"]["draw"] == draw
        assert "supplement" in recipe.sources["parameterization.draw"]


@pytest.mark.parametrize("method", ["dct", "ldct", "dwt", "svd", "lsvd", "nsd"])
def test_what_inherits_a_rate_under_another_momentum_says_so(method):
    """lr / (1 - momentum) is what steps add up to: 10 lr at 0.9, twice lr at MTT's 0.5."""
    recipe, mtt = resolve(method, "CIFAR10", 1), resolve("mtt", "CIFAR10", 1)
    worth = [1 / (1 - r.values["optimiser"]["momentum"]) for r in (recipe, mtt)]
    assert worth[0] / worth[1] == pytest.approx(5)
    said = json.dumps(recipe.sources)
    assert "worth five times as much" in said and "lr_lr" in said
