"""Bases and hallucinators of HaBa: our module decodes what torch's own layers make of them."""

import pytest
import torch
from torch import nn

from nsdbench.errors import DataCorrupt


class Hallucinator(nn.Module):
    """The layers under the names that HaBa's states have."""

    def __init__(self, base_channels):
        super().__init__()
        self.enc = nn.Conv2d(base_channels, 3, 3)
        self.scale = nn.Parameter(torch.randn(1, 3, 6, 6))
        self.shift = nn.Parameter(torch.randn(1, 3, 6, 6))
        self.dec = nn.ConvTranspose2d(3, 3, 3)

    def forward(self, base):
        return self.dec(self.scale * self.enc(base) + self.shift)


@pytest.mark.parametrize("base_channels", [1, 3])
def test_bases_through_hallucinators(read, tmp_path, base_channels):
    hallucinators = nn.ModuleList([Hallucinator(base_channels) for _ in range(3)])
    bases = torch.randn(8, base_channels, 8, 8)
    torch.save(bases, tmp_path / "images_best.pt")
    torch.save(hallucinators.state_dict(), tmp_path / "weights_best.pt")
    torch.save(torch.tensor(0.02), tmp_path / "lr.pt")
    reading = read("images_best.pt", "weights_best.pt")
    (one,) = reading.sets
    assert reading.taken_for == "bases and 3 hallucinators of HaBa, one drawn for every base"
    assert one.lr is None and torch.equal(one.labels, torch.arange(4).repeat_interleave(2))
    assert read("weights_best.pt", "lr.pt", "images_best.pt").sets[0].lr == pytest.approx(0.02)
    every = torch.stack([view(bases) for view in hallucinators])
    module, drawn = one.drawn_from, set()
    for seed in range(10):
        images, _ = module.decode(generator=torch.Generator().manual_seed(seed))
        for base, image in enumerate(images):
            errors = (every[:, base] - image).abs().amax((1, 2, 3))
            assert errors.min() < 1e-4
            drawn.add(int(errors.argmin()))
    assert drawn == {0, 1, 2}
    elements = bases.numel() + sum(weight.numel() for weight in hallucinators.parameters())
    assert one.ledger().stored_bits == 32 * elements


def test_what_is_wrong_is_one_line(read, tmp_path, labels):
    state = nn.ModuleList([Hallucinator(3)]).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    torch.save({key: state[key] for key in list(state)[1:]}, tmp_path / "less.pt")
    torch.save({**state, "0.scale": torch.ones(1, 3, 30, 30)}, tmp_path / "large.pt")
    for name, sizes in (("images", (8, 3, 8, 8)), ("seven", (7, 3, 8, 8)), ("two", (8, 2, 8, 8))):
        torch.save(torch.zeros(sizes), tmp_path / f"{name}.pt")
    for names, message in (
        (["weights.pt"], "weights.pt: holds hallucinators .*expected one such file, and one of"),
        (["images.pt", "weights.pt", "weights.pt"], "expected one such file"),
        (["seven.pt", "weights.pt"], r"seven.pt: bases are \[7, 3, 8, 8\]; expected"),
        (["two.pt", "weights.pt"], "two.pt: base_channels is 2"),
        (["images.pt", "less.pt"], r"less.pt: 0.\S+ is missing; expected"),
        (["images.pt", "large.pt"], r"large.pt: 0.scale is \[3, 30, 30\]; expected \[3, 6, 6\]"),
    ):
        with pytest.raises(DataCorrupt, match=message) as caught:
            read(*names)
        assert "\n" not in str(caught.value)
