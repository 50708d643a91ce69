"""The compressor of RTP: what our module decodes is what its formula says."""

import pytest
import torch
import torch.nn.functional as F

from nsdbench.errors import DataCorrupt


def test_addresses_times_bases_enlarged(read, tmp_path):
    """torch's product and torch's enlargement, in the order of its code."""
    bases, addresses = torch.randn(5, 3 * 4 * 4), torch.randn(8, 5)
    state = {"basis.weight": bases, "imgs.weight": addresses}
    torch.save({"compressor": state}, tmp_path / "compressor.pt")
    reading = read("compressor.pt")
    (one,) = reading.sets
    small = (addresses @ bases).view(8, 3, 4, 4)
    expected = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    assert reading.taken_for == "5 bases of RTP and addresses"
    torch.testing.assert_close(one.images, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(one.labels, torch.arange(4).repeat_interleave(2))
    assert one.ledger().stored_bits == 32 * (5 * 48 + 8 * 5)
    torch.save(state, tmp_path / "state.pt")
    assert torch.equal(read("state.pt").sets[0].images, one.images)


def test_without_bases(read, tmp_path):
    small = torch.randn(4, 3 * 8 * 8)
    torch.save({"compressor": {"imgs.weight": small}}, tmp_path / "compressor.pt")
    reading = read("compressor.pt")
    torch.testing.assert_close(reading.sets[0].images, small.view(4, 3, 8, 8))
    assert reading.taken_for == "small images of RTP"
    assert reading.sets[0].ledger().stored_bits == 32 * small.numel()


@pytest.mark.parametrize(
    ("bases", "addresses", "message"),
    [
        (torch.zeros(5, 48), torch.zeros(8, 4), "hold no square images of 3 channels"),
        (torch.zeros(5, 47), torch.zeros(8, 5), "hold no square images of 3 channels"),
        (torch.zeros(5, 3 * 16 * 16), torch.zeros(8, 5), "up to 8 pixels"),
        (torch.zeros(5, 48), torch.zeros(7, 5), "7 images; expected as many in each of the 4"),
        (torch.zeros(5, 48), torch.zeros(0, 5), "0 images; expected"),
        (torch.zeros(5), torch.zeros(8, 5), "is no table"),
        ("bases", torch.zeros(8, 5), "is no table"),
    ],
)
def test_what_is_wrong_is_one_line(read, tmp_path, bases, addresses, message):
    state = {"basis.weight": bases, "imgs.weight": addresses}
    torch.save({"compressor": state}, tmp_path / "compressor.pt")
    with pytest.raises(DataCorrupt, match=f"compressor.pt: .*{message}"):
        read("compressor.pt")
