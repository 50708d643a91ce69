"""Resizing against the formula written out, decoding, and the cache of decoded arrays."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nsdbench.data.formats import decode
from nsdbench.data.formats.resize import resize_to_uint8
from nsdbench.errors import DataCorrupt


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sample [h, w] at half-pixel centres, one output pixel at a time, in double."""
    h, w = image.shape
    result = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y = max((i + 0.5) * h / height - 0.5, 0.0)
            x = max((j + 0.5) * w / width - 0.5, 0.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            fy, fx = y - top, x - left
            upper = (1 - fx) * image[top, left] + fx * image[top, right]
            lower = (1 - fx) * image[bottom, left] + fx * image[bottom, right]
            result[i, j] = (1 - fy) * upper + fy * lower
    return result


@pytest.mark.parametrize("size", [(16, 16), (5, 9), (3, 3), (20, 4)])
def test_resize_is_bilinear_without_antialiasing(size):
    image = torch.randint(0, 256, (1, 1, 8, 7), generator=torch.Generator().manual_seed(1))
    resized = resize_to_uint8(image.to(torch.uint8), *size)
    assert resized.dtype == torch.uint8
    error = np.abs(resized[0, 0].numpy() - bilinear(image[0, 0].numpy(), *size))
    assert error.max() <= 0.5 + 1e-9  # rounded once, to the nearest level


def test_resize_to_the_same_size_changes_nothing():
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(resize_to_uint8(image, 16, 16), image)


def picture(path, pixels: np.ndarray):
    Image.fromarray(pixels).save(path)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_long_decoding_says_how_long_it_will_take(tmp_path, monkeypatch, caplog):
    """Two seconds a picture: a line after five seconds, and another half a minute later."""
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(decode, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    files = [picture(tmp_path / f"{i}.png", noise(4, 4)) for i in range(20)]
    for _ in range(2):
        assert decode.decode_all(files, (1, 4, 4), is_resized=False).shape == (20, 1, 4, 4)
    assert caplog.messages == [  # the second time it reads the cache
        "decoding pictures: 3/20, about 34 s left",
        "decoding pictures: 18/20, about 4 s left",
    ]


def test_decode_gives_channels_first(tmp_path):
    pixels = noise(4, 6, 3)
    file = picture(tmp_path / "a.png", pixels)
    assert np.array_equal(
        decode.decode(file, (3, 4, 6), is_resized=False), pixels.transpose(2, 0, 1)
    )


def test_grey_picture_becomes_rgb(tmp_path):
    pixels = noise(4, 4)
    file = picture(tmp_path / "a.png", pixels)
    assert np.array_equal(decode.decode(file, (3, 4, 4), is_resized=False), np.stack([pixels] * 3))


def test_wrong_size_is_an_error_unless_resized(tmp_path):
    file = picture(tmp_path / "a.png", noise(4, 6, 3))
    with pytest.raises(DataCorrupt, match=r"a\.png: expected 4 x 4 pixels, got 4 x 6"):
        decode.decode(file, (3, 4, 4), is_resized=False)
    assert decode.decode(file, (3, 4, 4), is_resized=True).shape == (3, 4, 4)


def test_sixteen_bit_picture_is_refused(tmp_path):
    file = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(file)
    with pytest.raises(DataCorrupt, match="8 bits a channel"):
        decode.decode(file, (1, 4, 4), is_resized=False)


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_truncated_jpeg_names_the_file(tmp_path, keep):
    file = picture(tmp_path / "cut.JPEG", noise(64, 64, 3))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataCorrupt, match=r"cut\.JPEG: expected a complete 8-bit picture"):
        decode.decode(file, (3, 64, 64), is_resized=False)


def test_second_time_comes_from_the_cache(tmp_path, cache, monkeypatch):
    files = [picture(tmp_path / f"{i}.png", noise(4, 4, 3)) for i in range(3)]
    first = decode.decode_all(files, (3, 4, 4), is_resized=False)
    assert [p.suffix for p in (cache / "resized").iterdir()] == [".safetensors"]
    monkeypatch.setattr(decode, "decode", lambda *_, **__: pytest.fail("decoded again"))
    assert torch.equal(decode.decode_all(files, (3, 4, 4), is_resized=False), first)


def test_changed_file_is_decoded_again(tmp_path):
    file = picture(tmp_path / "a.png", np.zeros((4, 4, 3), dtype=np.uint8))
    before = decode.decode_all([file], (3, 4, 4), is_resized=False)
    picture(file, noise(4, 4, 3))
    assert not torch.equal(decode.decode_all([file], (3, 4, 4), is_resized=False), before)


def test_damaged_cache_is_made_again(tmp_path, cache):
    file = picture(tmp_path / "a.png", noise(4, 4, 3))
    first = decode.decode_all([file], (3, 4, 4), is_resized=False)
    (stored,) = (cache / "resized").iterdir()
    whole = stored.read_bytes()
    for damage in (whole[:-5], b"", b"nonsense", whole[:-1] + bytes([whole[-1] ^ 1])):
        stored.write_bytes(damage)
        assert torch.equal(decode.decode_all([file], (3, 4, 4), is_resized=False), first)


def test_unwritable_cache_is_no_error(tmp_path, cache):
    cache.write_text("a file where the folder should be")
    file = picture(tmp_path / "a.png", noise(4, 4, 3))
    assert decode.decode_all([file], (3, 4, 4), is_resized=False).shape == (1, 3, 4, 4)
