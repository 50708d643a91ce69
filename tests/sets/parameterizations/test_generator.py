"""Latents of a prior: decoding and gradients by hand, starts, what is stored, what is refused."""

from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

from nsdbench import data, methods, registry
from nsdbench.bench.cost import estimate
from nsdbench.data.training import TrainingData
from nsdbench.distillation import loop as distillation
from nsdbench.errors import DataMissing
from nsdbench.evaluation import protocols
from nsdbench.registry import Settings
from nsdbench.seeding import generator
from nsdbench.sets import load_artefact, parameterizations
from nsdbench.sets.priors import GeneratorPrior, PriorFamily, PriorSizes

NAME = "synthetic:3x1x8x8@20+6"
SMALL = {"prior": "random", "layer": 1, "prior_width": 2, "prior_z_dim": 3, "prior_w_dim": 4}
TRAINED = SMALL | {
    "prior": "suite-trained", "prior_epochs": 1, "prior_batch_size": 16, "prior_lr": 1e-3,
    "prior_kl_weight": 1.0,
}  # fmt: skip
FEW_STEPS = {
    "network.width": 4, "network.depth": 1, "experts.num_experts": 1, "experts.epochs": 6,
    "objective.syn_steps": 2, "objective.max_start_epoch": 2, "optimiser.iterations": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def dataset():
    return data.load(NAME).without_test()


def made(dataset, ipc=2, kind="standardise", seed=0, **settings):
    section = {"name": "generator", **SMALL, **settings}
    module = parameterizations.build(section, dataset.spec, ipc)
    module.prepare(dataset, "cpu", lambda *_: None)
    real = TrainingData(dataset, data.preprocessing(kind, dataset))
    module.initialize(real, generator(seed, "distill", "initialize"))
    return module


def overrides(**settings):
    return FEW_STEPS | {f"parameterization.{key}": value for key, value in settings.items()}


@pytest.mark.parametrize("kind", ["standardise", "zca"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_decoding_is_the_rest_of_the_synthesis_preprocessed(dataset, kind, layer):
    module = made(dataset, kind=kind, layer=layer)
    images, labels = module.decode()
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    pictures = module.prior.from_f(module.w, module.f, layer) / 2 + 0.5
    expected = data.preprocessing(kind, dataset).apply(pictures)
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
    index = torch.tensor([4, 0, 4])
    some, classes = module.decode(index)
    torch.testing.assert_close(some, images[index], rtol=1e-5, atol=1e-5)
    assert classes.tolist() == [2, 0, 2]


def test_a_shift_repeats_the_slip_of_the_authors_code():
    """Decoded pictures of theirs are standardised by other means than real ones, (x - m') / s."""
    dataset = data.load("synthetic:3x3x8x8@20+6").without_test()
    plain, shifted = (made(dataset, shift=shift) for shift in ((), (0.0473, 0.0122, -0.0668)))
    transform = data.preprocessing("standardise", dataset)
    pictures = plain.prior.from_f(plain.w, plain.f, 1) / 2 + 0.5
    other = transform.mean - torch.tensor([0.485, 0.456, 0.406])
    other += torch.tensor([0.4377, 0.4438, 0.4728])
    expected = (pictures - other[:, None, None]) / transform.std[:, None, None]
    torch.testing.assert_close(shifted.decode()[0], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain.decode()[0], expected, atol=1e-2)


def in_double(module):
    """Decode in float64, without a preprocessing that would round."""
    module.double()
    module.prior.double()
    module._preprocessing = type("Same", (), {"apply": staticmethod(lambda pictures: pictures)})
    return module


@pytest.mark.parametrize("chunk", [1, 4, 5, 6])
def test_the_gradient_of_chunks_is_the_gradient_of_the_whole(dataset, chunk):
    whole, parts = (in_double(made(dataset, chunk=size)) for size in (100, chunk))
    parts.load_state_dict(whole.state_dict())
    with torch.no_grad():
        shape = whole.decode()[0].shape
        pull = torch.randn(shape, generator=generator(0, "pull"), dtype=torch.float64)
    pictures = (whole.prior.from_f(whole.w, whole.f, 1) + 1) / 2
    (pictures * pull).sum().backward()  # nothing is run twice, nothing is cut
    (parts.decode()[0] * pull).sum().backward()
    for name in ("w", "f"):
        found, expected = getattr(parts, name).grad, getattr(whole, name).grad
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        assert expected.abs().max() > 0
    assert not whole.w.grad[:, 0].any(), "rows of earlier layers have no effect"


def test_the_gradient_of_decoding_is_that_of_its_differences(dataset):
    module = in_double(made(dataset, ipc=1, chunk=2))
    index = torch.tensor([0, 2, 0])

    def decode(w, f):
        module.w, module.f = (nn.Parameter(value) for value in (w, f))
        del module._parameters["w"], module._parameters["f"]
        module.w, module.f = w, f
        return module.decode(index)[0]

    start = [tensor.detach().clone().requires_grad_() for tensor in (module.w, module.f)]
    assert torch.autograd.gradcheck(decode, start)


def test_one_chunk_is_in_memory_at_a_time(dataset):
    """What autograd keeps of a decoding are the latents; a chunk is run again for its gradient."""
    module = made(dataset, ipc=4, chunk=3)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        images, _ = module.decode()
    floats = sum(kept)
    images.sum().backward()
    assert floats <= 4 * (module.w.numel() + module.f.numel() + images.numel())
    runs = []
    module.prior.from_f = lambda *given, run=module.prior.from_f: runs.append(1) or run(*given)
    module.decode()[0].sum().backward()
    assert len(runs) == 2 * 4, "12 images in chunks of 3, twice"


def test_starts(dataset):
    """w is the map of z, or the mean of 1,000 maps of the class; f is where it leads."""
    sampled = made(dataset, seed=3)
    prior, labels = sampled.prior, torch.tensor([0, 0, 1, 1, 2, 2])
    z = torch.randn(6, 3, generator=generator(3, "distill", "initialize"))
    assert torch.equal(sampled.w, prior.map(z, labels))
    torch.testing.assert_close(sampled.f.data, prior.to_f(sampled.w, 1))

    mean = made(dataset, seed=3, start="mean")
    stream = generator(3, "distill", "initialize")
    for c in range(3):
        z = torch.randn(1000, 3, generator=stream)
        w = prior.map(z, torch.full((1000,), c)).mean(0)
        for row in (2 * c, 2 * c + 1):
            torch.testing.assert_close(mean.w.data[row], w)
    assert not torch.equal(made(dataset, seed=4).f, sampled.f)


class Theirs(GeneratorPrior):
    """A prior of a package outside: pictures of 8 px are f itself, times w; one layer."""

    gives = {"map": (1, 2), "to_f": (1, 8, 8), "from_f": (1, 8, 8)}
    fill = 1.0

    def _of(self, call, count):
        return torch.full((count, *self.gives[call]), self.fill if call == "to_f" else 0.5)

    def map(self, z, labels):
        return self._of("map", len(z))

    def to_f(self, w, layer):
        return self._of("to_f", len(w))

    def from_f(self, w, f, layer):
        return self._of("from_f", len(f)) * f * w.mean()


FAMILY = PriorFamily(
    Settings, f"{__name__}:theirs", lambda settings, shape, count: PriorSizes(4, 2, 1, 1, 64.0, 64)
)


@pytest.fixture
def install(monkeypatch):
    """Return a function that enters a prior of a package outside by a name."""
    entered = registry._entry_points

    def enter(name="theirs", **attributes):
        prior = type("Given", (Theirs,), attributes)
        family = PriorFamily(FAMILY.settings, "unused:unused", FAMILY.sizes)
        object.__setattr__(family, "load", lambda: lambda context, settings: prior())
        entry = EntryPoint(name, "theirs:FAMILY", "nsdbench.priors")
        monkeypatch.setattr(EntryPoint, "load", lambda self: family)
        monkeypatch.setattr(
            registry,
            "_entry_points",
            lambda group: (entry,) if group == "nsdbench.priors" else entered(group),
        )

    return enter


@pytest.mark.parametrize(
    ("value", "kept"),
    [(3.0, 3.0), (12.0, 10.0), (-1e30, -10.0), (float("inf"), 5.0), (float("-inf"), -5.0),
     (float("nan"), 0.0)],
)  # fmt: skip
def test_f_is_clipped_at_the_start_alone(dataset, install, value, kept):
    install(fill=value)
    module = made_theirs(dataset)
    assert torch.equal(module.f.data, torch.full((6, 1, 8, 8), kept))
    with torch.no_grad():
        module.f.fill_(1e4)
    module.constrain()
    assert module.f.max() == 1e4


def made_theirs(dataset, **settings):
    section = {"name": "generator", "prior": "theirs", "layer": 0, **settings}
    module = parameterizations.build(section, dataset.spec, 2)
    module.prepare(dataset, "cpu", lambda *_: None)
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    module.initialize(real, generator(0, "distill", "initialize"))
    return module


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"gives": Theirs.gives | {"map": (2, 2)}},
         r"map of two samples gives torch.float32 \[2, 2, 2\]; expected torch.float32 \[2, 1, 2\]"),
        ({"gives": Theirs.gives | {"from_f": (3, 8, 8)}},
         r"from_f at layer 0 .* gives torch.float32 \[2, 3, 8, 8\]; expected .* \[2, 1, 8, 8\]"),
        ({"to_f": lambda self, w, layer: torch.ones(1, 1, 8, 8)},
         r"to_f at layer 0 of two samples gives torch.float32 \[1, 1, 8, 8\]; expected"),
        ({"from_f": lambda self, w, f, layer: f.double()},
         r"from_f at layer 0 of two samples gives torch.float64"),
    ],
)  # fmt: skip
def test_a_plug_in_that_gives_something_else_is_refused_before_any_work(
    dataset, install, monkeypatch, attributes, message
):
    install(**attributes)
    for work in ("TrainingData", "_objective"):
        monkeypatch.setattr(distillation, work, lambda *_: pytest.fail("work began"))
    given = {"parameterization.prior": "theirs", "parameterization.layer": 0}
    with pytest.raises(ValueError, match=f"prior 'theirs': {message}") as caught:
        distillation.distill("glad", NAME, 1, overrides=given)
    assert "\n" not in str(caught.value)


