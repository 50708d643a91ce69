"""Labels that are learned: where they start, what they cost, and that files keep them."""

import pytest
import torch

from nsdbench import data
from nsdbench.data.training import TrainingData
from nsdbench.errors import BudgetExceeded
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.parameterizations.separable import Separable, SeparableShape

SPEC = data.spec("Digits16")
LEARNED = {"name": "pixels", "learned_labels": True, "over_budget": True}


def built(**settings):
    return parameterizations.build({**LEARNED, **settings}, SPEC, 2)


def test_start_is_one_hot_less_its_mean_times_the_scale():
    module = built(label_scale=0.5)
    expected = torch.full((20, 10), -0.05)
    for image in range(20):
        expected[image, image // 2] = 0.45
    torch.testing.assert_close(module.soft_labels.detach(), expected)
    assert module.labels.tolist() == [image // 2 for image in range(20)]


def test_initialize_keeps_labels_and_draws_the_same_images():
    dataset = data.load("Digits16").without_test()
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    plain = parameterizations.build({"name": "pixels"}, SPEC, 2)
    learned = built()
    for module in (plain, learned):
        module.initialize(real, generator(0, "start"))
    assert torch.equal(plain.spectra, learned.spectra)
    assert torch.equal(learned.soft_labels, built().soft_labels)


def test_the_ledger_counts_every_label_with_32_bits():
    ledger = built().ledger()
    images, labels = 20 * 16 * 16, 20 * 10
    assert [(entry.kind, entry.name, entry.shape) for entry in ledger.entries] == [
        ("coefficient", "spectra", (1, 20, 1, 16, 16)),
        ("label", "soft_labels", (20, 10)),
    ]
    assert ledger.stored_bits == 32 * (images + labels)
    assert ledger.listed == ()
    shape = parameterizations.plan(LEARNED, SPEC, 2)
    assert shape.num_elements == images + labels


def test_labels_on_top_of_ipc_images_break_the_budget_unless_the_recipe_says_so():
    with pytest.raises(BudgetExceeded, match="would store 5320 floats.* allows 5120"):
        parameterizations.build({"name": "pixels", "learned_labels": True}, SPEC, 2)
    assert not parameterizations.may_exceed({"name": "pixels"})


def test_files_keep_them_and_classes_are_those_of_the_highest(tmp_path):
    module = built()
    module.soft_labels.data[3] = torch.arange(10.0)
    written = Artefact(module, {})
    read = load_artefact(written.save(tmp_path / "set.safetensors"))
    assert torch.equal(read.soft_labels(), module.soft_labels)
    assert read.labels().tolist() == [0, 0, 1, 9, *(image // 2 for image in range(4, 20))]
    assert read.ledger() == written.ledger()
    plain = Artefact(parameterizations.build({"name": "pixels"}, SPEC, 2), {})
    assert plain.soft_labels() is None


def test_any_separable_set_can_have_them_in_a_group_of_their_own():
    """Of the sizes of a spectral set with two kernel sets: 2 x 2 x 3 images of 4 classes."""
    shape = SeparableShape(
        "spectral", 4, 4, 2, (2, 1, 3, 3), (3, 1, 4, 4), (True, False, True, True), "spectra",
        label_scale=1.0,
    )  # fmt: skip
    module = Separable(shape)
    assert module.soft_labels.shape == (24, 4)
    stored = sum(tensor.numel() for tensor in module.state_dict().values())
    assert shape.num_elements == stored
    rates = {"lr_syn": 1.0, "lr_kernels": 2.0, "lr_labels": 3.0}
    groups = module.parameter_groups(rates)
    assert [group["lr"] for group in groups] == [1.0, 2.0, 3.0]
    assert groups[2]["params"] == [module.soft_labels]


def test_a_scale_of_labels_that_are_not_learned_is_refused():
    with pytest.raises(ValueError, match="`label_scale` is 0.5 and scales labels that are learned"):
        parameterizations.plan({"name": "pixels", "label_scale": 0.5}, SPEC, 2)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(ValueError, match="label_scale is .*; expected a positive number"):
        SeparableShape(
            "pixels", 1, 1, 1, (1, 1, 2, 2), (1, 1, 2, 2), (False,) * 4, "columns",
            label_scale=scale,
        )  # fmt: skip
