"""Pickles of arrays and lists are read; pickles that ask for anything else are refused unrun."""

import pickle
import struct

import numpy as np
import pytest

from nsdbench.data.formats import safe_pickle
from nsdbench.errors import DataCorrupt


def python2_pickle(fields: dict[str, object]) -> bytes:
    """Write a dict the way Python 2's cPickle with protocol 2 did: strings are byte strings.

    Values: strings, lists of small integers, and uint8 arrays of two dimensions.
    """

    def text(content: bytes) -> bytes:
        if len(content) < 256:
            return b"U" + bytes([len(content)]) + content
        return b"T" + struct.pack("<i", len(content)) + content

    def array(value: np.ndarray) -> bytes:
        is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            + b"(K\x01"
            + b"".join(b"J" + struct.pack("<i", n) for n in value.shape)
            + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
            + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            + (b"\x88" if is_fortran else b"\x89")
            + text(value.tobytes(order="A"))
            + b"tb"
        )

    def write(value: object) -> bytes:
        if isinstance(value, np.ndarray):
            return array(value)
        if isinstance(value, str):
            return text(value.encode())
        return b"](" + b"".join(b"K" + bytes([n]) for n in value) + b"e"

    items = b"".join(text(key.encode()) + write(value) for key, value in fields.items())
    return b"\x80\x02}(" + items + b"u."


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 300), dtype=np.uint8)


def test_the_handwritten_pickle_is_a_true_one():
    loaded = pickle.loads(python2_pickle({"data": PIXELS, "labels": [3, 4]}), encoding="bytes")
    assert np.array_equal(loaded[b"data"], PIXELS) and loaded[b"labels"] == [3, 4]


@pytest.mark.parametrize("pixels", [PIXELS, np.asfortranarray(PIXELS)])
def test_reads_what_python_2_wrote(tmp_path, pixels):
    file = tmp_path / "batch"
    file.write_bytes(python2_pickle({"batch_label": "x", "labels": [1, 2, 255], "data": pixels}))
    loaded = safe_pickle.load(file)
    assert loaded[b"labels"] == [1, 2, 255] and loaded[b"batch_label"] == b"x"
    assert loaded[b"data"].dtype == np.uint8 and np.array_equal(loaded[b"data"], PIXELS)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL))
def test_reads_what_python_3_writes(tmp_path, protocol):
    file = tmp_path / "batch"
    file.write_bytes(pickle.dumps({b"data": PIXELS, "labels": [0, 300]}, protocol))
    loaded = safe_pickle.load(file)
    assert np.array_equal(loaded[b"data"], PIXELS) and loaded[b"labels"] == [0, 300]


class Attack:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker):
    import builtins
    import codecs
    import os
    import subprocess

    yield Attack(os.system, f"touch {marker}")
    yield Attack(subprocess.call, ["touch", str(marker)])
    yield Attack(builtins.eval, f"open({str(marker)!r}, 'w')")
    yield Attack(builtins.getattr, "x", "upper")
    yield Attack(np.load, str(marker))
    yield Attack(codecs.encode, "x", "zlib")


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("is_nested", [False, True])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, number, is_nested):
    marker = tmp_path / "attacked"
    attack = list(attacks(marker))[number]
    file = tmp_path / "evil"
    file.write_bytes(pickle.dumps({b"data": [attack] if is_nested else attack}, protocol=2))
    with pytest.raises(DataCorrupt, match=r"evil: expected a pickle of plain arrays .* refused"):
        safe_pickle.load(file)
    assert not marker.exists()


def test_the_attacks_would_work_on_an_ordinary_unpickler(tmp_path):
    marker = tmp_path / "attacked"
    pickle.loads(pickle.dumps(next(attacks(marker))))
    assert marker.exists()


@pytest.mark.parametrize("array", [np.arange(3.0), np.array([None, 1]), np.zeros(2, dtype="u2")])
def test_arrays_of_anything_but_bytes_are_refused(tmp_path, array):
    file = tmp_path / "batch"
    file.write_bytes(pickle.dumps({b"data": array}))
    with pytest.raises(DataCorrupt, match="of unsigned bytes, one is|not plain numbers"):
        safe_pickle.load(file)


def test_array_with_too_few_bytes(tmp_path):
    file = tmp_path / "batch"
    whole = python2_pickle({"data": PIXELS})
    file.write_bytes(whole.replace(struct.pack("<i", 5), struct.pack("<i", 6), 1))
    with pytest.raises(DataCorrupt, match="refused"):
        safe_pickle.load(file)


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_truncated_pickle(tmp_path, keep):
    file = tmp_path / "cut"
    file.write_bytes(python2_pickle({"data": PIXELS, "labels": [1]})[:keep])
    with pytest.raises(DataCorrupt, match="cut: expected a pickle"):
        safe_pickle.load(file)


def test_pickle_of_a_list(tmp_path):
    file = tmp_path / "list"
    file.write_bytes(pickle.dumps([1]))
    with pytest.raises(DataCorrupt, match="expected a pickled dict, got list"):
        safe_pickle.load(file)