def test_a_plug_in_distils(dataset, install):
    install()
    given = overrides(prior="theirs", layer=0)
    artefact = distillation.distill("glad", NAME, 1, overrides=given)
    assert artefact.metadata["distillation"]["images_moved"] > 0
    install("stylegan-xl")
    assert distillation.distill("glad", NAME, 1, overrides=overrides(layer=0)).images().any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 3}, r"layer is 3; for images of .1, 8, 8. the prior 'random' has layers 0 to 2"),
        ({"layer": -4}, "layer is -4; .* -3 to -1 from the end"),
        ({"layer": 1.5}, "`layer` is 1.5; expected a whole number"),
        ({"layr": 1}, "unknown key `layr`; known: prior, layer, .*; did you mean layer"),
        ({"prior_widht": 1}, "prior 'random': unknown key `widht`; .* did you mean width"),
        ({"prior_width": 0}, "prior 'random': `width` is 0; expected a whole number of at least 1"),
        ({"prior": "randm"}, "unknown prior 'randm'; known: random, suite-trained; did you mean"),
        ({"start": "zero"}, "`start` is 'zero'; expected one of sampled, mean"),
        ({"chunk": 0}, "`chunk` is 0; expected"),
        ({"shift": [0.1, 0.2]}, "shift has 2 numbers; expected one for each of the 1 channels"),
        ({"shift": [2]}, "item 1 of `shift` is 2; expected a finite number"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_by_the_plan_in_one_line(dataset, settings, message):
    section = {"name": "generator", **SMALL, **settings}
    with pytest.raises(ValueError, match=message) as caught:
        parameterizations.plan(section, dataset.spec, 1)
    assert "\n" not in str(caught.value)


def test_images_that_the_generator_cannot_make_are_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(distillation, "_prepared", lambda *_: pytest.fail("work began"))
    with pytest.raises(ValueError, match="prior 'suite-trained': images are 30x30; the generator"):
        distillation.distill("glad-suite", "synthetic:3x1x30x30", 1)


def test_the_published_prior_is_missing_with_a_sentence_that_says_what_to_do():
    with pytest.raises(DataMissing, match="'stylegan-xl'.*nsdbench.priors.*docs/plugins") as caught:
        distillation.distill("glad", NAME, 1)
    assert "\n" not in str(caught.value)


def test_what_is_stored_are_the_pixels_and_nothing_else(dataset, tmp_path):
    ipc = 2
    artefact = distillation.distill(
        "glad-suite", NAME, ipc, overrides=overrides(**TRAINED), out=tmp_path / "set.safetensors"
    )
    stored = artefact.parameterization.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == {
        "spectra": (1, 3 * ipc, 1, 8, 8)
    }
    assert artefact.parameterization.settings["name"] == "pixels"
    assert artefact.ledger().stored_bits == 32 * ipc * 3 * 64
    assert [entry.kind for entry in artefact.ledger().entries] == ["coefficient"]
    assert artefact.metadata["cost"]["prior"] > 0
    facts = artefact.metadata["distillation"]["prior"]
    assert facts["loss_last"] == facts["loss_first"] and facts["name"].startswith("synthetic")
    assert load_artefact(tmp_path / "set.safetensors").labels().tolist() == [0, 0, 1, 1, 2, 2]


def test_the_stored_pixels_are_the_decoded_latents(dataset):
    module = made(dataset)
    assert torch.equal(module.stored().decode()[0], module.decode()[0])
    assert module.ledger() == module.stored().ledger()


def test_a_run_that_is_killed_while_its_prior_is_trained_ends_as_an_undisturbed_one(
    tmp_path, monkeypatch
):
    given = overrides(**TRAINED | {"prior_epochs": 3})

    def distil(work, progress=distillation.silent):
        monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / work / "cache"))
        return distillation.distill(
            "glad-suite", NAME, 2, overrides=given, work=tmp_path / work, progress=progress
        )

    def stop_at(phase, number):
        def interrupt(seen, done, total, note=""):
            if (seen, done) == (phase, number):
                raise KeyboardInterrupt

        return interrupt

    undisturbed = distil("a")
    for moment in (("prior", 0), ("prior", 2), ("experts", 2), ("distill", 2)):
        with pytest.raises(KeyboardInterrupt):
            distil("b", stop_at(*moment))
    resumed = distil("b")
    assert torch.equal(resumed.images(), undisturbed.images())
    assert resumed.metadata["distillation"] == undisturbed.metadata["distillation"]


