"""Tiles, DCT, LDCT, SVD, LSVD and bases: what each decodes to, starts at, learns and stores."""

import pytest
import scipy.fft
import torch
import torch.nn.functional as F

from nsdbench import data
from nsdbench.data.training import TrainingData
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.parameterizations import separable
from nsdbench.sets.parameterizations.separable import SeparableShape

NAME = "synthetic:4x3x8x8@100+10"
KINDS = {
    "pixels": {},
    "tiles": {"factor": 2},
    "dct": {},
    "ldct": {},
    "svd": {"share": 0.5},
    "lsvd": {"share": 0.5},
    "bases": {"t1": 5, "factor": 2},
    "spectral": {"num_kernel_sets": 1},
}


@pytest.fixture
def real():
    dataset = data.load(NAME).without_test()
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


def started(name, real, ipc=2, **settings):
    """Return an initialised set."""
    settings = {"name": name, **KINDS[name], **settings}
    module = parameterizations.build(settings, data.spec(NAME), ipc)
    module.initialize(real, generator(0, "test"))
    return module


def all_images(real):
    return real.batch(torch.arange(len(real)))


def drawn_images(module, real):
    """Return the real images that a start with the generator of `started` draws."""
    stream = generator(0, "test")
    counts = torch.bincount(module.labels).tolist()
    rows = [real.class_rows(label, count, stream) for label, count in enumerate(counts)]
    return real.batch(torch.cat(rows))[0]


