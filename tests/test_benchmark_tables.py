"""The tables of speed in the pages are those the committed measurements give."""

from pathlib import Path

import pytest

from benchmarks import table

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("page", "render"),
    [
        ("README.md", table.headline_lines),
        ("docs/speed.md", table.operator_lines),
        ("docs/speed.md", table.cuda_lines),
        ("docs/speed.md", table.profile_lines),
    ],
)
def test_page_shows_the_committed_measurements(page, render):
    assert "\n".join(render()) in (ROOT / page).read_text()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123456, "12.3 ms"), (0.1, "0.1 s"), (10.4, "10.4 s")]
)
def test_duration(seconds, text):
    assert table.duration(seconds) == text
