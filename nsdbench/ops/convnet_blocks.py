"""The ConvNet out of the framework's convolutions and our operators, without a graph.

For CUDA, where the library convolves; it runs on every device that has the operators. Of the first
block our own do all, and its z is never in memory (first_block.py).
Convolution biases in front of an instance norm cancel; they are not used, and their gradients are
exactly 0. With z = conv(a, W) and f = inorm_relu_pool, the next block's a is f(z, gamma, beta), and
the tangent along a direction (W_t, gamma_t, beta_t) of

    the forward pass    z_t = conv(a, W_t) + conv(a_t, W)
    the backward pass   a_bar_t = dgrad(z_bar_t, W) + dgrad(z_bar, W_t)
                        W_bar_t = wgrad(z_bar_t, a) + wgrad(z_bar, a_t)

where dgrad and wgrad are the gradients of a convolution. Counting one convolution over the batch as
a unit, a step takes 3 units and its adjoint 8. The sums are two convolutions each: one over stacked
channels took the same time on a CPU (128 channels, 16x16 and 8x8), one over a stacked batch for
W_bar_t 15 % more, and both copy their operands.

Images and theta come as they are everywhere, channels before rows; between the blocks channels are
innermost in memory, as the library's fast convolutions and the norm's want them. So a map here is
[N, C, h, w] with the strides of [N, h, w, C]: weights are copied to such strides once a step, the
classifier's too, and maps never are.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nsdbench.ops import first_block, reference
from nsdbench.ops.backend import is_native
from nsdbench.ops.convnet_shape import ConvNetShape, check, check_classes, check_classifier
from nsdbench.ops.inorm_relu_pool import EPS, NHWC, inorm_relu_pool_nhwc
from nsdbench.ops.registration import constant


class _Block(NamedTuple):
    """A block's part of theta, or of a direction in theta."""

    weight: Tensor  # [width, C, 3, 3]; channels innermost, but for the first block
    scale: Tensor  # [width]
    shift: Tensor  # [width]
    padding: int


class _Classifier(NamedTuple):
    """The classifier's part of theta, or of a direction in theta."""

    weight: Tensor  # [K, F], in the order of _flat
    bias: Tensor  # [K]


def convnet_features(theta: Tensor, x: Tensor, shape: ConvNetShape) -> Tensor:
    """Compute the flat features of a ConvNet, twice differentiable by autograd.

    Args:
        theta: [P] parameters of the blocks: conv.weight, conv.bias, norm.weight, norm.bias each.
        x: [N, C, H, W] images of theta's dtype (float32 or float64) and device.
        shape: of the network.

    Returns:
        [N, F], in the order of `Tensor.flatten` on [N, width, h, w].

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
    """
    check(theta, x, shape)
    first, rest, _ = _split(theta, x, shape)
    for block in (first, *rest):
        z = _convolve(x, block)
        x = _nchw(inorm_relu_pool_nhwc(_nhwc(z), block.scale, block.shift))
    return x.flatten(1)


@constant("the cross-entropy of convnet_features")
def convnet_gradient(theta: Tensor, x: Tensor, y: Tensor, shape: ConvNetShape) -> Tensor:
    """Compute the gradient in theta of the mean cross-entropy of a ConvNet with its classifier.

    Args:
        theta: [P] all parameters, the classifier's weight and bias last.
        x: [N, C, H, W] images.
        y: [N] int64 classes or [N, K] probabilities in the dtype of x.
        shape: of the network.

    Returns:
        [P].

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        RuntimeError: under torch.func.grad or jvp.
    """
    check_classifier(theta, x, y, shape)
    check_classes(theta, x, y, shape)
    if not is_native(x.device):
        sizes = (shape.depth, shape.width, shape.padding)
        return reference.convnet_step(theta, x, y, 0.0, None, 0.0, *sizes)[1]
    first, blocks, classifier = _split(theta, x, shape)
    point = (x, *first)
    pooled, moments = first_block.forward(*point, EPS)
    inputs, convolved = _run_blocks(blocks, _nchw(pooled))
    last = inputs.pop()
    features = _flat(last)
    loss = _CrossEntropy(F.linear(features, *classifier), y)
    found = [loss.grad.sum(0), _unflat(loss.grad.T @ features, last)]
    grad = _unflat(loss.grad @ classifier.weight, last)
    while blocks:
        block, a, z = blocks.pop(), inputs.pop(), convolved.pop()
        grad, *norm = _norm_backward(grad, z, block)
        grad, weight = _convolve_backward(grad, a, block, needs=(True, True))
        found += _piece(weight, norm)
    weight, *norm = first_block.gradients(_nhwc(grad), *point, moments)
    return _join(found + _piece(weight, norm))


