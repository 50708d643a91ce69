"""File names, atomic writes and named random streams."""

import itertools
import re

import pytest
import torch

from nsdbench.files import (
    cell_id,
    checked_name,
    file_name,
    pictures_name,
    portable_command,
    set_prefix,
    user_path,
    write_atomically,
)
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


def test_commands_in_records_name_no_folder_of_a_machine():
    words = ["run", "a/b", "--data-root", "/home/me/my data", "--results=/scratch/me/x", "--jobs=2"]
    expected = "python -m nsdbench run a/b --data-root 'my data' --results=x --jobs=2"
    assert portable_command("python -m nsdbench", words) == expected
    assert (
        portable_command("me.py", ["/"]) == "me.py /" and portable_command("me.py", []) == "me.py"
    )


@pytest.mark.parametrize(
    "text", ["FashionMNIST", "a.b_c-D9", "nsd+optimiser.lr=1e-07+parameterization.t1=3", "x" * 200]
)
def test_names_that_files_can_have_stay(text):
    assert file_name(text) == text


# Each differs from its neighbours in what a file name cannot hold, or in length, case or place.
ODD_TEXTS = [
    "folder:d/a b", "folder:d/a_b", "folder:d/a/b", "folder:d_a_b", "folder:/a/b@16",
    "folder:/a_b@16", "folder:/a/b@1+6", "folder_a", "folder:a", "folder:A", "folder:\u00e4",
    "folder:a\u0308", "folder:\udce4", "folder:\ud800", "", ".", "..", "../x", "/", "\\", "\0",
    "\n", "a\n", "a ", " a", ".hidden", "_hidden", "~", "~home", "a~b", "a_b", "x" * 201, "x" * 202,
    "x" * 99 + ":" + "y", "x" * 99 + ":" + "z", "CON:", "\U0001f41d", "[/b]", "a*", "a?",
    "synthetic:3x1x8x8@20+4", "synthetic_3x1x8x8@20+4", "synthetic:3x1x8x8_20+4",
]  # fmt: skip


def test_two_texts_never_share_a_file_name():
    names = [file_name(text) for text in ODD_TEXTS]
    assert len({name.lower() for name in names}) == len(set(ODD_TEXTS)) == len(ODD_TEXTS)
    for name in names:
        assert re.fullmatch(r"(?!\.)[A-Za-z0-9._+=~-]{1,200}", name), name
        assert file_name(name) == name or "~" in name  # no text names what another was altered to
    assert not set(map(file_name, names)) & {name for name in names if "~" in name}


def test_two_data_sets_never_share_a_cell_or_a_set():
    for first, second in itertools.combinations(ODD_TEXTS, 2):
        for name in (
            lambda text: cell_id(text, 1, "random", "convnet3-w128", "common"),
            lambda text: cell_id("Digits", 0, text, "convnet3-w128", "common"),
            lambda text: set_prefix("nsd", text, 10, "0123456789abcdef"),
            lambda text: pictures_name(text, 10, "nsd", "0123456789abcdef"),
            lambda text: pictures_name("Digits", 10, text, "0123456789abcdef"),
        ):
            assert name(first) != name(second)


def test_a_folder_cannot_pass_for_another_cell():
    """The "-ipc1-x" within a name is not that between names."""
    one = cell_id("folder:/a-ipc1-x", 1, "y", "convnet3-w128", "common")
    assert one != cell_id("folder:/a", 1, "x-ipc1-y", "convnet3-w128", "common")


def test_no_cell_has_a_name_that_is_too_long_for_files():
    names = {
        cell_id(f"folder:/{'d' * 4000}/{end}", 1, "m" * 150, "convnet3-w128", "common-100ep")
        for end in range(10)
    }
    assert len(names) == 10 and max(map(len, names)) <= 200


@pytest.mark.parametrize("name", ["mtt-1", "CIFAR10.zca", "a+b=c", "folder_x~0123456789abcdef"])
def test_plain_names_of_users_are_taken(name):
    assert checked_name(name, "it") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../x", "/tmp/x", "a/b", "a\\b", ".hidden", "a b", "a\0", "a\n", "n" * 201,
     "C:x", "\u00e4"],
)  # fmt: skip
def test_a_users_name_never_leaves_its_folder(name):
    with pytest.raises(ValueError, match="experts.buffer: .* cannot name a file; use letters"):
        checked_name(name, "experts.buffer")


def test_a_home_folder_that_nobody_knows_is_said(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(user_path("~/x")) == "/home/me/x"
    with pytest.raises(ValueError, match=r"~no_such_user/x: .*; write the whole path"):
        user_path("~no_such_user/x")


def test_streams_depend_on_every_part_of_their_name():
    names = [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a"), (0, "a", 1, 1)]
    draws = [tuple(torch.randint(2**60, (2,), generator=generator(*name)).tolist())
             for name in names]  # fmt: skip
    assert len(set(draws)) == len(names)
    again = torch.randint(2**60, (2,), generator=generator(*names[0]))
    assert tuple(again.tolist()) == draws[0]
