"""File names, atomic writes and named random streams."""

import pytest
import torch

from nsdbench.files import file_name, write_atomically
from nsdbench.seeding import generator


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "file"
    write_atomically(path, lambda partial: partial.write_text("old"))

    def fail(partial):
        partial.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("FashionMNIST", "FashionMNIST"),
        ("folder:/data/my-set@64", "folder__data_my-set_64"),
        ("a.b_c-D9", "a.b_c-D9"),
        ("é \\\0\n", "é____"),
    ],
)
def test_file_names(text, name):
    assert file_name(text) == name


def test_streams_depend_on_every_part_of_their_name():
    names = [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a"), (0, "a", 1, 1)]
    draws = [tuple(torch.randint(2**60, (2,), generator=generator(*name)).tolist())
             for name in names]  # fmt: skip
    assert len(set(draws)) == len(names)
    again = torch.randint(2**60, (2,), generator=generator(*names[0]))
    assert tuple(again.tolist()) == draws[0]
