"""distill, evaluate, judge and export: one set at a time."""

import json
import re
import shlex

import pytest
import torch

from nsdbench import data
from nsdbench.bench import judging
from nsdbench.sets import Artefact, parameterizations
from nsdbench.sets.artefact import check_out
from tests.cli.texts import SET


def test_distill_marks_what_ran_away(nsdbench, monkeypatch):
    line = SET + "optimiser.iterations=2"
    assert "diverged?" not in nsdbench(line)[1]
    monkeypatch.setattr("nsdbench.bench.divergence.runaway", lambda curve, moved: f"{len(curve)}")
    code, out, _ = nsdbench(line)
    assert code == 0 and out.endswith("bytes\ndiverged?: 2\n")


def test_distill_and_evaluate_files(nsdbench, folder):
    code, out, _ = nsdbench(
        "distill --method tiny --dataset synthetic:3x1x8x8@8+4 --ipc 4 --out set.safetensors "
        "--set optimiser.iterations=2 --set objective.lr_inner=0.05"
    )
    assert code == 0 and "wrote set.safetensors" in out
    code, out, _ = nsdbench(
        "evaluate set.safetensors --dataset synthetic:3x1x8x8@8+4 --arch convnet1-w8 "
        "--protocol common-2ep --repeats 2 --json"
    )
    result = json.loads(out)
    assert code == 0 and len(result["accuracies"]) == result["n"] == 2
    assert result["mean"] == pytest.approx(sum(result["accuracies"]) / 2)

    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    torch.save({"images": images, "labels": labels}, folder / "theirs.pt")
    torch.save(images, folder / "images.pt")
    torch.save(labels, folder / "labels.pt")
    settings = (
        "--dataset synthetic:3x1x8x8@8+4 --arch convnet1-w8 --protocol common-2ep --repeats 2"
    )
    code, together, err = nsdbench(f"evaluate theirs.pt {settings}")
    assert err == "evaluate 0/2 3 steps a network\ntrain 1/6\n"
    assert code == 0 and "over 2 networks" in together and "on 6 images" in together
    assert nsdbench(f"evaluate images.pt labels.pt {settings}")[1] == together
    code, out, _ = nsdbench(f"evaluate theirs.pt {settings.replace('s 2', 's 3')}")
    assert code == 0 and "over 3 networks, 95 % interval" in out and "interval" not in together
    for line, message in (
        ("set.safetensors labels.pt", "which of the two"),
        ("theirs.pt labels.pt", "which of the two"),
        ("set.safetensors --pixels unit", "--pixels (pixels=) has no effect"),
        ("set.safetensors --preprocessing zca", "--preprocessing (preprocessing_kind=) has no eff"),
        ("theirs.pt --labels-are logits", "labels that are classes"),
        ("theirs.pt --pixels unit", "look like network inputs, not unit"),
        ("theirs.pt --pixels grey", "expected raw, unit, normalised"),
    ):
        code, out, err = nsdbench(f"evaluate {line} {settings}")
        assert code == 2 and message in err and len(err.splitlines()) == 1, (out, err)
    torch.save((images.sigmoid(), 5.0 * images[:, 0, 0, :3]), folder / "raw.pt")
    code, out, err = nsdbench(f"evaluate raw.pt {settings} --pixels unit --labels-are logits")
    assert code == 0 and "on 6 images" in out, err


@pytest.mark.parametrize(
    "out",
    ["set", "set.pt", "set.safetensors.pt", ".", "made", "made/", "new/set", "made.safetensors",
     "..", ".safetensors", "SET.SAFETENSORS", "/"],
)  # fmt: skip
def test_a_place_that_is_none_for_a_set_is_refused_before_the_work(nsdbench, folder, out):
    (folder / "made").mkdir()
    (folder / "made.safetensors").mkdir()
    code, _, err = nsdbench(f"distill --method nsd --dataset absent --ipc 1 --out {out}")
    assert code == 2 and "Traceback" not in err
    assert err.startswith("error: out: expected a file that ends in .safetensors, got "), err
    assert "for example" in err and not (folder / "new").exists()


def test_a_rate_is_offered_for_sets_of_others_alone(nsdbench, folder):
    """For a set of ours `--lr` would be refused."""
    from nsdbench.coresets import select

    select("random", "Digits16", 1, out=folder / "ours.safetensors")
    torch.save((torch.randn(10, 1, 16, 16), torch.arange(10)), folder / "theirs.pt")
    for file, advice in (("ours.safetensors", ""), ("theirs.pt", ", or give --lr (lr=)")):
        line = f"evaluate {file} --dataset Digits16 --arch convnet1-w8 --protocol mtt-1ep"
        code, _, error = nsdbench(line)
        assert code == 2 and error.endswith(f"set carries none; use protocol common{advice}\n")
        code, _, error = nsdbench(f"{line} --lr 0.01 --repeats 1")
        assert code == (0 if advice else 2), error