def test_pixels_are_tiles_of_factor_1(real):
    pixels, tiles = started("pixels", real), started("tiles", real, factor=1, init="real")
    assert torch.equal(pixels.labels, tiles.labels)
    torch.testing.assert_close(pixels.decode()[0], tiles.decode()[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("factor", "side", "per_class"), [(2, 4, 8), (3, 3, 14)])
def test_tiles_are_shrunk_real_images_enlarged_by_torch(real, factor, side, per_class):
    """An image of 64 pixels holds factor^2 tiles where factor divides 8; whole ones where not."""
    module = started("tiles", real, factor=factor)
    images, labels = module.decode()
    assert labels.bincount().tolist() == [per_class] * 4
    first = torch.cat([real.batch(real.rows_of_class(c)[:per_class])[0] for c in range(4)])
    small = F.interpolate(first, size=(side, side), mode="nearest")
    expected = F.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    assert module.state_dict().keys() == {"spectra"}


def test_tiles_as_a_grid_of_the_stored_image(real):
    """The tiles of a stored image, laid out 2 x 2, are as many numbers as IDC's image."""
    module = started("tiles", real)
    assert module.spectra.numel() == 2 * 4 * 3 * 8 * 8
    grid = module.spectra[0].view(8, 2, 2, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(8, 3, 8, 8)
    cut = torch.cat(  # as IDC's code cuts: position by position over all images
        [grid[:, :, y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)]
    )
    enlarged = F.interpolate(cut, size=(8, 8), mode="bilinear", align_corners=False)
    by_image = enlarged.view(4, 8, 3, 8, 8).transpose(0, 1).reshape(32, 3, 8, 8)
    torch.testing.assert_close(module.decode()[0], by_image, rtol=0, atol=1e-5)
    assert torch.equal(module.labels.view(8, 4)[:, 0], torch.arange(8) // 2)


@pytest.mark.parametrize("name", ["dct", "ldct"])
@pytest.mark.parametrize("dct_type", [2, 4])
def test_dct_starts_at_the_low_band_of_real_images(real, name, dct_type):
    module = started(name, real, dct_type=dct_type)
    images = drawn_images(module, real).double().numpy()
    transform = {"type": dct_type, "norm": "ortho", "axes": (2, 3)}
    coefficients = scipy.fft.dctn(images, **transform)
    torch.testing.assert_close(
        module.spectra[0].detach().double(),
        torch.from_numpy(coefficients[:, :, :4, :4]), rtol=0, atol=1e-5,
    )  # fmt: skip
    coefficients[:, :, 4:] = coefficients[:, :, :, 4:] = 0
    expected = torch.from_numpy(scipy.fft.idctn(coefficients, **transform))
    torch.testing.assert_close(module.decode()[0].detach().double(), expected, rtol=0, atol=1e-5)


def test_all_coefficients_are_the_images(real):
    module = started("dct", real, t3=8)
    torch.testing.assert_close(module.decode()[0], drawn_images(module, real), rtol=0, atol=1e-5)


def test_svd_starts_at_the_best_approximation(real):
    """|X - X_n|^2 = sum of the squares of the singular values that were left out."""
    module = started("svd", real)
    images = drawn_images(module, real).double().flatten(1)
    decoded = module.decode()[0].detach().double().flatten(1)
    values = torch.linalg.svdvals(images)
    expected = (values[4:].square().sum() / values.square().sum()).sqrt()
    assert 0.1 < expected < 0.99
    assert abs((decoded - images).norm() / images.norm() - expected) < 1e-6
    rows = module.spectra[0].detach().double().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(4).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(module.decode()[0], started("lsvd", real).decode()[0])


def test_bases_mix_all_bases(real):
    module = started("bases", real)
    address, small = module.kernels["1"][0], module.spectra[0]
    mixed = torch.einsum("kr,kchw->rchw", address, small)
    expected = F.interpolate(mixed, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(module.decode()[0], expected, rtol=0, atol=1e-5)


def test_bases_start_uniformly_within_xaviers_bounds(real):
    """sqrt(6 / (rows + columns)) of the tables [5, 3 x 4 x 4] and [images, 5]; nearly zero."""
    module = started("bases", real, ipc=50, images_per_class=100)
    for tensor, table in ((module.spectra, (5, 48)), (module.kernels["1"], (400, 5))):
        assert tensor.numel() == table[0] * table[1]
        bound = (6 / sum(table)) ** 0.5
        assert 0.95 * bound < tensor.abs().max() <= bound
        spread = tensor.double().std().item() / bound
        assert spread == pytest.approx(3**-0.5, rel=0.1), "of the uniform distribution"
    assert module.decode()[0].abs().mean() < 0.1 * real.pixel_std()
    again = started("bases", real, ipc=50, images_per_class=100)
    assert torch.equal(module.spectra, again.spectra), "the generator decides"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": ("identity", "xavier", "identity", "identity")}, 'mode 2 has kernel "xavier"'),
        ({"learned": (False,) * 4}, 'mode 1 has kernel "xavier".*is learned'),
        ({"num_kernel_sets": 2}, "wants one spectrum and one kernel set"),
    ],
)
def test_xavier_stands_in_mode_1(changes, message):
    settings = {
        "name": "bases", "num_classes": 2, "num_spectra": 1, "num_kernel_sets": 1,
        "t": (3, 1, 8, 8), "u": (4, 1, 8, 8), "learned": (True, False, False, False),
        "class_scheme": "columns", "kernels": ("xavier", "identity", "identity", "identity"),
    }  # fmt: skip
    SeparableShape(**settings)
    if "kernels" in changes:
        changes = {**changes, "u": (3, 1, 8, 8), "learned": (False, True, False, False)}
    with pytest.raises(ValueError, match=message):
        SeparableShape(**{**settings, **changes})


@pytest.mark.parametrize("name", KINDS)
def test_stored_learned_and_counted(real, tmp_path, name):
    """Learned tensors get a gradient, the others do not; the file has what is counted, no more."""
    expected = {
        "pixels": ({"spectra"}, set()),
        "tiles": ({"spectra"}, set()),
        "dct": ({"spectra"}, set()),
        "ldct": ({"spectra", "kernels.3", "kernels.4"}, set()),
        "svd": ({"spectra"}, {"kernels.1"}),
        "lsvd": ({"spectra", "kernels.1"}, set()),
        "bases": ({"spectra", "kernels.1"}, set()),
        "spectral": ({"spectra", *(f"kernels.{n}" for n in (1, 2, 3, 4))}, set()),
    }
    module = started(name, real)
    learned, frozen = expected[name]
    assert module.state_dict().keys() == learned | frozen
    images, labels = module.decode(torch.arange(module.num_images))
    torch.manual_seed(0)
    (images * torch.randn_like(images)).sum().backward()
    moved = {key for key, tensor in module.named_parameters() if tensor.grad is not None}
    assert moved == learned
    assert all(dict(module.named_parameters())[key].grad.abs().max() > 0 for key in learned)
    groups = module.parameter_groups({"lr_syn": 2.0, "lr_kernels": 3.0})
    grouped = {id(tensor): group["lr"] for group in groups for tensor in group["params"]}
    assert grouped == {
        id(tensor): 2.0 if key == "spectra" else 3.0
        for key, tensor in module.named_parameters()
        if key in learned
    }
    stored = sum(tensor.numel() for tensor in module.state_dict().values())
    assert module.ledger().stored_bits == 32 * stored == 32 * module.shape.num_elements
    assert stored <= 2 * 4 * 3 * 64
    path = Artefact(module.requires_grad_(False), {}).save(tmp_path / "set.safetensors")
    read = load_artefact(path).parameterization
    assert torch.equal(read.decode()[0], images) and torch.equal(read.labels, labels)


def test_formulas_are_listed_but_not_counted(real):
    assert started("dct", real).ledger().listed[1:] == ("dct2 matrices, given by a formula",)
    assert started("ldct", real).ledger().listed[1:] == ()
    assert started("tiles", real).ledger().listed[1:] == ("bilinear matrices, given by a formula",)


def test_sets_stored_before_kinds_had_names_still_load():
    """An artefact of pixels or NSD from an older version says `learned` and nothing else."""
    old = {
        "name": "spectral", "num_classes": 2, "num_spectra": 2, "num_kernel_sets": 1,
        "t": [2, 1, 3, 3], "u": [3, 1, 8, 8], "learned": [True, False, True, True],
        "class_scheme": "spectra",
    }  # fmt: skip
    module = parameterizations.rebuild(old, 2 * 18 + 2 * 3 + 2 * 3 * 8)
    assert module.shape.kernels == ("noise", "identity", "noise", "noise")
    assert module.state_dict().keys() == {"spectra", "kernels.1", "kernels.3", "kernels.4"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": ("identity", "identity", "dct3", "dct2")}, "mode 3 has kernel 'dct3'"),
        ({"kernels": ("dct2", "identity", "dct2", "dct2")}, "mode 1 .* stands in modes 2 to 4"),
        ({"u": (6, 3, 3, 8)}, "mode 3 has kernel 'dct2' with t=4, u=3"),
        ({"learned": (True, False, False, False)}, "mode 1 has no kernel.*nothing is learned"),
        ({"kernels": ("data", "identity", "dct2", "dct2")}, '"data" stands in mode 1 alone'),
        ({"init": "mix"}, "init is 'mix'"),
        ({"kernels": ("identity", "identity", "tiled", "dct2")}, 'mode 3 has kernel "tiled"'),
        (
            {
                "class_scheme": "spectra",
                "num_spectra": 4,
                "t": (7, 3, 4, 4),
                "learned": (True, False, False, False),
                "kernels": ("tiled", "identity", "dct2", "dct2"),
            },
            'mode 1 has kernel "tiled" with t=7, u=6; copies need t <= u',
        ),
        ({"t": (6, 3, 4.5, 4)}, "mode 3 has lengths t=4.5, u=8; .* whole numbers of at least 1"),
        ({"t": (0, 3, 4, 4)}, "mode 1 has lengths t=0, u=6; .* whole numbers of at least 1"),
    ],
)
def test_bad_kinds_are_named(changes, message):
    good = {
        "name": "dct",
        "num_classes": 2,
        "num_spectra": 1,
        "num_kernel_sets": 1,
        "t": (6, 3, 4, 4),
        "u": (6, 3, 8, 8),
        "learned": (False,) * 4,
        "class_scheme": "columns",
        "kernels": ("identity", "identity", "dct2", "dct2"),
    }
    SeparableShape(**good)
    with pytest.raises(ValueError, match=message):
        SeparableShape(**{**good, **changes})


def test_more_singular_vectors_than_there_are_is_refused():
    kinds = ("data", "identity", "identity", "identity")
    with pytest.raises(ValueError, match="8 images of 4 elements have at most 4 .* t1 is 5"):
        SeparableShape(
            "svd", 2, 1, 1, (5, 1, 2, 2), (8, 1, 2, 2), (False,) * 4, "columns", kernels=kinds
        )


@pytest.mark.parametrize("name", ["svd", "lsvd"])
def test_more_images_than_a_class_has_is_refused_by_the_setting_to_lower(name):
    few = "synthetic:4x3x8x8@8+4"
    dataset = data.load(few).without_test()
    scarce = TrainingData(dataset, data.preprocessing("standardise", dataset))
    fewest = dataset.train.labels.bincount().min().item()
    with pytest.raises(ValueError, match="images of class 0, .* images_per_class to at most 8"):
        started(name, scarce)
    module = started(name, scarce, images_per_class=fewest)
    assert module.labels.bincount().max() <= fewest


@pytest.mark.parametrize("num_kernel_sets", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_nsd_may_start_at_copies_of_real_images(channels, num_kernel_sets, monkeypatch):
    """Image r of set j and spectrum i is low-pass X[i, (j u1 + r) mod t1], but for some noise."""
    name = f"synthetic:4x{channels}x8x8@100+10"
    dataset = data.load(name).without_test()
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))

    def start(init):
        settings = {"name": "spectral", "init": init, "t1": 2, "u1": 5}
        settings["num_kernel_sets"] = num_kernel_sets
        module = parameterizations.build(settings, data.spec(name), 2)
        module.initialize(real, generator(0, "test"))
        return module

    noisy = start("real").decode()[0].detach()
    monkeypatch.setattr(separable, "_TILED_NOISE", 0.0)
    module = start("real")
    images, labels = module.decode()
    stream = generator(0, "test")
    for mode in module.kernels:  # whose noise is drawn before the images
        if mode in "12":
            torch.randn(module.kernels[mode].shape, generator=stream)
    chosen = {
        "real": [real.class_rows(label, 2, stream) for label in range(4)],
        "first": [real.rows_of_class(label)[:2] for label in range(4)],
    }
    for init, rows in chosen.items():
        drawn = real.batch(torch.cat(rows))[0].view(4, 2, channels, 8, 8)
        low = torch.as_tensor(scipy.fft.dctn(drawn.numpy(), axes=(3, 4), norm="ortho"))
        low[..., 4:, :] = 0
        low[..., 4:] = 0
        low = torch.as_tensor(scipy.fft.idctn(low.numpy(), axes=(3, 4), norm="ortho"))
        picked = [low[i, (j * 5 + r) % 2] for i in range(4) for j in range(num_kernel_sets)
                  for r in range(5)]  # fmt: skip
        found = start(init).decode()[0].detach()
        torch.testing.assert_close(found, torch.stack(picked), rtol=0, atol=1e-5)
    assert labels.tolist() == [i for i in range(4) for _ in range(5 * num_kernel_sets)]
    distance = (noisy - images.detach()).square().mean().sqrt() / images.detach().std()
    assert 0.05 < distance < 0.5
