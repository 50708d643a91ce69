"""Labels are checked by every operator that takes them: device, dtype, length, range."""

import pytest
import torch

from nsdbench.ops import convnet, convnet_blocks
from tests.ops.calls import CLASSES, NUM_CLASSES, PROBABILITIES, SHAPE, THETA_WITH_CLASSIFIER, X

THETA = THETA_WITH_CLASSIFIER
OPERATORS = {
    "step": lambda y: convnet.convnet_step(THETA, X, y, 0.1, SHAPE),
    "step_adjoint": lambda y: convnet.convnet_step_adjoint(THETA, X, y, THETA, SHAPE),
    "gradient": lambda y: convnet_blocks.convnet_gradient(THETA, X, y, SHAPE),
    "adjoint": lambda y: convnet_blocks.convnet_adjoint(THETA, X, y, THETA, SHAPE),
}
WRONG = {
    "on meta": (CLASSES.to("meta"), "y: expected the device of x, cpu, got meta"),
    "probabilities on meta": (PROBABILITIES.to("meta"), "y: expected the device of x"),
    "never written": (torch.empty(2, dtype=torch.int64, device="meta"), "the device of x"),
    "ignored by torch": (torch.tensor([0, -100]), r"classes in \[0, 3\), got -100 at position 1"),
    "negative": (torch.tensor([-1, 0]), r"classes in \[0, 3\), got -1 at position 0"),
    "K": (torch.tensor([0, NUM_CLASSES]), r"classes in \[0, 3\), got 3 at position 1"),
    "huge": (torch.tensor([2**62, 0]), r"classes in \[0, 3\), got 4611686018427387904"),
    "float": (CLASSES.double(), r"expected classes \[N\] int64 .*, got \[2\] torch.float64"),
    "int32": (CLASSES.int(), r"expected classes \[N\] int64 .*, got \[2\] torch.int32"),
    "bool": (CLASSES.bool(), "got .*torch.bool"),
    "one-hot integers": (torch.eye(2, 3).long(), r"got \[2, 3\] torch.int64"),
    "probabilities in float32": (PROBABILITIES.float(), r"got \[2, 3\] torch.float32"),
    "column": (CLASSES[:, None], r"got \[2, 1\] torch.int64"),
    "scalar": (CLASSES[0], r"got \[\] torch.int64"),
    "too short": (CLASSES[:1], "expected 2 rows, one an image, got 1"),
    "too long": (CLASSES.repeat(2), "expected 2 rows, one an image, got 4"),
    "too few probabilities": (PROBABILITIES[:1], "expected 2 rows, one an image, got 1"),
    "another K": (PROBABILITIES[:, :2], r"theta: expected shape \[\d+\], got"),
    "no class": (PROBABILITIES[:, :0], r"theta: expected shape \[\d+\], got"),
}


@pytest.mark.parametrize("native", ["1", "0"])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("how", WRONG)
def test_wrong_labels(how, operator, native, monkeypatch):
    monkeypatch.setenv("NSDBENCH_NATIVE", native)
    labels, message = WRONG[how]
    with pytest.raises(ValueError, match=f"convnet: .*{message}"):
        OPERATORS[operator](labels)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_classifier_without_classes(operator):
    shape = convnet.ConvNetShape(1, 2, 1)
    theta = torch.ones(shape.num_parameters(X), dtype=torch.float64)
    function = getattr(convnet if "step" in operator else convnet_blocks, f"convnet_{operator}")
    more = {"step": (0.1,), "gradient": ()}.get(operator, (theta,))
    for labels in (CLASSES, PROBABILITIES[:, :0]):
        with pytest.raises(ValueError, match=r"theta: expected shape \[\d+\], got"):
            function(theta, X, labels, *more, shape)


def test_strides_of_labels_do_not_matter():
    for labels in (CLASSES, PROBABILITIES):
        spread = labels.repeat_interleave(2, dim=0)[::2]
        assert not spread.is_contiguous()
        for run in OPERATORS.values():
            for ours, expected in zip(run(spread), run(labels), strict=True):
                if isinstance(ours, torch.Tensor):
                    assert torch.equal(ours, expected)