def test_judge_and_report_judged(nsdbench, folder):
    images, labels = torch.randn(3, 1, 8, 8), torch.arange(3)
    torch.save(images, folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    line = (
        "judge images_best.pt labels_best.pt --dataset synthetic:3x1x8x8@8+4 "
        "--arch convnet1-w8,convnet1-w4 --protocol common-1ep,mtt-1ep --lr 0.02 --repeats 3"
    )
    code, out, err = nsdbench(f"{line} --claimed 33+-1")
    assert code == 0, err
    assert out.startswith("images_best.pt, labels_best.pt: images and labels, as MTT's code saves")
    assert (
        "stores 6,144 bits as float32, the room of 1.00 images per class: images [3, 1, 8, 8]"
        in out
    )
    assert out.count("over 3 networks, 95 % interval") == 4
    assert out.count("Random at 1 image per class: ") == out.count("; gain ") == 4
    assert out.count("claimed 33.0 ± 1.0 %: not comparable: n = 3 < 5") == 4
    code, again, err = nsdbench(f"{line} --json")
    records = json.loads(again)
    assert code == 0 and [record["training"]["lr"] for record in records] == [[0.01], [0.02]] * 2
    assert records[0]["provenance"]["command"].startswith("python -m nsdbench judge images_best.pt")
    code, out, _ = nsdbench("report judged")
    assert code == 0 and out.count("| images_best-") == 4 and "33.0 ± 1.0" in out
    assert nsdbench("report judged --csv")[1].count("\nimages_best-") == 4
    for wrong, message in (
        (f"{line} --claimed much", "claimed 'much': expected per cent"),
        (line.replace("mtt-1ep", ""), "--protocol 'common-1ep,': expected names with a comma"),
        (line.replace("convnet1-w4", "cnvnet"), "did you mean convnet"),
        (line.replace("mtt-1ep", "common-2ep"), "--lr 0.02 has no effect"),
        ("report judged mine", "`report judged` goes with"),
        ("report judged --protocol dc", "`report judged` goes with"),
        ("report judged --scale small", "`report judged` goes with"),
        ("report judged --html r.html", "`report judged` goes with"),
    ):
        code, out, err = nsdbench(wrong)
        assert code == 2 and message in err and len(err.splitlines()) == 1, (out, err)


def test_a_judgement_that_is_stopped_says_that_it_goes_on(nsdbench, monkeypatch):
    def stopped(question, run):
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "judge", stopped)
    code, _, error = nsdbench("judge x.pt --dataset Digits16")
    assert code == 130 and error == "Stopped. The same command goes on from here.\n"


def test_a_set_is_exported_beside_its_file_or_where_one_says(nsdbench, folder):
    from nsdbench.coresets import select

    select("random", "Digits16", 1, out=folder / "set.safetensors")
    for form, written in (("npz", "set-pictures.npz"), ("hf", "set-pictures")):
        code, out, _ = nsdbench(f"export set.safetensors --format {form}")
        assert (code, out) == (0, f"wrote {written}: 10 pictures\n")
        assert (folder / written).exists()
    code, out, _ = nsdbench("export set.safetensors --format folder --out a/b")
    assert code == 0 and len(list((folder / "a" / "b").glob("*/*.png"))) == 10
    for line, message in (
        ("export set.safetensors --format hf", "set-pictures is there already"),
        ("export set.safetensors --format parquet", "expected one of folder, npz, pt"),
        ("export set.safetensors --format npz --out x.pt", "ends in .npz"),
        ("export absent.safetensors --format npz", "no such artefact"),
    ):
        code, out, err = nsdbench(line)
        assert code == 2 and message in err and out == "", line


@pytest.mark.parametrize("missing", ["a b.pt", "set", "x.safetensors", ".", "deep/er.npz"])
def test_what_an_export_suggests_for_a_missing_file_is_not_refused(nsdbench, folder, missing):
    """The command it names gets past its options, up to the names to be filled in."""
    code, _, error = nsdbench(f"export '{missing}' --format npz --out pictures.npz")
    (command,) = re.findall("`python -m nsdbench (.*?)` makes one", error)
    assert code == 2 and " --ipc N " in command
    filled = command.replace(" M ", " mtt ").replace(" D ", " Absent ").replace(" N ", " 1 ")
    code, _, error = nsdbench(filled)
    assert code == 2 and "dataset: expected one of" in error, "its --out is taken"
    assert not check_out(shlex.split(command)[-1])


@pytest.mark.parametrize("option", ["", " --data-root ."])
def test_an_export_names_what_the_artefact_lacks(nsdbench, folder, option):
    spec = data.spec("Digits16")
    pixels = parameterizations.build({"name": "pixels"}, spec, 1)
    Artefact(pixels, {"preprocessing": "standardise"}).save(folder / "set.safetensors")
    code, _, error = nsdbench(f"export set.safetensors --format npz{option}")
    assert code == 2 and error == "error: the artefact does not say of which data set it is\n"