@constant("the cross-entropy of convnet_features")
def convnet_adjoint(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    direction: Tensor,
    shape: ConvNetShape,
    needs: tuple[bool, bool, bool] = (True, True, False),
) -> tuple[Tensor, list[Tensor | None]]:
    """Differentiate the loss of `convnet_gradient` and its gradients along a direction in theta.

    Args:
        theta, x, y, shape: as for `convnet_gradient`, whose forward pass is repeated bit for bit.
        direction: p [P].
        needs: which of h_theta, h_x, h_y to compute; h_y exists for probabilities only.

    Returns:
        <grad_theta L, p>, and [h_theta, h_x, h_y], the derivatives along p of the gradients of L
        with respect to theta, x and y, None for what was not asked for.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        RuntimeError: under torch.func.grad or jvp.
    """
    check_classifier(theta, x, y, shape, direction=direction)
    check_classes(theta, x, y, shape)
    if not is_native(x.device):
        sizes = (shape.depth, shape.width, shape.padding)
        return reference.convnet_step_adjoint(theta, x, y, direction, *sizes, needs)[1:]
    needs_theta, needs_x, needs_y = needs
    first, blocks, classifier = _split(theta, x, shape)
    first_t, blocks_t, classifier_t = _split(direction, x, shape)
    point, along_first = (x, *first), first_t[:3]
    pooled, moments = first_block.forward(*point, EPS)
    pooled_t, moments_t = first_block.tangent(*point, moments, *along_first)
    inputs, convolved = _run_blocks(blocks, _nchw(pooled))
    inputs_t, convolved_t = _run_blocks_jvp(blocks, blocks_t, inputs, convolved, _nchw(pooled_t))
    last = inputs.pop()
    features, features_t = _flat(last), _flat(inputs_t.pop())
    loss = _CrossEntropy(F.linear(features, *classifier), y)
    logits_t = F.linear(features, *classifier_t) + features_t @ classifier.weight.T
    along = (loss.grad * logits_t).sum()
    h_y = loss.label_grad_jvp(logits_t) if needs_y else None
    if not (needs_theta or needs_x):
        return along, [None, None, h_y]

    grad_t = loss.grad_jvp(logits_t)
    found = [grad_t.sum(0), _unflat(grad_t.T @ features + loss.grad.T @ features_t, last)]
    grad_t = _unflat(grad_t @ classifier.weight + loss.grad @ classifier_t.weight, last)
    grad = _unflat(loss.grad @ classifier.weight, last)
    while blocks:
        block, a, z = blocks.pop(), inputs.pop(), convolved.pop()
        block_t, a_t, z_t = blocks_t.pop(), inputs_t.pop(), convolved_t.pop()
        grad_z_t, *norm_t = _norm_backward_jvp(grad, z, block, grad_t, z_t, block_t)
        grad_z, *_ = _norm_backward(grad, z, block)
        needs_both, needs_input = (True, needs_theta), (True, False)
        grad_t, weight_t = _convolve_backward(grad_z_t, a, block, needs_both)
        more_grad_t, more_weight_t = _convolve_backward(grad_z, a_t, block_t, needs_both)
        grad_t += more_grad_t
        grad, _ = _convolve_backward(grad_z, a, block, needs_input)
        if needs_theta:
            found += _piece(weight_t + more_weight_t, norm_t)
    h_x, weight_t, *norm_t = first_block.gradients_tangent(
        *(_nhwc(grad), *point, moments),
        *(_nhwc(grad_t), *along_first, moments_t),
        *(needs_theta, needs_x),
    )
    found += _piece(weight_t, norm_t)
    return along, [_join(found) if needs_theta else None, h_x if needs_x else None, h_y]


class _CrossEntropy:
    """Mean cross-entropy of logits u [N, K] with p = softmax(u), as a function of u and labels y.

    L = -1/N sum y log p,   dL/du = (p sum_k y - y) / N,   dL/dy = -log p / N

    Attributes:
        grad: dL/du [N, K].
    """

    def __init__(self, logits: Tensor, y: Tensor) -> None:
        targets = y if y.dim() == 2 else F.one_hot(y, logits.shape[1]).to(logits.dtype)
        self._probabilities = logits.softmax(1)
        self._mass = targets.sum(1, keepdim=True) / len(y)
        self.grad = self._probabilities * self._mass - targets / len(y)

    def grad_jvp(self, logits_t: Tensor) -> Tensor:
        """Compute the tangent of dL/du along a tangent of u."""
        return -len(logits_t) * self._mass * self._probabilities * self.label_grad_jvp(logits_t)

    def label_grad_jvp(self, logits_t: Tensor) -> Tensor:
        """Compute the tangent of dL/dy along a tangent of u."""
        mean = (self._probabilities * logits_t).sum(1, keepdim=True)
        return (mean - logits_t) / len(logits_t)


