"""Sets of anybody are judged beside Random; what is judged once is kept; claims get a verdict."""

import numpy as np
import pytest
import torch

from nsdbench import data
from nsdbench.bench import judging, measure
from nsdbench.bench.facts import Claim
from nsdbench.bench.judging import Question, judge, parse_claim
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.bench.verdict import claimed_verdict
from nsdbench.data.training import TrainingData
from nsdbench.errors import DataCorrupt
from nsdbench.evaluation import evaluate
from nsdbench.experts import Run
from nsdbench.sets import Artefact, parameterizations
from nsdbench.sets.meaning import UNSAID, Meaning

NAME = "synthetic:4x3x16x16@40+8"
ARCH = "convnet1-w8"


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "results")


@pytest.fixture(scope="module")
def real():
    dataset = data.load(NAME)
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


@pytest.fixture
def pair(tmp_path, real):
    """Two real images a class, as MTT's code saves them."""
    stream = torch.Generator().manual_seed(0)
    rows = torch.cat([real.class_rows(label, 2, stream) for label in range(4)])
    images, labels = real.batch(rows)
    paths = (tmp_path / "images_best.pt", tmp_path / "labels_best.pt")
    torch.save(images, paths[0])
    torch.save(labels, paths[1])
    return paths


def ask(files, **changes):
    return Question(
        tuple(files), NAME, **{"archs": (ARCH,), "protocols": ("common-2ep",), **changes}
    )


def test_a_record_says_what_was_judged_and_random_beside_it(run, pair, real):
    reading, (record,) = judge(ask(pair), run)
    images, labels = torch.load(pair[0]), torch.load(pair[1])
    expected = evaluate((images, labels), NAME, ARCH, "common-2ep", 5)
    assert record.accuracy.values == (expected.accuracies,)
    assert (
        reading.taken_for
        == record.judged.taken_for
        == "images and labels, as MTT's code saves them"
    )
    assert record.cell.scale == "judged" and record.cell.ipc == 2
    assert record.budget.stored_bits == record.budget.limit_bits == 8 * 3 * 16 * 16 * 32
    assert list(record.judged.files) == ["images_best.pt", "labels_best.pt"]
    random = Store(run.results).read("judged", record.judged.random_cell)
    assert random.accuracy == record.judged.random and random.cell.ipc == 2
    assert random.recipe["data"]["preprocessing"] == "standardise"
    assert random.protocol == record.protocol and random.accuracy.n == 5
    assert record.gain.mean == pytest.approx(record.accuracy.mean - random.accuracy.mean)
    assert Record.parse(record.text()) == Store(run.results).read("judged", record.cell.id)


def test_what_is_judged_is_kept_and_another_set_is_another_cell(run, pair, monkeypatch):
    _, (record,) = judge(ask(pair), run)
    monkeypatch.setattr(judging, "train_networks", None)
    monkeypatch.setattr(measure, "train_networks", None)
    _, (again,) = judge(ask(pair), run)
    assert again == record
    monkeypatch.undo()
    torch.save(-torch.load(pair[0]), pair[0])
    _, (other,) = judge(ask(pair), run)
    assert other.cell.id != record.cell.id
    assert other.judged.random_cell == record.judged.random_cell
    _, (said,) = judge(ask(pair, said=Meaning(pixels="normalised")), run)
    assert said.cell.id not in (record.cell.id, other.cell.id)
    assert said.recipe["said"] == {"pixels": "normalised"}


def test_every_network_and_protocol_is_a_cell(run, pair):
    question = ask(pair, archs=(ARCH, "convnet1-w4"), protocols=("common-1ep", "dc-1ep"), repeats=1)
    _, records = judge(question, run)
    assert [(r.cell.arch, r.cell.protocol) for r in records] == [
        (ARCH, "common-1ep"), (ARCH, "dc-1ep"), ("convnet1-w4", "common-1ep"),
        ("convnet1-w4", "dc-1ep"),
    ]  # fmt: skip


