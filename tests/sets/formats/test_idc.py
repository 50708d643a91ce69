"""IDC's data.pt: a list of images in 0 to 1 and labels; the factor is not in it."""

import pytest
import torch
import torch.nn.functional as F

from nsdbench.sets.formats.idc import decode


@pytest.mark.parametrize(("side", "factor"), [(8, 2), (8, 1), (9, 3), (8, 3), (7, 2)])
def test_decoding_is_tile_by_tile(side, factor):
    """Every tile, cut out of the padded image by hand, enlarged by itself."""
    images = torch.rand(2, 3, side, side)
    tile = -(-side // factor)
    padded = torch.full((2, 3, tile * factor, tile * factor), 0.5)
    padded[:, :, :side, :side] = images
    decoded = decode(images, factor).view(2, factor, factor, 3, side, side)
    for i in range(factor):
        for j in range(factor):
            cut = padded[:, :, i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
            large = F.interpolate(cut, size=(side, side), mode="bilinear")
            torch.testing.assert_close(decoded[:, i, j], large)


def test_reads_data_pt(read, tmp_path, labels):
    images = torch.rand(8, 3, 8, 8)
    torch.save([images, labels], tmp_path / "data.pt")
    with pytest.raises(ValueError, match=r"data.pt: looks like a set of IDC.*give --factor"):
        read("data.pt")
    reading = read("data.pt", factor=2)
    (one,) = reading.sets
    assert reading.taken_for == "a set of IDC, 2 x 2 images in one"
    assert one.images.shape == (32, 3, 8, 8) and one.meaning.pixels == "unit"
    assert torch.equal(one.images[4:8], decode(images[1:2], 2))
    assert torch.equal(one.labels, torch.arange(4).repeat_interleave(8))
    assert one.ledger().stored_bits == 8 * 3 * 8 * 8 * 32  # what is stored, not what it decodes to
    assert torch.equal(read("data.pt", factor=1).sets[0].images, images)


def test_parts_are_joined(read, tmp_path, labels):
    """Its code condenses ImageNet-100 in phases of a few classes, a data.pt each."""
    images = torch.rand(8, 3, 8, 8)
    for phase in range(2):
        (tmp_path / f"phase{phase}").mkdir()
        rows = slice(4 * phase, 4 * phase + 4)
        torch.save([images[rows], labels[rows]], tmp_path / f"phase{phase}" / "data.pt")
    reading = read("phase0/data.pt", "phase1/data.pt", factor=2)
    (one,) = reading.sets
    assert reading.taken_for.endswith("in 2 parts")
    assert torch.equal(one.images, decode(images, 2)) and len(one.labels) == 32
    assert one.ledger().stored_bits == 8 * 3 * 8 * 8 * 32


def test_a_factor_needs_a_set_of_idc(read, tmp_path, images, labels):
    torch.save([images, labels], tmp_path / "pair.pt")
    torch.save({"images": images, "labels": labels}, tmp_path / "named.pt")
    assert "torch file" in read("pair.pt").taken_for
    with pytest.raises(ValueError, match="--factor .* has no effect on images and labels in a"):
        read("named.pt", factor=2)
    with pytest.raises(ValueError, match="is 9; expected at most the side"):
        read("pair.pt", factor=9)
    for factor in (0, -1):
        with pytest.raises(ValueError, match="expected at least 1"):
            read("pair.pt", factor=factor)
