"""The tables of speed in the pages are those the committed measurements give."""

import re
from pathlib import Path

import pytest

from benchmarks import table

ROOT = Path(__file__).resolve().parents[1]


def narrow(text):
    """Take the padding out of tables."""
    return re.sub(r":?-{3,}", "---", re.sub(r" *\| *", "|", text))


@pytest.mark.parametrize(
    ("page", "render"),
    [
        ("README.md", table.headline),
        ("docs/speed.md", table.operators),
        ("docs/speed.md", table.cuda),
        ("docs/speed.md", table.profile),
        ("docs/speed.md", table.convolution_errors),
        ("docs/speed.md", table.gradient_errors),
    ],
)
def test_page_shows_the_committed_measurements(page, render):
    assert narrow(render()) in narrow((ROOT / page).read_text())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123456, "12.3 ms"), (0.1, "0.1 s"), (10.4, "10.4 s")]
)
def test_duration(seconds, text):
    assert table.duration(seconds) == text


def test_a_cuda_file_with_captures_shows_them_against_every_rival(monkeypatch):
    facts = {"seconds": 0.001, "peak_mib": 10.0}
    measured = {
        "outer_step": {"N 2": {"graph": facts, "fused": facts, "autograd": facts | {"seconds": 1}}},
        "training_step": {
            "B 5": {way: facts for way in ("graph", "fused", "stock PyTorch", "torch.compile")}
        },
        "operators": {"one": {"native": facts, "another": facts}},
    }
    monkeypatch.setattr(table, "read", lambda name: measured)
    rows = [line.split(" | ")[:4] for line in table.cuda().splitlines()[2:]]
    assert [[cell.strip("| ") for cell in row] for row in rows] == [
        ["outer step, N 2", "autograd", "1 ms / 1 s", "1000.0"],
        ["training step, B 5", "stock PyTorch", "1 ms / 1 ms", "1.0"],
        ["training step, B 5", "torch.compile", "1 ms / 1 ms", "1.0"],
        ["one", "another", "1 ms / 1 ms", "1.0"],
    ]