def test_random_trains_at_the_rate_that_the_set_has_learned(run, pair):
    torch.save(torch.tensor(0.03), pair[0].with_name("lr_best.pt"))
    files = (*pair, pair[0].with_name("lr_best.pt"))
    _, (record,) = judge(ask(files, protocols=("mtt-2ep",), repeats=2), run)
    random = Store(run.results).read("judged", record.judged.random_cell)
    assert record.training.lr == (pytest.approx(0.03),)
    assert random.training.lr == record.training.lr * 2, "a set is drawn for every network"
    assert random.cell.protocol == "mtt-2ep-lr0.03"
    _, (said,) = judge(ask(pair, protocols=("mtt-2ep",), repeats=2, said=Meaning(lr=0.03)), run)
    assert said.accuracy.values == record.accuracy.values
    both = ask(pair, protocols=("mtt-1ep", "common-1ep"), repeats=1, said=Meaning(lr=0.5))
    _, (learned, fixed) = judge(both, run)
    assert learned.training.lr == (0.5,) and fixed.training.lr == (0.01,)
    for question, message in (
        (ask(pair, protocols=("mtt-2ep",)), "this set carries none; use protocol common, or give"),
        (ask(pair, said=Meaning(lr=0.1)), "--lr 0.1 has no effect: none of common-2ep trains at a"),
        (ask(files, protocols=("mtt-2ep",), said=Meaning(lr=0.1)), "which of the two"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(question, run)


def test_experiments_are_sets_and_labels_count(run, tmp_path, real):
    images, labels = real.batch(real.labels.argsort()[::40])
    torch.save({"data": [[images, labels], [-images, labels]]}, tmp_path / "res.pt")
    _, (record,) = judge(ask([tmp_path / "res.pt"], repeats=2), run)
    assert record.seeds == 2 and [len(row) for row in record.accuracy.values] == [2, 2]
    torch.save((images, 3 * torch.eye(4)[labels] + torch.rand(4, 4)), tmp_path / "soft.pt")
    soft = ask([tmp_path / "soft.pt"], repeats=1, said=Meaning(labels_are="logits"))
    _, (record,) = judge(soft, run)
    assert record.budget.stored_bits == 32 * (4 * 3 * 16 * 16 + 16) and record.cell.ipc == 1
    assert record.budget.is_exceeded and record.budget.entries[1].kind == "label"
    _, (record,) = judge(ask([tmp_path / "res.pt"], repeats=1, ipc=3), run)
    assert record.cell.ipc == 3
    assert Store(run.results).read("judged", record.judged.random_cell).training.num_images == 12


def test_ours_is_judged_too(run, tmp_path, real):
    module = parameterizations.build({"name": "pixels"}, data.load(NAME).spec, 1)
    module.initialize(real, torch.Generator().manual_seed(0))
    kind = {"preprocessing": "standardise", "preprocessing_hash": real.preprocessing.hash}
    path = Artefact(module, kind).save(tmp_path / "set.safetensors")
    _, (record,) = judge(ask([path], repeats=1), run)
    assert record.judged.taken_for == "an artefact of nsdbench, parameterization pixels"
    assert record.budget.strict_ipc == 1
    with pytest.raises(ValueError, match="has no effect: an artefact of ours says itself"):
        judge(ask([path], said=Meaning(pixels="unit")), run)


def test_what_a_format_says_of_its_numbers_holds(run, tmp_path, real):
    """As if the owner had said it of plain arrays."""
    images, labels = real.batch(real.labels.argsort()[::20])
    logits = 3 * torch.eye(4)[labels] + torch.rand(len(labels), 4)
    pixels, centred = torch.rand(8, 3, 16, 16), torch.eye(4)[labels] - 0.25
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(logits, tmp_path / "labels_best.pt")
    torch.save(torch.tensor(0.02), tmp_path / "lr_best.pt")
    torch.save([pixels, labels], tmp_path / "data.pt")
    last = images.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "frepo.npz", image=last, label=centred.numpy())
    for names, said, source, options in (
        (("images_best.pt", "labels_best.pt", "lr_best.pt"), UNSAID, (images, logits),
         {"labels_are": "logits"}),
        (("data.pt",), Meaning(factor=1), (pixels, labels), {"pixels": "unit"}),
        (("frepo.npz",), UNSAID, (images, centred), {"labels_are": "centred"}),
    ):  # fmt: skip
        files = [tmp_path / name for name in names]
        _, (record,) = judge(ask(files, repeats=1, said=said), run)
        expected = evaluate(source, NAME, ARCH, "common-2ep", 1, **options)
        assert record.accuracy.values == (expected.accuracies,), names


def test_bases_of_haba_are_seen_anew_in_every_epoch(run, tmp_path, real):
    """As an artefact of the same module is, number by number."""
    settings = {"name": "hallucinator", "num_hallucinators": 2, "over_budget": True}
    module = parameterizations.build(settings, data.load(NAME).spec, 1)
    module.initialize(real, torch.Generator().manual_seed(0))
    names = {"enc.weight": "conv", "enc.bias": "conv_bias", "dec.weight": "transposed",
             "dec.bias": "transposed_bias"}  # fmt: skip
    state = {
        f"{view}.{theirs}": getattr(module, ours)[view].detach().clone()
        for theirs, ours in names.items()
        for view in range(2)
    }
    for view in range(2):
        for name in ("scale", "shift"):
            state[f"{view}.{name}"] = getattr(module, name)[view][None].detach().clone()
    torch.save(module.bases.detach(), tmp_path / "images_best.pt")
    torch.save(state, tmp_path / "weights_best.pt")
    files = [tmp_path / "images_best.pt", tmp_path / "weights_best.pt"]
    _, (record,) = judge(ask(files, repeats=2), run)
    kind = {"preprocessing": "standardise", "preprocessing_hash": real.preprocessing.hash}
    ours = evaluate(Artefact(module, kind), NAME, ARCH, "common-2ep", 2)
    assert record.accuracy.values == (ours.accuracies,)
    assert record.budget.stored_bits == module.ledger().stored_bits
    with pytest.raises(ValueError, match="--pixels unit .* decoded anew for every epoch"):
        judge(ask(files, said=Meaning(pixels="unit")), run)


def test_a_preprocessing_that_contradicts_the_images_is_noted(run, tmp_path):
    digits = data.load("Digits16")
    rows = torch.cat([torch.nonzero(digits.train.labels == c)[0] for c in range(10)])
    images = data.preprocessing("zca", digits).apply(digits.train.images[rows])
    torch.save((images, torch.arange(10)), tmp_path / "white.pt")
    question = Question((tmp_path / "white.pt",), "Digits16", (ARCH,), ("common-1ep",), 1)
    _, (record,) = judge(question, run)
    (note,) = record.judged.notes
    assert "look as if they are whitened" in note and "but standardise is assumed" in note
    _, (record,) = judge(
        Question((tmp_path / "white.pt",), "Digits16", (ARCH,), ("common-1ep",), 1,
                 Meaning("zca")), run
    )  # fmt: skip
    assert record.judged.notes == ()
    random = Store(run.results).read("judged", record.judged.random_cell)
    assert random.recipe["data"]["preprocessing"] == "zca"


def test_claims(run, pair):
    _, (record,) = judge(ask(pair), run)
    assert claimed_verdict(record) is None
    mean, std = record.accuracy.mean, record.accuracy.std
    _, (record,) = judge(ask(pair, claimed=Claim(mean=mean, std=std)), run)
    verdict = claimed_verdict(record)
    assert verdict.difference == 0 and verdict.word in ("reproduced", "inconclusive")
    assert Store(run.results).read("judged", record.cell.id).judged.claimed.mean == mean
    _, (record,) = judge(ask(pair), run)  # what was claimed before stays
    assert record.judged.claimed is not None
    _, (record,) = judge(ask(pair, repeats=6), run)  # nor do more networks remove it
    assert record.accuracy.n == 6 and record.judged.claimed.mean == mean
    far = 0.0 if mean > 50 else 100.0
    _, (record,) = judge(ask(pair, claimed=Claim(mean=far)), run)
    assert claimed_verdict(record).word == ("above" if far == 0 else "below")
    _, (record,) = judge(ask(pair, repeats=4, claimed=Claim(mean=far), protocols=("dc-1ep",)), run)
    assert str(claimed_verdict(record)) == "not comparable: n = 4 < 5"


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [("46.3+-0.8", 46.3, 0.8), ("46.3 ± 0.8 %", 46.3, 0.8), ("46", 46.0, None), ("7+/-1", 7, 1)],
)
def test_claims_are_read(text, mean, std):
    assert parse_claim(text) == Claim(mean=mean, std=std)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "101", "46.3+0.8", "46,3", "46.3+-", "nan", "46.3+-800"]
)
def test_what_is_no_claim(text):
    with pytest.raises(ValueError, match="expected per cent, as 46.3.-0.8"):
        parse_claim(text)


