"""Separable sets: what they decode to, how they start, what they count."""

import pytest
import torch

from nsdbench import data
from nsdbench.data.training import TrainingData
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.parameterizations.separable import Separable, SeparableShape


@pytest.fixture
def real():
    dataset = data.load("synthetic:4x3x8x8").without_test()
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


def spectral(class_scheme="spectra", channels=3):
    shape = SeparableShape(
        "spectral",
        2,
        4 if class_scheme == "spectra" else 1,
        3,
        (2, channels, 3, 4),
        (6, channels, 8, 8),
        (True, channels > 1, True, True),
        class_scheme,
    )
    torch.manual_seed(0)
    module = Separable(shape)
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("class_scheme", ["spectra", "columns"])
@pytest.mark.parametrize("channels", [1, 3])
def test_equation_1_and_2_by_explicit_sums(class_scheme, channels):
    """x[(i N_K + j) u1 + r] = sum over abcd of T_i[a,b,c,d] K1[a,r] K2[b,.] K3[c,.] K4[d,.]"""
    module = spectral(class_scheme, channels).double()
    images, labels = module.decode()
    shape = module.shape
    identity = torch.eye(channels, dtype=torch.float64)
    expected = []
    for i in range(shape.num_spectra):
        for j in range(shape.num_kernel_sets):
            k1, k3, k4 = (module.kernels[n][j] for n in ("1", "3", "4"))
            k2 = module.kernels["2"][j] if channels > 1 else identity
            for r in range(shape.u[0]):
                image = torch.zeros(channels, 8, 8, dtype=torch.float64)
                for a in range(shape.t[0]):
                    for b in range(channels):
                        plane = k3.T @ module.spectra[i, a, b] @ k4
                        image += k1[a, r] * k2[b][:, None, None] * plane
                expected.append(image)
    torch.testing.assert_close(images, torch.stack(expected), rtol=1e-10, atol=1e-10)
    assert len(labels) == len(images) == module.num_images


def test_labels_follow_the_owner_of_the_class():
    spectra = spectral("spectra").labels.view(4, 3, 6)
    assert (spectra == torch.tensor([0, 0, 1, 1])[:, None, None]).all()
    columns = spectral("columns").labels.view(1, 3, 6)
    assert (columns == torch.tensor([0, 0, 0, 1, 1, 1])).all()


def test_decoding_rows_equals_rows_of_all():
    module = spectral()
    images, labels = module.decode()
    index = torch.tensor([71, 0, 5, 5, 40])
    some, some_labels = module.decode(index)
    torch.testing.assert_close(some, images[index], rtol=1e-5, atol=1e-5)
    assert torch.equal(some_labels, labels[index])


def test_pixels_are_real_images_of_their_class(real):
    module = parameterizations.build({"name": "pixels"}, data.spec("synthetic:4x3x8x8"), 3)
    module.initialize(real, generator(0, "test"))
    images, labels = module.decode()
    everything, classes = real.batch(torch.arange(len(real)))
    matches = (everything[None] == images[:, None]).flatten(2).all(2)
    assert matches.any(1).all(), "an initial image is not a real one"
    assert torch.equal(classes[matches.int().argmax(1)], labels)
    assert len(torch.unique(matches.int().argmax(1))) == 12, "an image was drawn twice"


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_spectral_start_has_the_scale_of_the_data(real, scale):
    """T ~ N(0, s^2), K^(n) ~ N(0, 1/t_n): the variance of a decoded pixel is s^2, over draws."""
    shape = SeparableShape(
        "spectral",
        4,
        4,
        2,
        (3, 3, 4, 4),
        (8, 3, 8, 8),
        (True,) * 4,
        "spectra",
        init_scale=scale,
    )
    module = Separable(shape)
    squares = []
    for draw in range(200):
        module.initialize(real, generator(draw, "test"))
        squares.append(module.decode()[0].detach().square().mean())
    expected = (scale * real.pixel_std()) ** 2
    ratio = torch.stack(squares).mean() / expected
    spread = torch.stack(squares).std() / expected / 200**0.5
    assert abs(ratio - 1) < 4 * spread, f"{ratio} +- {spread}"


def test_initialisation_is_a_function_of_the_seed(real):
    modules = [spectral() for _ in range(3)]
    for module, seed in zip(modules, (1, 1, 2), strict=True):
        module.initialize(real, generator(seed, "test"))
    assert torch.equal(modules[0].spectra, modules[1].spectra)
    assert not torch.equal(modules[0].spectra, modules[2].spectra)


def test_rank_of_a_class_is_bounded():
    """A class with one spectrum decodes to images of rank at most t1 N_K."""
    module = spectral().double()
    images = module.decode()[0].detach()[: 3 * 6].flatten(1)
    assert torch.linalg.matrix_rank(images) == 2 * 3


def test_gauge_freedom_leaves_the_images():
    module = spectral().double()
    images = module.decode()[0].detach()
    change = torch.randn(3, 3, dtype=torch.float64, generator=generator(0, "gauge"))
    module.spectra.data = torch.einsum("nabcd,ce->nabed", module.spectra.data, change)
    module.kernels["3"].data = torch.linalg.inv(change) @ module.kernels["3"].data
    torch.testing.assert_close(module.decode()[0].detach(), images, rtol=1e-9, atol=1e-9)


def test_ledger_counts_what_the_state_dict_stores():
    module = spectral()
    ledger = module.ledger()
    stored = sum(tensor.numel() for tensor in module.state_dict().values())
    assert ledger.stored_bits == 32 * stored == 32 * module.shape.num_elements
    assert {entry.kind for entry in ledger.entries} == {"coefficient", "kernel"}


def test_rebuilds_from_settings():
    module = spectral("columns")
    copy = parameterizations.rebuild(module.settings, module.shape.num_elements)
    copy.load_state_dict(module.state_dict())
    assert torch.equal(copy.decode()[0], module.decode()[0])
    with pytest.raises(ValueError, match="'fourier'"):
        parameterizations.rebuild({"name": "fourier"}, 1)


def test_gradient_reaches_every_stored_tensor():
    module = spectral()
    images, _ = module.decode(torch.arange(module.num_images))
    images.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_scheme": "rows"}, "'rows'"),
        ({"num_spectra": 1}, "1 spectra cannot own 2 classes"),
        ({"t": (2, 3, 0, 4)}, "mode 3 has lengths t=0"),
        ({"learned": (True, True, False, True)}, "mode 3 has no kernel"),
        ({"init_scale": 0.0}, "init_scale is 0.0; expected a positive number"),
        ({"init_scale": float("nan")}, "init_scale is nan"),
    ],
)
def test_bad_shapes_name_the_mode(changes, message):
    good = {
        "name": "spectral",
        "num_classes": 2,
        "num_spectra": 2,
        "num_kernel_sets": 1,
        "t": (2, 3, 3, 4),
        "u": (6, 3, 8, 8),
        "learned": (True, True, True, True),
        "class_scheme": "spectra",
    }
    with pytest.raises(ValueError, match=message):
        SeparableShape(**{**good, **changes})


def test_unknown_names_and_settings():
    spec = data.spec("Digits16")
    with pytest.raises(ValueError, match="'wavelet'.*pixels"):
        parameterizations.build({"name": "wavelet"}, spec, 1)
    with pytest.raises(ValueError, match="t9"):
        parameterizations.build({"name": "spectral", "t9": 1}, spec, 1)
