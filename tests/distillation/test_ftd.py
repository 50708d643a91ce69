"""FTD: the moving average of what is stored, its checkpoints, its recipe, its evaluation."""

import pytest
import torch

from nsdbench import data, experts, methods
from nsdbench.bench.cost import estimate
from nsdbench.distillation import loop as distillation
from nsdbench.distillation.checkpoint import read_checkpoint
from nsdbench.evaluation import judge, protocols

NAME = "synthetic:3x1x8x8"


@pytest.fixture(autouse=True)
def tiny_ftd(tiny_methods):
    text = (tiny_methods / "tiny-mtt.toml").read_text().replace("mtt", "ftd")
    (tiny_methods / "tiny-ftd.toml").write_text(text + "ema_decay = 0.6\n")


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5])
def test_decay_out_of_range_is_named(decay):
    with pytest.raises(ValueError, match=f"`optimiser.ema_decay` is {decay}; .* and below 1"):
        methods.resolve("tiny-ftd", NAME, 1, "smoke", {"optimiser.ema_decay": decay})


@pytest.mark.parametrize("method", ["tiny-ftd", "tiny-nsd"])
def test_the_artefact_holds_the_average_of_all_steps(method):
    """Shorter runs without averaging leave the values of each step; without rates, the first."""

    def stored(iterations, **more):
        overrides = {"optimiser.iterations": iterations, **more}
        return distillation.distill(method, NAME, 4, overrides=overrides)

    still = {"optimiser.lr_syn": 0.0, "optimiser.lr_kernels": 0.0}
    first = stored(1, **still).parameterization.state_dict()
    last = [stored(n, **{"optimiser.ema_decay": 0.0}) for n in (1, 2, 3)]
    averages = [stored(n, **{"optimiser.ema_decay": 0.6}) for n in (1, 2, 3)]
    names = [name for name, _ in last[0].parameterization.named_parameters()]
    assert names
    for name in names:
        values = [artefact.parameterization.state_dict()[name].double() for artefact in last]
        found = [artefact.parameterization.state_dict()[name].double() for artefact in averages]
        expected = first[name].double()
        for value, average in zip(values, found, strict=True):
            assert (value - expected).norm() > 1e-6 * value.norm()
            expected = 0.6 * expected + 0.4 * value
            torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6)
    assert averages[2].metadata["learned"] == last[2].metadata["learned"], "the step size is not"


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path, stop_at):
    def distil(work, progress=distillation.silent):
        return distillation.distill("tiny-ftd", NAME, 4, work=tmp_path / work, progress=progress)

    def interrupt(phase, done, total, note=""):
        if phase == "distill" and done == stop_at:
            raise KeyboardInterrupt

    undisturbed = distil("a")
    with pytest.raises(KeyboardInterrupt):
        distil("b", interrupt)
    assert torch.equal(distil("b").images(), undisturbed.images())
    assert torch.equal(distil("b").images(), undisturbed.images()), "from the last checkpoint"


def test_a_checkpoint_from_before_there_were_averages_is_taken_up(tmp_path):
    alone = distillation.distill("tiny-mtt", NAME, 4, work=tmp_path)
    (checkpoint,) = tmp_path.glob("*.pt")
    state = read_checkpoint(checkpoint)
    assert state.pop("average") == {}
    torch.save(state, checkpoint)
    resumed = distillation.distill("tiny-mtt", NAME, 4, work=tmp_path)
    assert torch.equal(resumed.images(), alone.images())


def test_experts_of_the_recipe_are_trained_by_gsam():
    name = distillation.distill("tiny-ftd", NAME, 1).metadata["distillation"]["experts"]["name"]
    found = {entry["name"]: entry["path"] for entry in experts.list_buffers()}
    recipe = experts.ExpertBuffer(found[name]).manifest["recipe"]
    assert (recipe["optimiser"], recipe["rho"], recipe["alpha"]) == ("gsam", 0.01, 1.0)
    plain = distillation.distill("tiny-mtt", NAME, 1).metadata["distillation"]["experts"]["name"]
    assert plain != name


def test_no_network_is_warm_when_it_meets_the_average():
    """FTD's code tests the average on the network just trained on the raw images; here every
    network starts anew, so that what was evaluated before cannot matter."""
    raw, average = (
        distillation.distill("tiny-ftd", NAME, 4, overrides={"optimiser.ema_decay": decay})
        for decay in (0.0, 0.6)
    )
    dataset = data.load(NAME)

    def measured(artefact):
        return judge.evaluate(artefact, dataset, "convnet1-w8", "common-3ep", 2).accuracies

    alone = measured(average)
    measured(raw)
    assert measured(average) == alone


