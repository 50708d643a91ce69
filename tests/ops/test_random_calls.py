"""Every public operator with random operands: a value equal to the twin's, or an error of ours."""

import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdbench import ops
from nsdbench.ops import convnet, convnet_blocks
from nsdbench.ops.convnet import ConvNetShape
from nsdbench.ops.dsa import PARAMETERS

DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64)
OURS = r"^(convnet|dsa|reconstruct|reconstruct_jvp|inorm_relu_pool|kernels_t|kernels): "
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


class Draw:
    """Operands of one call: those of a spoiled one are now and then wrong in one way each."""

    def __init__(self, seed, is_spoiled, device="cpu"):
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = self.random.choice(DTYPES[:2])
        self.is_spoiled = is_spoiled
        self.device = device
        self.leaves = []

    def size(self, low=1, high=5):
        return self.random.randint(low, high)

    def tensor(self, *shape, dtype=None):
        if self.is_spoiled and self.random.random() < 0.04:
            shape = self.spoiled(list(shape))
        tensor = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        tensor = self.strided(tensor.to(dtype or self.dtype).to(self.device))
        if dtype is None and tensor.is_floating_point():
            self.leaves.append(tensor)
        return tensor

    def spoiled(self, shape):
        how = self.random.randrange(4)
        if how == 0 or not shape:
            return [*shape, self.size()]
        at = self.random.randrange(len(shape))
        if how == 1:
            return [*shape[:at], *shape[at + 1 :]]
        return [*shape[:at], max(0, shape[at] + self.random.choice((-1, 1, -9))), *shape[at + 1 :]]

    def strided(self, tensor):
        """Change strides, device or dtype; mostly none of them."""
        how = self.random.random()
        if how < 0.15:
            tensor = tensor.flip(0).flip(0) if tensor.dim() else tensor
        elif how < 0.3 and tensor.dim() > 1:
            tensor = tensor.transpose(0, 1).contiguous().transpose(0, 1)
        elif how < 0.4 and tensor.dim():
            tensor = tensor.repeat_interleave(2, dim=-1)[..., ::2]
        elif how < 0.45 and tensor.dim():
            tensor = tensor[:1].expand(tensor.shape) if len(tensor) else tensor
        elif how < 0.47 and self.is_spoiled:
            tensor = tensor.to("meta")
        elif how < 0.49 and self.is_spoiled:
            tensor = tensor.to(self.random.choice(DTYPES))
        return tensor

    def maybe(self, *shape):
        return None if self.random.random() < 0.3 else self.tensor(*shape)

    def labels(self, count, num_classes):
        if self.random.random() < 0.4:
            return self.tensor(count, num_classes).abs()
        labels = torch.randint(num_classes, (count,), generator=self.generator).to(self.device)
        if self.is_spoiled and self.random.random() < 0.2:
            labels[self.random.randrange(count)] = self.random.choice((-100, -1, num_classes))
        if self.is_spoiled and self.random.random() < 0.1:
            return self.random.choice(
                (labels[1:], labels.double(), labels.to("meta"), labels[None])
            )
        return labels


def reconstruction(draw):
    sizes, out = [draw.size() for _ in range(4)], [draw.size() for _ in range(4)]
    spectra, sets = draw.tensor(draw.size(1, 3), *sizes), draw.size(1, 3)
    kernels = [draw.maybe(sets, t, u) for t, u in zip(sizes, out, strict=True)]
    index = None
    if draw.random.random() < 0.5:
        high = 1 if not draw.is_spoiled else 3
        index = torch.randint(high, (draw.size(0, 4),), generator=draw.generator).to(draw.device)
    return spectra, kernels, index


def reconstruct_jvp(draw):
    spectra, kernels, index = reconstruction(draw)
    along = [None if k is None else draw.maybe(*k.shape) for k in kernels]
    return ops.reconstruct_jvp(spectra, kernels, draw.maybe(*spectra.shape), along, index)


def augmentation(draw):
    operation = draw.random.choice(list(PARAMETERS))
    if draw.is_spoiled and draw.random.random() < 0.1:
        operation = "blur"
    images = draw.tensor(draw.size(), draw.size(1, 3), draw.size(1, 7), draw.size(1, 7))
    columns = len(PARAMETERS.get(operation, ()))
    count = draw.random.choice((1, len(images) if images.dim() else 1))
    parameters = draw.tensor(count, columns, dtype=torch.float64)
    return images, operation, parameters, draw.random.random() < 0.5


def pool_operands(draw):
    channels = draw.size()
    x = draw.tensor(draw.size(), channels, draw.size(2, 7), draw.size(2, 7))
    return x, draw.tensor(channels), draw.tensor(channels)


def inorm_relu_pool_jvp(draw):
    operands = pool_operands(draw)
    return ops.inorm_relu_pool_jvp(*operands, *(draw.maybe(*t.shape) for t in operands))


def inorm_relu_pool_nhwc(draw):
    x, weight, bias = pool_operands(draw)
    return ops.inorm_relu_pool_nhwc(x.movedim(1, -1) if x.dim() > 1 else x, weight, bias)


def network(draw, num_classes=0):
    low = 0 if draw.is_spoiled and draw.random.random() < 0.1 else 1
    shape = ConvNetShape(draw.size(low, 2), draw.size(low), draw.size(low, 3))
    x = draw.tensor(draw.size(1, 3), draw.size(1, 4), draw.size(4, 9), draw.size(4, 9))
    size = shape.num_parameters(x, num_classes) if x.dim() == 4 else 9
    return draw.tensor(max(size, 0)), x, shape