def test_a_set_too_large_for_random_is_judged_without(run, tmp_path):
    """Forty real images a class are all there are."""
    images = torch.randn(164, 3, 16, 16)
    torch.save((images, torch.arange(164) % 4), tmp_path / "large.pt")
    _, (record,) = judge(ask([tmp_path / "large.pt"], repeats=1), run)
    assert record.judged.random is None and record.gain is None
    assert any("Random was not measured" in note for note in record.judged.notes)


def broken(tmp_path):
    """A file of a network that two images do not go through."""
    path = tmp_path / "broken.py"
    path.write_text("def Net(**sizes):\n    raise ValueError('not yet')")
    return f"{path}:Net"


def test_what_is_wrong_later_is_said_before_a_network_is_trained(
    run, pair, real, tmp_path, monkeypatch
):
    """In a set, a network or a protocol after the first."""
    monkeypatch.setattr(judging, "train_networks", lambda *_: pytest.fail("work has begun"))
    images, labels = real.batch(real.labels.argsort()[::40])
    nothing = torch.full_like(images, float("nan"))
    torch.save({"data": [[images, labels], [nothing, labels]]}, tmp_path / "res.pt")
    torch.save({"data": [[images, labels], [images[:2], labels[:2]]]}, tmp_path / "sizes.pt")
    torch.save({"data": [[images, labels], [images[:2], labels]]}, tmp_path / "short.pt")
    for question, message in (
        (ask([tmp_path / "res.pt"]), "res.pt: image 0 holds values that are not finite"),
        (ask([tmp_path / "short.pt"]), "short.pt: 2 images but 4 labels"),
        (ask([tmp_path / "sizes.pt"]), r"the sets store 98,304, 49,152 bits; .* own"),
        (ask(pair, archs=(ARCH, "convnet9-w8")), "depth 9 needs images of at least"),
        (ask(pair, archs=(ARCH, broken(tmp_path))), "raised ValueError while it was built"),
        (ask(pair, protocols=("common-2ep", "mtt-2ep")), "this set carries none"),
        (ask([*pair, pair[0]]), r"images_best.pt is named twice; name every file of the set once"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            judge(question, run)
        assert "\n" not in str(refused.value)


def test_failures_are_records_and_mistakes_are_not(run, pair, tmp_path):
    _, (record,) = judge(ask(pair, protocols=("mtt-2ep",), said=Meaning(lr=1e30)), run)
    assert record.failure.kind == "diverged"
    with pytest.raises(DataCorrupt, match="holds images alone"):
        judge(ask(pair[:1]), run)
    with pytest.raises(ValueError, match="is for the full data"):
        judge(ask(pair, protocols=("full-2ep",)), run)
    with pytest.raises(ValueError, match="depth 9 needs images of at least"):
        judge(ask(pair, archs=("convnet9-w8",)), run)
