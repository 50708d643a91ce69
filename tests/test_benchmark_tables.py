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