def test_the_plan_prices_the_prior_once_for_all_cells_and_decoding_for_every_step():
    spec = data.spec("Digits16")

    def planned(method, ipc=1, **more):
        recipe = methods.resolve(method, "Digits16", ipc, "smoke", more)
        return estimate(recipe, spec, ipc, "convnet2-w16", protocols.get("common-10ep"), 3, 1)

    trained, untrained = planned("glad-suite"), planned("glad-random")
    phases = [part.phase for part in trained.work]
    assert phases == ["prior", "experts", "distill", "evaluate"]
    assert [part.phase for part in untrained.work] == phases[1:]
    assert trained.work[0] == planned("glad-suite", ipc=10).work[0], "shared"
    longer = planned("glad-suite", **{"parameterization.prior_epochs": 6}).work[0]
    assert longer.key != trained.work[0].key
    assert (longer.flops, longer.steps) == (2 * trained.work[0].flops, 2 * trained.work[0].steps)

    # steps of 3 sets; 10 images, forward twice and backward once
    settings = methods.resolve("glad-random", "Digits16", 1, "smoke").values["parameterization"]
    shape = parameterizations.plan(settings, spec, 1)
    assert trained.stored_bytes == 4 * 10 * 256 and shape.num_elements == 10 * 256
    objective = methods.resolve("glad", "Digits16", 1, "smoke").values["objective"]
    same = {f"objective.{key}": value for key, value in objective.items()}
    steps = methods.resolve("glad-random", "Digits16", 1, "smoke").values["optimiser"]["iterations"]
    without = planned("mtt", **same, **{"optimiser.iterations": steps})
    decoding = untrained.work[1].flops - without.work[1].flops
    assert decoding == pytest.approx(3 * steps * 10 * 3 * shape.sizes.flops)
    wide, wider = (
        planned(
            "glad-random", **{"parameterization.prior_width": width, "parameterization.chunk": 4}
        )
        for width in (1000, 2000)
    )
    maps = 2 * 1000 * (4 * (16 + 16) + 4 * 16 + 2 * 64 + 2 * 64 + 256) + 1000 * 256
    assert wider.peak_bytes - wide.peak_bytes == 4 * 4 * maps