def _split(
    theta: Tensor, x: Tensor, shape: ConvNetShape
) -> tuple[_Block, list[_Block], _Classifier]:
    """Split theta, or a direction in theta: the first block, the others, the classifier."""
    width, channels = shape.width, x.shape[1]
    sizes: list[int] = []
    for _ in range(shape.depth):
        sizes += [9 * channels * width, width, width, width]
        channels = width
    num_features = shape.num_features(x)
    num_classes = (theta.numel() - sum(sizes)) // (num_features + 1)
    pieces = iter(theta.split([*sizes, num_classes * num_features, num_classes]))
    blocks = []
    for layer in range(shape.depth):
        weight, _, scale, shift = (next(pieces) for _ in range(4))
        padding = shape.padding if layer == 0 else 1
        weight = weight.view(width, -1, 3, 3)
        if layer > 0:
            weight = _nchw(_nhwc(weight).contiguous())
        blocks.append(_Block(weight, scale, shift, padding))
    of_maps = next(pieces).view(num_classes, width, *shape.map_sizes(x)[-1])
    return blocks[0], blocks[1:], _Classifier(_flat(of_maps), next(pieces))


def _nhwc(maps: Tensor) -> Tensor:
    """View [N, C, h, w] as [N, h, w, C]."""
    return maps.permute(0, 2, 3, 1)


def _nchw(maps: Tensor) -> Tensor:
    """View [N, h, w, C] as [N, C, h, w]."""
    return maps.permute(0, 3, 1, 2)


def _flat(maps: Tensor) -> Tensor:
    """Flatten [N, C, h, w] to [N, F], channels innermost: a view, where they are so in memory."""
    return _nhwc(maps).flatten(1)


def _unflat(features: Tensor, like: Tensor) -> Tensor:
    """View what has the columns of `_flat(like)` as maps [rows, C, h, w]."""
    _, channels, height, width = like.shape
    return _nchw(features.view(-1, height, width, channels))


def _piece(weight: Tensor, norm: list[Tensor]) -> list[Tensor]:
    """Order a block's gradients as `_join` wants them: backwards."""
    scale, shift = norm
    return [shift, scale, torch.zeros_like(shift), weight]


def _join(found: list[Tensor]) -> Tensor:
    """Concatenate gradients, last parameter first, into one vector like theta."""
    return torch.cat([piece.flatten() for piece in reversed(found)])


def _run_blocks(blocks: list[_Block], a: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs of the blocks, then the last output; and what they convolve to."""
    inputs, convolved = [a], list[Tensor]()
    for block in blocks:
        convolved.append(_convolve(inputs[-1], block))
        inputs.append(_norm(convolved[-1], block))
    return inputs, convolved


def _run_blocks_jvp(
    blocks: list[_Block],
    blocks_t: list[_Block],
    inputs: list[Tensor],
    convolved: list[Tensor],
    a_t: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tangents of what `_run_blocks` returns."""
    inputs_t, convolved_t = [a_t], list[Tensor]()
    for block, block_t, a, z in zip(blocks, blocks_t, inputs, convolved, strict=False):
        z_t = _convolve(a, block_t)
        z_t += _convolve(inputs_t[-1], block)
        convolved_t.append(z_t)
        inputs_t.append(_norm_jvp(z, block, z_t, block_t))
    return inputs_t, convolved_t


def _norm(z: Tensor, block: _Block) -> Tensor:
    return _nchw(NHWC.forward(_nhwc(z), block.scale, block.shift, EPS))


def _norm_jvp(z: Tensor, block: _Block, z_t: Tensor, block_t: _Block) -> Tensor:
    point, tangent = (_nhwc(z), block.scale, block.shift), (_nhwc(z_t), *block_t[1:3])
    return _nchw(NHWC.tangent(*point, EPS, *tangent))


def _norm_backward(grad: Tensor, z: Tensor, block: _Block) -> list[Tensor]:
    """Compute the gradients of `_norm` in z, scale and shift."""
    point = (_nhwc(z), block.scale, block.shift)
    grad_z, *rest = NHWC.gradients(_nhwc(grad), *point, EPS)
    return [_nchw(grad_z), *rest]


def _norm_backward_jvp(
    grad: Tensor, z: Tensor, block: _Block, grad_t: Tensor, z_t: Tensor, block_t: _Block
) -> list[Tensor]:
    """Compute the tangents of `_norm_backward`."""
    point, tangent = (_nhwc(z), block.scale, block.shift), (_nhwc(z_t), *block_t[1:3])
    grad_z_t, *rest = NHWC.gradients_tangent(_nhwc(grad), *point, EPS, _nhwc(grad_t), *tangent)
    return [_nchw(grad_z_t), *rest]


def _convolve(a: Tensor, block: _Block) -> Tensor:
    return F.conv2d(a, block.weight, padding=block.padding)


def _convolve_backward(
    grad: Tensor, a: Tensor, block: _Block, needs: tuple[bool, bool]
) -> tuple[Any, Any]:
    """Compute the gradients of `_convolve` in a and the weight: tensors, None where not needed."""
    grad_a, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        a,
        block.weight,
        None,
        [1, 1],
        [block.padding] * 2,
        [1, 1],
        False,
        [0, 0],
        1,
        [*needs, False],
    )
    return grad_a, grad_weight