# FTD readme, docs/parameters.png: N, M, max_start_epoch, batch_syn, lr_syn, lr_lr, lr_inner,
# alpha, decay; None where the full set is used.
PUBLISHED = {
    ("CIFAR10", 1): (50, 2, 2, None, 100, 1e-7, 0.01, 0.3, 0.9999),
    ("CIFAR10", 10): (30, 2, 20, None, 100, 1e-5, 0.001, 0.3, 0.9995),
    ("CIFAR10", 50): (30, 2, 40, None, 1000, 1e-5, 0.01, 1, 0.999),
    ("CIFAR100", 1): (40, 3, 20, None, 1000, 1e-5, 0.01, 1, 0.9995),
    ("CIFAR100", 10): (20, 2, 40, None, 1000, 1e-5, 0.01, 1, 0.9995),
    ("CIFAR100", 50): (80, 2, 40, 1000, 1000, 1e-5, 0.01, 1, 0.999),
    ("TinyImageNet", 1): (30, 2, 10, None, 1e4, 1e-4, 0.01, 1, 0.999),
    ("TinyImageNet", 10): (20, 2, 40, 500, 1e4, 1e-4, 0.01, 1, 0.999),
}


@pytest.mark.parametrize(("dataset", "ipc"), PUBLISHED)
def test_recipe_is_the_published_table(dataset, ipc):
    values = methods.resolve("ftd", dataset, ipc, "paper").values
    objective, optimiser, expert = (values[s] for s in ("objective", "optimiser", "experts"))
    assert (
        objective["syn_steps"], objective["expert_epochs"], objective["max_start_epoch"],
        objective.get("batch_syn"), optimiser["lr_syn"], optimiser["lr_lr"],
        objective["lr_inner"], expert["alpha"], optimiser["ema_decay"],
    ) == PUBLISHED[dataset, ipc]  # fmt: skip
    assert (expert["rho"], expert["lr"], expert["momentum"]) == (0.01, 0.01, 0)
    assert expert["num_experts"] == 100
    last_target = {("CIFAR10", 1): 3, ("CIFAR10", 10): 21}  # no later snapshot is used
    assert expert["epochs"] == last_target.get((dataset, ipc), 50)
    assert (optimiser["momentum"], optimiser["iterations"]) == (0.5, 5000)
    assert objective["guided_weight"] == 0
    whitened = "zca" if dataset.startswith("CIFAR") else "standardise"
    assert values["data"]["preprocessing"] == whitened


@pytest.mark.parametrize("scale", ["smoke", "small"])
@pytest.mark.parametrize("dataset", ["Digits16", "FashionMNIST", "CIFAR10", "TinyImageNet"])
def test_reduced_scales_are_those_of_mtt_but_for_what_ftd_adds(scale, dataset):
    ours, theirs = (methods.resolve(name, dataset, 1, scale).values for name in ("ftd", "mtt"))
    assert ours["objective"] == theirs["objective"]
    assert ours["optimiser"] == theirs["optimiser"] | {"ema_decay": ours["optimiser"]["ema_decay"]}
    assert ours["experts"].keys() - theirs["experts"].keys() == {"optimiser", "rho", "alpha"}


def test_estimate_counts_the_second_gradient_of_gsam():
    spec = data.spec("Digits16")
    work = {}
    for method in ("ftd", "mtt"):
        recipe = methods.resolve(method, "Digits16", 1, "smoke")
        cost = estimate(recipe, spec, 1, "convnet2-w16", protocols.get("common-10ep"), 1, 1)
        work[method] = {part.phase: part for part in cost.work}
    ours, theirs = work["ftd"]["experts"], work["mtt"]["experts"]
    assert ours.flops == 2 * theirs.flops and ours.steps == theirs.steps
    assert ours.key != theirs.key
    assert work["ftd"]["distill"].flops == work["mtt"]["distill"].flops


def test_estimate_of_the_coresets_counts_their_networks_by_hand():
    """Herding embeds every image once after training; forgetting counts while it trains."""
    spec = data.spec("Digits16")
    flops = 2 * 9 * 16 * 20**2 + 2 * 9 * 16 * 16 * 10**2 + 2 * 16 * 5**2 * 10
    for method, runs, epochs, batch, passes in (
        ("herding", 1, 20, 256, 1), ("k-center", 1, 20, 256, 1), ("forgetting", 2, 15, 128, 0),
    ):  # fmt: skip
        recipe = methods.resolve(method, "Digits16", 1, "smoke")
        cost = estimate(recipe, spec, 1, "convnet2-w16", protocols.get("common-10ep"), 3, 1)
        work = {part.phase: part for part in cost.work}
        images = 3 * runs * epochs * 1437
        assert work["experts"].flops == images * 3 * flops
        assert work["experts"].steps == images // batch
        embedding = work["distill"].flops if passes else 0
        assert embedding == passes * 3 * 1437 * flops
        assert ("distill" in work) == bool(passes)
