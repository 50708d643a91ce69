"""DSA against slow per-image loops written from the formulas of the paper's reference code."""

import math
from collections import Counter

import pytest
import torch

from nsdbench.student import augment

STRATEGY = "color_crop_cutout_flip_scale_rotate"
SHAPES = [(1, 7, 7), (3, 28, 28), (1, 28, 28), (3, 8, 5)]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(batch_size, shape, seed=1):
    return torch.randn(batch_size, *shape, dtype=torch.float64, generator=stream(seed))


def color_loop(x, values, i):
    b, s, c = (float(values[name][i]) for name in ("brightness", "saturation", "contrast"))
    channels, height, width = x.shape
    x = x + (b - 0.5) * 1.0
    out = torch.empty_like(x)
    for h in range(height):
        for w in range(width):
            grey = sum(x[k, h, w] for k in range(channels)) / channels
            for k in range(channels):
                out[k, h, w] = grey + 2.0 * s * (x[k, h, w] - grey)
    mean = out.sum() / out.numel()
    return mean + (c + 0.5) * (out - mean)


def crop_loop(x, values, i):
    dh, dw = values["shift"][i].tolist()
    out = torch.zeros_like(x)
    for h in range(x.shape[1]):
        for w in range(x.shape[2]):
            if 0 <= h + dh < x.shape[1] and 0 <= w + dw < x.shape[2]:
                out[:, h, w] = x[:, h + dh, w + dw]
    return out


