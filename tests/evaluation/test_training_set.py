"""What networks are trained on: sets of others, what is refused of them, and of artefacts."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from nsdbench import data
from nsdbench.data.training import TrainingData
from nsdbench.evaluation.judge import evaluate
from nsdbench.evaluation.training_set import TrainingSet, kept_on
from nsdbench.sets import Artefact, parameterizations


def stored(name, metadata=None):
    """Make an artefact of pixels of another data set, or with other metadata."""
    pixels = parameterizations.build({"name": "pixels"}, data.spec(name), 1).requires_grad_(False)
    said = {"preprocessing": "standardise", "preprocessing_hash": ""}
    return Artefact(pixels, said if metadata is None else metadata)


def test_options_that_have_no_effect_on_a_source_are_errors(dataset):
    options = (dataset, "convnet1-w8", "common-2ep", 1)
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    for said in (
        {"preprocessing_kind": "standardise"},
        {"pixels": "unit"},
        {"labels_are": "logits"},
    ):
        with pytest.raises(ValueError, match="no effect: an artefact of ours says itself"):
            evaluate(stored(dataset.name), *options, **said)
        with pytest.raises(ValueError, match="no effect: the real training data"):
            evaluate(real, *options, **said)
    with pytest.raises(ValueError, match="distilled from other training data"):
        evaluate(stored(dataset.name), *options)
    with pytest.raises(ValueError, match="does not say how its images were preprocessed"):
        evaluate(stored(dataset.name, {}), *options)


def test_artefacts_of_another_data_set_are_refused(dataset):
    transform = data.preprocessing("standardise", dataset)
    said = {"preprocessing": "standardise", "preprocessing_hash": transform.hash}
    for name, message in (
        ("synthetic:3x1x4x4", r"\[1, 4, 4\] images"),
        ("synthetic:5x1x8x8", "up to 4"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(stored(name, said), dataset, "convnet1-w8", "common-2ep")


class Foreign:
    """Fifty real images of Digits16 with the logits of some network, as users bring them."""

    def __init__(self):
        self.data = data.load("Digits16")
        real = TrainingData(self.data, data.preprocessing("standardise", self.data))
        stream = torch.Generator().manual_seed(0)
        rows = torch.cat([real.class_rows(c, 5, stream) for c in range(10)])
        self.X, self.y = real.batch(rows)
        self.U = self.data.train.images[rows]
        torch.manual_seed(1)
        self.L = F.one_hot(self.y, 10) * 3.0 + torch.randn(50, 10)

    def score(self, source, **said):
        result = evaluate(source, self.data, "convnet2-w16", "common-60ep", repeats=2, **said)
        return sum(result.accuracies) / 2


@pytest.fixture(scope="module")
def foreign():
    return Foreign()


@pytest.mark.parametrize(
    ("source", "said", "score"),
    [
        (lambda f: (f.X, f.y), {}, 89.3),
        (lambda f: (f.X, f.L), {"labels_are": "logits"}, 86.7),
        (lambda f: (f.X, F.one_hot(f.y, 10) - 0.1), {"labels_are": "centred"}, 89.3),
        (lambda f: (f.U, f.y), {"pixels": "raw"}, 89.3),
        (lambda f: (f.U.double() / 255, f.y), {"pixels": "unit"}, 89.3),
        (lambda f: (f.X, f.y[:, None]), {}, 89.3),
        (lambda f: TensorDataset(f.X.double(), f.y.float()), {}, 89.3),
        (lambda f: (f.X.numpy(), f.y.int().numpy()), {}, 89.3),
    ],
)
def test_sets_of_others_score_what_they_are_worth(foreign, source, said, score):
    assert foreign.score(source(foreign), **said) == pytest.approx(score, abs=0.05)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda f: (f.X, f.L), "give --labels-are logits"),
        (lambda f: (f.X, F.one_hot(f.y, 10) - 0.1), "give --labels-are centred"),
        (lambda f: (f.U, f.y), "give --pixels raw"),
        (lambda f: (f.U / 255, f.y), "give --pixels unit"),
        (
            lambda f: (f.X, f.y.clone().index_fill_(0, torch.arange(5), -100)),
            "-100; expected a class",
        ),
        (lambda f: (f.X, F.one_hot(f.y, 10) * 100), "sum 100"),
        (lambda f: (f.X, f.y + 0.5), "0.5; expected a class"),
        (lambda f: (f.X, F.one_hot(f.y, 10)[:, :5]), r"labels are \[50, 5\]"),
        (lambda f: (f.X, f.X), r"labels are \[50, 1, 16, 16\]"),
        (lambda f: (f.X[:0], f.y[:0]), "n at least 1"),
        (lambda f: (f.X, f.y * torch.nan), "is nan"),
    ],
)
def test_files_and_tensors_that_are_refused_in_the_same_words(foreign, tmp_path, source, message):
    with pytest.raises(ValueError, match=f"the set: .*{message}") as in_memory:
        foreign.score(source(foreign))
    torch.save(source(foreign), tmp_path / "f.pt")
    with pytest.raises(ValueError, match=message) as of_file:
        foreign.score(tmp_path / "f.pt")
    assert str(of_file.value) == str(in_memory.value).replace("the set", str(tmp_path / "f.pt"))


def test_a_set_kept_on_a_device_gives_the_same_rows(tensors):
    images, labels = tensors
    kept = kept_on(TrainingSet(12, lambda rows: (images[rows], labels[rows])), torch.device("cpu"))
    rows = torch.tensor([3, 0, 3])
    assert kept.num_images == 12 and kept.redraw is None
    assert all(map(torch.equal, kept.fetch(rows), (images[rows], labels[rows])))