def labelled(draw):
    num_classes = draw.size()
    theta, x, shape = network(draw, num_classes)
    return theta, x, draw.labels(max(1, len(x)), num_classes), shape


def step(draw):
    theta, x, y, shape = labelled(draw)
    velocity = draw.maybe(*theta.shape)
    return convnet.convnet_step(theta, x, y, 0.1, shape, velocity=velocity, momentum=0.5)


def adjoint(draw, function=convnet.convnet_step_adjoint):
    theta, x, y, shape = labelled(draw)
    needs = (draw.random.random() < 0.8, True, y.dim() == 2)
    return function(theta, x, y, draw.tensor(*theta.shape), shape, needs)


def features(function):
    def run(draw):
        theta, x, shape = network(draw)
        return function(theta, x, shape)

    return run


def gradient(draw):
    theta, x, y, shape = labelled(draw)
    return convnet_blocks.convnet_gradient(theta, x, y, shape)


OPERATORS = {
    "reconstruct": lambda draw: ops.reconstruct(*reconstruction(draw)),
    "reconstruct_jvp": reconstruct_jvp,
    "dsa": lambda draw: ops.dsa(*augmentation(draw)),
    "dsa_jvp": lambda draw: ops.dsa_jvp(*augmentation(draw)),
    "dsa_backward": lambda draw: ops.dsa_backward(*augmentation(draw)),
    "inorm_relu_pool": lambda draw: ops.inorm_relu_pool(*pool_operands(draw)),
    "inorm_relu_pool_jvp": inorm_relu_pool_jvp,
    "inorm_relu_pool_nhwc": inorm_relu_pool_nhwc,
    "convnet_features": features(convnet.convnet_features),
    "convnet_step": step,
    "convnet_step_adjoint": adjoint,
    "features of the blocks": features(convnet_blocks.convnet_features),
    "convnet_gradient": gradient,
    "convnet_adjoint": lambda draw: adjoint(draw, convnet_blocks.convnet_adjoint),
}


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [] if value is None else [tensor for part in value for tensor in flat(part)]


def outcome(name, draw, native, monkeypatch):
    """The results, or the message of an error of ours; any other error fails the test."""
    monkeypatch.setenv("NSDBENCH_NATIVE", native)
    try:
        return flat(OPERATORS[name](draw))
    except ValueError as error:
        assert re.match(OURS, str(error)), error
        return str(error)


@pytest.mark.filterwarnings("ignore:.*affine_grid behavior has changed for unit-size grids")
@pytest.mark.parametrize("name", OPERATORS)
def test_random_calls_equal_the_twin_or_are_refused(name, monkeypatch):
    refused = 0
    for seed in range(60):
        native, twin = (outcome(name, Draw(seed, True), n, monkeypatch) for n in "10")
        if isinstance(native, str):
            assert native == twin
            refused += 1
            continue
        for ours, theirs in zip(native, twin, strict=True):
            assert (ours.shape, ours.dtype, ours.device) == (
                theirs.shape,
                theirs.dtype,
                theirs.device,
            )
            if ours.dtype == torch.float64 and not ours.is_meta:
                torch.testing.assert_close(ours, theirs, **TOLERANCE, equal_nan=True)
    assert 5 < refused < 50


@pytest.mark.parametrize("name", OPERATORS)
def test_random_calls_that_fit_give_the_shapes_of_meta_tensors(name, monkeypatch):
    for seed in range(15):
        ours = outcome(name, Draw(seed, False), "1", monkeypatch)
        on_meta = outcome(name, Draw(seed, False, "meta"), "1", monkeypatch)
        assert [t.shape for t in ours] == [t.shape for t in on_meta]
        assert all(t.is_meta for t in on_meta)


CONSTANT = {"convnet_step", "convnet_step_adjoint", "convnet_gradient", "convnet_adjoint"}


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - CONSTANT - {"inorm_relu_pool_jvp"}))
def test_random_gradients_equal_the_twin(name, monkeypatch):
    for seed in range(15):
        found = []
        for native in "10":
            monkeypatch.setenv("NSDBENCH_NATIVE", native)
            draw = Watched(seed)
            (value,) = flat(OPERATORS[name](draw))
            asked = [leaf for leaf in draw.leaves if leaf.requires_grad]
            found.append(torch.autograd.grad(value.square().sum(), asked, allow_unused=True))
        for ours, theirs in zip(*found, strict=True):
            if ours is not None and ours.dtype == torch.float64:
                torch.testing.assert_close(ours, theirs, **TOLERANCE)


class Watched(Draw):
    """Operands that fit and want a gradient."""

    def __init__(self, seed):
        super().__init__(seed, False)
        self.dtype = torch.float64

    def strided(self, tensor):
        leaf = super().strided(tensor)
        return leaf if tensor.dim() == 2 else leaf.requires_grad_()


SMALL = st.integers(-2, 9)


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=4, max_size=4), shape=st.tuples(SMALL, SMALL, SMALL)
)
def test_small_and_absurd_shapes_of_a_convnet(sizes, shape):
    x = torch.ones(sizes)
    y = torch.zeros(sizes[0], dtype=torch.int64)
    try:
        shape = ConvNetShape(*shape)
        theta = torch.ones(max(0, shape.num_parameters(x, 2)))
        loss = convnet.convnet_step(theta, x, y, 0.1, shape)[2]
    except ValueError as error:
        assert re.match(OURS, str(error)), error
    else:
        torch.testing.assert_close(loss, torch.tensor(2.0).log())
