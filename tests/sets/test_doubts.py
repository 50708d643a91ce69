"""What is noticed of sets of other projects: images far from real ones, classes without any."""

import pytest
import torch
import torch.nn.functional as F

from nsdbench import data, evaluate, models
from nsdbench.sets.doubts import far_from_real, missing_classes
from nsdbench.sets.meaning import targets

DIGITS = data.load("Digits16")


@pytest.mark.parametrize("kind", data.KINDS)
def test_images_are_far_beyond_a_hundred_times_the_reach_of_real_ones(kind):
    transform = data.preprocessing(kind, DIGITS)
    real = transform.apply(DIGITS.train.images)
    for times in (1.0, 10.0, 30.0):
        assert far_from_real(real[:40] * times, DIGITS, transform) == ""
    images = real[:40].clone()
    images[7] *= 1000
    text = far_from_real(images, DIGITS, transform)
    assert text.startswith(f"image 7 reaches {images[7].abs().max():.4g} and real images ")
    assert f" ({kind}): " in text and "rescale" in text
    shown = float(text.split("real images ")[1].split()[0])
    assert 0.5 < shown / real.abs().max() < 1.05, "a sample of real images stands for all"


def test_every_class_of_which_no_image_is_is_named():
    classes = torch.tensor([0, 2, 2, 0])
    assert missing_classes(torch.arange(4), 4) == ""
    for labels in (classes, F.one_hot(classes, 4).float(), models.centred(classes, 4)):
        text = missing_classes(labels, 4)
        assert text.startswith("no image is of classes 1, 3, of 4: ") and "check the labels" in text
    assert missing_classes(torch.tensor([0, 1, 3]), 4).startswith("no image is of class 2, of 4: ")
    one = torch.full((5,), 9)
    assert " classes 0, 1, 2, 3, 4 and 4 more, of 10: " in missing_classes(one, 10)
    soft = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    assert missing_classes(soft, 3).startswith("no image is of class 2, of 3: ")
    logits = targets(torch.tensor([[9.0, -9.0, 0.0]] * 2), 2, 3, "set.pt", "logits")
    assert missing_classes(logits, 3) == ""


@pytest.mark.parametrize(
    ("scale", "classes", "notices"),
    [
        (1.0, 10, []),
        (30.0, 10, []),
        (1e10, 10, ["reaches"]),
        (1.0, 1, ["no image is of classes 1, 2, 3, 4, 5 and 4 more, of 10"]),
        (1e10, 9, ["reaches", "no image is of class 9, of 10"]),
    ],
)
def test_evaluation_notices_and_goes_on(caplog, scale, classes, notices):
    stream = torch.Generator().manual_seed(0)
    images = scale * torch.randn(20, 1, 16, 16, generator=stream)
    result = evaluate(
        (images, torch.arange(20) % classes), "Digits16", "convnet1-w4", "common-1ep", 1,
        progress=None,
    )  # fmt: skip
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(notices), said
    assert all(text in line for text, line in zip(notices, said, strict=True))
    assert 0 <= result.accuracies[0] <= 100
