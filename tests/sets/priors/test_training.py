"""Priors that are trained here: the loss, the file, what a seed and a kill leave of it."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from nsdbench import data
from nsdbench.errors import Diverged
from nsdbench.models.sizes import network_size
from nsdbench.seeding import generator
from nsdbench.sets.priors import training
from nsdbench.sets.priors.base import PriorContext
from nsdbench.sets.priors.families import SUITE_TRAINED, SuiteTrainedSettings, encoder_arch
from nsdbench.sets.priors.style import StyleGenerator

SETTINGS = SuiteTrainedSettings(
    width=4, z_dim=4, w_dim=8, epochs=2, batch_size=64, lr=2e-3, kl_weight=1.0
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "priors"


@pytest.fixture(scope="module")
def digits():
    return data.load("Digits").without_test()


def context(dataset, progress=lambda *_: None):
    return PriorContext(dataset, "cpu", progress)


def same(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_the_loss_is_squared_error_and_a_divergence():
    prior = StyleGenerator(SETTINGS, (1, 8, 8), 3).double()
    prior.initialize(generator(0, "loss"))
    prior.requires_grad_(False)
    torch.manual_seed(0)
    code = torch.randn(5, 8, dtype=torch.float64)
    x, noise = torch.randn(5, 1, 8, 8).double(), torch.randn(5, 4).double()
    y = torch.tensor([0, 1, 2, 0, 1])
    found = training.loss_of(prior, lambda images: code, x, y, noise, 0.3)

    mean, deviation = code[:, :4], (code[:, 4:] / 2).exp()
    w = prior.map(mean + deviation * noise, y)
    error = sum(
        float((prior.from_f(w[i : i + 1], prior.to_f(w[i : i + 1], 0), 0) - x[i]).square().sum())
        for i in range(5)
    )
    divergence = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum()
    expected = error / (5 * 64) + 0.3 * float(divergence) / 5 / 64
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_one_seed_gives_one_prior_bit_for_bit_and_it_is_trained_once(digits, cache, monkeypatch):
    seen = []
    first = training.suite_trained(context(digits, lambda *step: seen.append(step)), SETTINGS)
    assert seen == [("prior", 0, 2), ("prior", 1, 2), ("prior", 2, 2)]
    assert first.facts["loss_last"] < first.facts["loss_first"] and first.seconds > 0
    (file,) = cache.glob("*.safetensors")
    assert file.stem == first.facts["name"]

    with monkeypatch.context() as patch:
        patch.setattr(training, "_train", lambda *_: pytest.fail("trained twice"))
        loaded = training.suite_trained(context(digits), SETTINGS)
    assert same(loaded, first)
    assert (loaded.facts, loaded.seconds) == (first.facts, first.seconds)

    monkeypatch.setenv("NSDBENCH_CACHE", str(cache.parent / "another"))
    torch.manual_seed(5)  # nothing of it may matter
    anew = training.suite_trained(context(digits), SETTINGS)
    assert same(anew, first) and anew.facts == first.facts
    assert not same(training.random(context(digits), SETTINGS), first)


def test_a_killed_training_leaves_nothing_and_starts_anew(digits, cache):
    def interrupt(phase, done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.suite_trained(context(digits, interrupt), SETTINGS)
    assert list(cache.glob("*.safetensors")) == []
    after = training.suite_trained(context(digits), SETTINGS)
    (file,) = cache.glob("*.safetensors")
    file.unlink()
    assert same(training.suite_trained(context(digits), SETTINGS), after)


def test_a_damaged_file_is_set_aside_and_made_anew(digits, cache, caplog):
    first = training.suite_trained(context(digits), SETTINGS)
    (file,) = cache.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    assert same(training.suite_trained(context(digits), SETTINGS), first)
    assert "damaged" in caplog.text and len(list(cache.glob("*.damaged"))) == 1


@pytest.mark.parametrize("change", [{"epochs": 1}, {"lr": 1e-3}, {"w_dim": 4}])
def test_other_settings_and_other_data_have_other_files(digits, cache, change):
    settings = SETTINGS.model_copy(update={"epochs": 1, "batch_size": 512})
    training.suite_trained(context(digits), settings)
    other = settings.model_copy(update={**change, "kl_weight": 2.0})
    training.suite_trained(context(digits), other)
    held = digits.holdout(100)
    training.suite_trained(context(held.without_test()), settings)
    assert len(list(cache.glob("*.safetensors"))) == 3


def test_samples_of_a_trained_prior_look_like_their_class(digits):
    """The mean of samples is nearer to the mean of its class than to any other."""
    settings = SETTINGS.model_copy(update={"epochs": 12, "width": 8, "w_dim": 16})
    labels = torch.arange(10).repeat_interleave(50)
    z = torch.randn(500, 4, generator=generator(0, "z"))
    x = digits.train.images.float() / 127.5 - 1
    means = torch.stack([x[digits.train.labels == c].mean(0) for c in range(10)]).flatten(1)
    right = {}
    for prior in (
        training.suite_trained(context(digits), settings),
        training.random(context(digits), settings),
    ):
        w = prior.map(z, labels)
        images = prior.from_f(w, prior.to_f(w, 0), 0).detach().view(10, 50, 64).mean(1)
        nearest = torch.cdist(images, means).argmin(1)
        right[prior.facts["name"]] = int((nearest == torch.arange(10)).sum())
    trained, untrained = right.values()
    assert trained >= 9 and untrained <= 4


def test_a_training_that_explodes_says_what_to_lower(digits, cache):
    settings = SETTINGS.model_copy(update={"lr": 1e6, "epochs": 4})
    with pytest.raises(Diverged, match="prior of Digits: .* lower parameterization.prior_lr"):
        training.suite_trained(context(digits), settings)
    assert list(cache.glob("*.safetensors")) == []


def test_the_price_of_training_counts_both_networks():
    sizes = SUITE_TRAINED.sizes(SETTINGS, (1, 16, 16), 10)
    flops, steps = SUITE_TRAINED.making(SETTINGS, sizes, (1, 16, 16), 130)
    assert encoder_arch(SETTINGS, (1, 16, 16)) == "convnet2-w8"
    encoder = network_size("convnet2-w8", (1, 16, 16), 8)
    assert (flops, steps) == (3 * 2 * 130 * (encoder.flops + sizes.flops), 2 * 3)
