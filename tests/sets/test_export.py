"""Exported sets: their pictures are un-normalised, and others read them as what they are."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import nsdbench
from nsdbench import data, methods
from nsdbench.coresets import select
from nsdbench.coresets.selection import select_recipe
from nsdbench.data.formats.tensors import split_sum
from nsdbench.experts import Run
from nsdbench.sets import Artefact
from nsdbench.sets.export import FORMATS, check_export, default_out, export_set
from nsdbench.sets.formats.registry import read_set
from nsdbench.sets.meaning import Meaning, network_inputs


@pytest.fixture(scope="module")
def drawn():
    """Two real images a class, which Random keeps as they are."""
    return select("random", "Digits16", ipc=2)


@pytest.fixture
def learned(drawn, monkeypatch):
    """The same set with learned labels."""
    soft = torch.linspace(-1, 1, 200).view(20, 10)
    monkeypatch.setattr(Artefact, "soft_labels", lambda self: soft)
    return soft


def of_digits(artefact):
    """The training images that a coreset is made of, as pixels, with their labels."""
    train, rows = data.load("Digits16").train, artefact.metadata["rows"]
    return train.images[rows], train.labels[rows]


def test_pictures_undo_the_preprocessing(drawn):
    pixels, labels = of_digits(drawn)
    assert torch.equal(labels, drawn.labels())
    pictures = drawn.pictures()
    assert (pictures * 255 - pixels).abs().max() < 1e-3
    assert torch.equal(pictures, drawn.pictures(data.load("Digits16")))


def test_pictures_of_standardised_images_need_no_data(drawn, monkeypatch):
    def refuse(*_):
        raise AssertionError("the data was read")

    expected = drawn.pictures()
    monkeypatch.setattr("nsdbench.sets.artefact.load", refuse)
    assert torch.equal(drawn.pictures(), expected)


def test_whitened_images_become_pictures_too():
    recipe = methods.resolve("random", "Digits16", 1, "smoke", {"data.preprocessing": "zca"})
    whitened = select_recipe(recipe, data.load("Digits16"), 0, 0, Run())
    assert whitened.metadata["preprocessing"] == "zca"
    assert (whitened.pictures() * 255 - of_digits(whitened)[0]).abs().max() < 0.1


def test_pictures_of_other_statistics_are_refused(drawn):
    other = Artefact(drawn.parameterization, drawn.metadata | {"preprocessing_hash": "another"})
    with pytest.raises(ValueError, match="other training data or statistics of Digits16"):
        other.pictures()
    silent = Artefact(drawn.parameterization, {"dataset": "Digits16"})
    with pytest.raises(ValueError, match="does not say how its images were preprocessed"):
        silent.pictures()


@pytest.mark.parametrize("form", ["npz", "pt", "safetensors"])
def test_arrays_hold_pictures_and_classes(drawn, tmp_path, form):
    path = export_set(drawn, tmp_path / f"set.{form}", form)
    if form == "npz":
        with np.load(path) as file:
            read, about = (
                {k: torch.from_numpy(file[k]) for k in ("images", "labels")},
                file["about"],
            )
    elif form == "pt":
        read = torch.load(path, weights_only=True)
        about = read.pop("about")
    else:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            read = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = split_sum(file.metadata())[0]["about"]
    assert read.keys() == {"images", "labels"}
    assert torch.equal(read["images"], drawn.pictures()) and read["images"].dtype == torch.float32
    assert torch.equal(read["labels"], drawn.labels())
    assert json.loads(str(about))["method"] == "random"


@pytest.mark.parametrize("form", ["npz", "pt", "safetensors", "folder"])
def test_what_is_exported_can_be_evaluated_as_a_set_of_others(drawn, tmp_path, form):
    path = export_set(drawn, tmp_path / ("set" if form == "folder" else f"set.{form}"), form)
    said = Meaning() if form == "folder" else Meaning(pixels="unit")
    (found,) = read_set(path, spec=data.spec("Digits16"), said=said).sets
    assert torch.equal(found.labels, drawn.labels())
    digits = data.load("Digits16")
    transform = data.preprocessing("standardise", digits)
    inputs = network_inputs(found.images, "it", digits, transform, said.pixels or "raw")
    assert (inputs - drawn.images()).abs().max() < 1e-5
    options = {} if form == "folder" else {"pixels": "unit"}
    result = nsdbench.evaluate([path], digits, "convnet1-w8", "common-2ep", repeats=1, **options)
    assert result.num_images == 20


def test_a_folder_has_a_subfolder_a_class(drawn, tmp_path):
    path = export_set(drawn, tmp_path / "new" / "set", "folder")
    files = sorted(path.glob("*/*.png"))
    assert [file.parent.name for file in files] == [str(label) for label in drawn.labels().tolist()]
    pixels, _ = of_digits(drawn)
    assert np.array_equal(np.stack([np.array(Image.open(x)) for x in files]), pixels[:, 0].numpy())
    assert sorted(x.name for x in path.parent.iterdir()) == ["set"], "nothing else is left there"


def test_hugging_face_layout(drawn, tmp_path, learned):
    path = export_set(drawn, tmp_path / "set", "hf")
    lines = [json.loads(x) for x in (path / "train" / "metadata.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == drawn.labels().tolist()
    assert torch.tensor([line["soft_label"] for line in lines]).allclose(learned)
    pixels, _ = of_digits(drawn)
    for line, picture in zip(lines, pixels, strict=True):
        image = Image.open(path / "train" / line["file_name"])
        assert np.array_equal(np.array(image), picture[0].numpy())
    _, card, text = (path / "README.md").read_text().split("---\n")
    assert "    path: train/**\n" in card and "        names:\n          '0': \"0\"\n" in card
    assert "- method: random\n" in text


def test_hugging_face_reads_it(drawn, tmp_path, learned):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    path = export_set(drawn, tmp_path / "set", "hf")
    read = datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert read["label"] == drawn.labels().tolist()
    assert read.features["label"].names == [str(label) for label in range(10)]
    assert torch.tensor(read["soft_label"]).allclose(learned)


def test_colour_stays_colour(tmp_path):
    coloured = select("random", "synthetic:2x3x8x8@4+4", ipc=1)
    path = export_set(coloured, tmp_path / "set", "folder", data.load("synthetic:2x3x8x8@4+4"))
    (first, _) = sorted(path.glob("*/*.png"))
    expected = (coloured.pictures()[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    assert np.array_equal(np.array(Image.open(first)), expected.numpy())


def test_learned_labels_are_exported_where_they_can_be(drawn, tmp_path, learned):
    path = export_set(drawn, tmp_path / "set.npz", "npz")
    with np.load(path) as file:
        assert np.array_equal(file["soft_labels"], learned.numpy())
    with pytest.raises(ValueError, match="learned labels; choose one of npz, pt, safetensors, hf"):
        export_set(drawn, tmp_path / "set", "folder")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("form", ["npz", "hf"])
def test_an_artefact_that_does_not_name_its_data_set_is_refused(drawn, tmp_path, form):
    nameless = replace(drawn, metadata=drawn.metadata | {"dataset": None})
    with pytest.raises(ValueError, match="does not say of which data set it is"):
        export_set(nameless, tmp_path / ("set.npz" if form == "npz" else "set"), form)


def test_places_that_will_not_do(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "empty").mkdir()
    for out, form, message in (
        ("full", "hf", "is there already; expected a new or an empty folder"),
        ("full/x", "folder", "is there already"),
        ("set.pt", "npz", "ends in .npz"),
        ("set", "safetensors", "ends in .safetensors"),
        ("set", "numpy", "expected one of folder, npz, pt, safetensors, hf"),
        ("set", "foldr", "did you mean folder"),
    ):
        with pytest.raises(ValueError, match=message):
            check_export(tmp_path / out, form)
    check_export(tmp_path / "empty", "hf")
    source = tmp_path / "a" / "set.safetensors"
    names = [default_out(source, form).name for form in FORMATS]
    assert names == [
        "set-pictures", "set-pictures.npz", "set-pictures.pt", "set-pictures.safetensors",
        "set-pictures",
    ]  # fmt: skip


def test_sets_data_and_evaluations_show_themselves_in_a_line(drawn):
    stored = 20 * 256 * 4
    assert repr(drawn) == (
        f"<Artefact random on Digits16, ipc 2, scale smoke: 20 images from {stored:,} bytes>"
    )
    digits = data.load("Digits16").without_test()
    assert repr(digits) == "<Dataset Digits16: 1,437 training images of 1x16x16 in 10 classes>"
    result = nsdbench.Evaluation((50.0, 52.0), 0.01, 1500, 1, 1.0, "native")
    assert repr(result) == "<Evaluation 51.00 ± 1.00 % over 2 networks: 1,500 steps on 1 image>"