def cutout_loop(x, values, i):
    """Rows centre - c // 2 ... of c rows, clamped to the image, as index lists."""
    out = x.clone()
    _, height, width = x.shape
    row, column = values["centre"][i].tolist()
    tall, wide = math.floor(0.5 * height + 0.5), math.floor(0.5 * width + 0.5)
    for h in range(row - tall // 2, row - tall // 2 + tall):
        for w in range(column - wide // 2, column - wide // 2 + wide):
            out[:, min(max(h, 0), height - 1), min(max(w, 0), width - 1)] = 0
    return out


def flip_loop(x, values, i):
    if not values["flipped"][i]:
        return x
    return torch.stack([x[:, :, x.shape[2] - 1 - w] for w in range(x.shape[2])], dim=2)


def affine_loop(x, matrix, align_corners):
    """Read the picture bilinearly at M (column, row) in coordinates where it spans [-1, 1]."""
    channels, height, width = x.shape

    def to_unit(position, size):
        if align_corners:
            return 2 * position / (size - 1) - 1
        return (2 * position + 1) / size - 1

    def to_pixel(unit, size):
        return (unit + 1) / 2 * (size - 1) if align_corners else ((unit + 1) * size - 1) / 2

    out = torch.zeros_like(x)
    for h in range(height):
        for w in range(width):
            column, row = to_unit(w, width), to_unit(h, height)
            at_w = to_pixel(matrix[0][0] * column + matrix[0][1] * row, width)
            at_h = to_pixel(matrix[1][0] * column + matrix[1][1] * row, height)
            for r in (math.floor(at_h), math.floor(at_h) + 1):
                for c in (math.floor(at_w), math.floor(at_w) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        weight = (1 - abs(at_h - r)) * (1 - abs(at_w - c))
                        out[:, h, w] += weight * x[:, r, c]
    return out


def scale_loop(x, values, i, align_corners):
    sx, sy = values["factor"][i].tolist()
    return affine_loop(x, [[sx, 0], [0, sy]], align_corners)


def rotate_loop(x, values, i, align_corners):
    angle = float(values["angle"][i])
    matrix = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return affine_loop(x, matrix, align_corners)


LOOPS = {
    "color": color_loop,
    "crop": crop_loop,
    "cutout": cutout_loop,
    "flip": flip_loop,
    "scale": scale_loop,
    "rotate": rotate_loop,
}


def loop(x, params, align_corners=True):
    """Apply an operation image by image; siamese draws have one row for all images."""
    extra = (align_corners,) if params.op in ("scale", "rotate") else ()
    rows = [0 if params.siamese else i for i in range(len(x))]
    return torch.stack(
        [LOOPS[params.op](x[i], params.values, row, *extra) for i, row in enumerate(rows)]
    )


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", augment.OPERATIONS)
def test_operation_equals_the_loop(op, shape, siamese):
    x = pictures(6, shape)
    params = augment.sample(op, 6, shape, stream(), siamese=siamese)
    torch.testing.assert_close(augment.apply(x, params), loop(x, params), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["scale", "rotate"])
def test_corners_not_aligned(op, shape):
    x = pictures(3, shape)
    params = augment.sample(op, 3, shape, stream(), align_corners=False)
    ours = augment.apply(x, params)
    torch.testing.assert_close(ours, loop(x, params, False), rtol=1e-10, atol=1e-10)
    aligned = augment.apply(x, augment.sample(op, 3, shape, stream()))
    # Both are linear about the centre: it tells only when pictures that are not square are rotated.
    if op == "rotate" and shape[1] != shape[2]:
        assert (ours - aligned).abs().max() > 1e-3
    else:
        torch.testing.assert_close(ours, aligned, rtol=1e-10, atol=1e-10)


def draws(op, shape=(3, 32, 32), count=4000):
    return augment.sample(op, count, shape, stream()).values


def assert_uniform(values, low, high):
    """Range and mean; the mean of n uniform values has standard error (high-low)/sqrt(12 n)."""
    values = values.double()
    error = (high - low) / (12 * len(values)) ** 0.5
    assert low <= values.min() and values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 5 * error
    assert values.max() - values.min() > (high - low) * (1 - 40 / len(values))


def assert_all_equally_often(values, expected):
    counts = Counter(values.tolist())
    assert set(counts) == set(expected)
    mean = len(values) / len(expected)
    assert all(abs(count - mean) < 5 * mean**0.5 for count in counts.values())


def test_ranges_of_the_draws():
    color = draws("color")
    for name in ("brightness", "saturation", "contrast"):
        assert_uniform(color[name], 0, 1)
    for axis in (0, 1):
        assert_uniform(draws("scale")["factor"][:, axis], 1 / 1.2, 1.2)
    assert_uniform(draws("rotate")["angle"], -math.pi / 12, math.pi / 12)
    assert_all_equally_often(draws("flip")["flipped"], [False, True])


@pytest.mark.parametrize(("size", "reach"), [(7, 1), (8, 1), (28, 4), (32, 4), (64, 8), (128, 16)])
def test_crop_reaches_an_eighth(size, reach):
    for axis in (0, 1):
        shift = draws("crop", (1, size, size))["shift"][:, axis]
        assert_all_equally_often(shift, range(-reach, reach + 1))


@pytest.mark.parametrize(("size", "highest"), [(6, 5), (7, 7), (28, 28), (32, 32)])
def test_cutout_centres(size, highest):
    """An even square (sides 4, 14, 16) may be centred on the border, an odd one (3) on a pixel."""
    for axis in (0, 1):
        centre = draws("cutout", (1, size, size))["centre"][:, axis]
        assert_all_equally_often(centre, range(highest + 1))


def test_images_have_parameters_of_their_own():
    values = {op: draws(op, count=64) for op in augment.OPERATIONS}
    for op, named in values.items():
        for name, value in named.items():
            assert len(value) == 64 and len(value.unique(dim=0)) > 1, (op, name)
    factor = values["scale"]["factor"]
    assert (factor[:, 0] != factor[:, 1]).all()
    shift = values["crop"]["shift"]
    assert (shift[:, 0] != shift[:, 1]).any()


def test_mode_s_draws_every_operation_equally_often():
    generator = stream()
    count = 3000
    ops = Counter(augment.sample(STRATEGY, 1, (1, 4, 4), generator).op for _ in range(count))
    assert set(ops) == set(augment.OPERATIONS)
    mean = count / 6
    assert all(abs(n - mean) < 5 * (mean * 5 / 6) ** 0.5 for n in ops.values())


def test_strategy_limits_the_operations():
    generator = stream()
    ops = {augment.sample("flip_color", 1, (1, 4, 4), generator).op for _ in range(50)}
    assert ops == {"flip", "color"}


@pytest.mark.parametrize("op", augment.OPERATIONS)
def test_siamese_shares_one_draw(op):
    """Equal images stay equal, and the real and the synthetic batch may differ in size."""
    params = augment.sample(op, 4, (3, 8, 8), stream(3), siamese=True)
    assert all(len(value) == 1 for value in params.values.values())
    x = pictures(1, (3, 8, 8))
    for batch_size in (1, 4, 9):
        out = augment.apply(x.expand(batch_size, -1, -1, -1), params)
        assert torch.equal(out, out[:1].expand_as(out))
        assert torch.equal(out[:1], augment.apply(x, params))


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("op", augment.OPERATIONS)
def test_gradient(op, siamese):
    params = augment.sample(op, 2, (3, 6, 5), stream(2), siamese=siamese)
    x = pictures(2, (3, 6, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment.apply(x, params), (x,))


@pytest.mark.parametrize("op", augment.OPERATIONS)
def test_apply_is_pure_and_repeatable(op):
    x = pictures(5, (3, 9, 9))
    before = x.clone()
    params = augment.sample(op, 5, (3, 9, 9), stream())
    first = augment.apply(x, params)
    assert torch.equal(x, before)
    assert torch.equal(first, augment.apply(x, params))
    assert not torch.equal(first, x)


def test_a_seed_decides_the_draw():
    def many(seed):
        generator = stream(seed)
        return [augment.sample(STRATEGY, 3, (3, 8, 8), generator) for _ in range(20)]

    x = pictures(3, (3, 8, 8))
    first, again, other = ([augment.apply(x, p) for p in many(seed)] for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_global_generator_is_left_alone():
    state = torch.get_rng_state()
    generator = stream()
    for _ in range(20):
        augment.apply(pictures(2, (1, 8, 8)), augment.sample(STRATEGY, 2, (1, 8, 8), generator))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("op", [*augment.OPERATIONS, ""])
def test_state_survives_a_checkpoint(op, align_corners, siamese, tmp_path):
    params = augment.sample(
        op, 4, (3, 7, 8), stream(), align_corners=align_corners, siamese=siamese
    )
    torch.save(params.state(), tmp_path / "draw.pt")
    restored = augment.DsaParams.from_state(torch.load(tmp_path / "draw.pt", weights_only=True))
    x = pictures(4, (3, 7, 8))
    assert torch.equal(augment.apply(x, restored), augment.apply(x, params))
    assert (restored.op, restored.batch_size, restored.image_shape) == (
        params.op,
        params.batch_size,
        params.image_shape,
    )
    assert (restored.siamese, restored.align_corners) == (siamese, align_corners)
    assert {type(value) for value in params.state().values()} <= {int, torch.Tensor}


@pytest.mark.parametrize("strategy", [None, "", "none", "None"])
def test_no_strategy_is_the_identity_and_draws_nothing(strategy):
    generator = stream()
    before = generator.get_state()
    params = augment.sample(strategy, 3, (1, 4, 4), generator)
    assert torch.equal(generator.get_state(), before)
    x = pictures(3, (1, 4, 4))
    assert torch.equal(augment.apply(x, params), x)


def test_dtype_is_kept():
    for op in augment.OPERATIONS:
        params = augment.sample(op, 2, (3, 8, 8), stream())
        for dtype in (torch.float32, torch.float64):
            assert augment.apply(pictures(2, (3, 8, 8)).to(dtype), params).dtype == dtype


def test_non_contiguous_images():
    x = pictures(4, (3, 8, 6)).transpose(2, 3)
    for op in augment.OPERATIONS:
        params = augment.sample(op, 4, (3, 6, 8), stream())
        torch.testing.assert_close(
            augment.apply(x, params), augment.apply(x.contiguous(), params), rtol=1e-10, atol=1e-10
        )


def test_unknown_word():
    with pytest.raises(ValueError, match="'colour' in strategy 'colour_crop'.*color, crop, cutout"):
        augment.sample("colour_crop", 2, (3, 8, 8), stream())


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 1, 8, 8), (2, 3, 8, 9), (3, 8, 8)])
def test_images_of_another_size(shape):
    params = augment.sample("flip", 2, (3, 8, 8), stream())
    with pytest.raises(ValueError, match=r"was drawn for \[2, 3, 8, 8\]"):
        augment.apply(torch.zeros(shape), params)
    siamese = augment.sample("flip", 2, (3, 8, 8), stream(), siamese=True)
    if shape != (3, 3, 8, 8):
        with pytest.raises(ValueError, match=r"was drawn for \[B, 3, 8, 8\]"):
            augment.apply(torch.zeros(shape), siamese)


def test_integer_images_are_refused():
    params = augment.sample("flip", 2, (3, 8, 8), stream())
    with pytest.raises(ValueError, match="floating point, got torch.uint8"):
        augment.apply(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), params)


def test_placed_draws_are_applied_as_they_are():
    generator = stream()
    draws = [
        augment.sample(op, 4, (3, 9, 8), generator, siamese=siamese)
        for op in (*augment.OPERATIONS, None)
        for siamese in (False, True)
    ]
    x = pictures(4, (3, 9, 8))
    placed = augment.place(draws, x.device)
    assert len(placed) == len(draws)
    for apply, draw in zip(placed, draws, strict=True):
        assert torch.equal(apply(x), augment.apply(x, draw))
    with pytest.raises(ValueError, match="the augmentation was drawn for"):
        placed[0](x[:2])


@pytest.mark.parametrize(("batch_size", "shape"), [(0, (3, 8, 8)), (2, (0, 8, 8)), (2, (3, 8, 0))])
def test_empty_sizes(batch_size, shape):
    with pytest.raises(ValueError, match="must be positive"):
        augment.sample(STRATEGY, batch_size, shape, stream())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("op", augment.OPERATIONS)
def test_cuda_equals_cpu(op):
    """A draw made on the CPU gives the same pictures on the device, moved there or not."""
    x = pictures(4, (3, 9, 8))
    params = augment.sample(op, 4, (3, 9, 8), stream())
    for moved in (params, params.to("cuda")):
        ours = augment.apply(x.cuda(), moved)
        assert ours.is_cuda
        torch.testing.assert_close(ours.cpu(), augment.apply(x, params), rtol=1e-10, atol=1e-10)
