"""A network of the user's own on the command line: evaluate, judge, a table, and a new version."""

import json

import pytest
import torch

from nsdbench.bench import tables
from nsdbench.bench.store import Store

NET = """
from torch import nn

def Linear(in_channels, image_size, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
"""
TABLE = """
name = "mine"
title = "Random on a network of one's own"
source = "nowhere"

[[rows]]
label = "Random"
family = "coreset"
method = "random"

[scales.smoke]
protocol = "common-1ep"
seeds = 1
repeats = 1
columns = [{ dataset = "Digits16", ipc = 1, arch = "nets/mine.py:Linear" }]
"""


@pytest.fixture
def nsdbench(tmp_path, monkeypatch, run_command):
    """Run a command in this process, in a folder with a network, a table and a set."""
    for name, text in (("nets/mine.py", NET), ("tables/mine.toml", TABLE)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    images = torch.randn(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.save((images, torch.arange(20) % 10), tmp_path / "set.pt")
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path / "tables"))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return run_command


def test_it_judges_in_records_of_its_version(nsdbench, tmp_path, caplog):
    (tmp_path / "nets" / "mine.py").write_text(NET + "# no other test has run it\n")
    line = "judge set.pt --dataset Digits16 --arch nets/mine.py:Linear --protocol common-1ep "
    line += "--repeats 2 --json"
    code, out, err = nsdbench(line)
    (record,) = json.loads(out)
    arch = record["cell"]["arch"]
    assert code == 0, err
    assert arch.startswith("nets/mine.py:Linear~") and len(arch.partition("~")[2]) == 12
    assert "running your code, with your rights: nets/mine.py" in caplog.text
    assert record["training"]["code_path"] == {"evaluation": "generic"}
    kept, _ = Store(tmp_path / "results").records("judged")
    assert {r.cell.arch for r in kept} == {arch} and len(kept) == 2  # Random's besides

    (tmp_path / "nets" / "mine.py").write_text(NET.replace("nn.Flatten(),", "nn.Flatten(1),"))
    code, out, err = nsdbench(line)
    (other,) = json.loads(out)
    assert code == 0 and other["cell"]["arch"] != arch
    kept, _ = Store(tmp_path / "results").records("judged")
    assert {r.cell.arch for r in kept} == {arch, other["cell"]["arch"]} and len(kept) == 4


def test_a_comma_in_its_path_does_not_end_it(nsdbench, tmp_path):
    (tmp_path / "nets, too").mkdir()
    (tmp_path / "nets, too" / "mine.py").write_text(NET + "# behind a comma\n")
    line = "judge set.pt --dataset Digits16 --protocol common-1ep --repeats 1 --json"
    code, out, err = nsdbench(f"{line} --arch 'convnet1-w4,nets, too/mine.py:Linear,mlp-w4'")
    assert code == 0, err
    names = [record["cell"]["arch"].partition("~")[0] for record in json.loads(out)]
    assert names == ["convnet1-w4", "nets, too/mine.py:Linear", "mlp-w4"]
    code, out, err = nsdbench(f"{line} --arch 'convnet1-w4,nets, gone/mine.py:Linear'")
    assert code == 2 and out == "" and "nets" in err and "Traceback" not in err


def test_a_table_takes_it(nsdbench, tmp_path):
    code, out, err = nsdbench("run mine")
    assert code == 0, err
    (record,), _ = Store(tmp_path / "results").records("smoke")
    assert record.cell.arch.startswith("nets/mine.py:Linear~")
    assert 0 < record.accuracy.mean < 100
    code, out, _ = nsdbench("status mine --json")
    (cell,) = json.loads(out)["tables"][0]["cells"]
    assert (cell["status"], cell["arch"]) == ("measured", record.cell.arch)
    code, out, _ = nsdbench("report mine --csv")
    assert record.cell.arch in out

    (tmp_path / "nets" / "mine.py").write_text(NET + "\n# another version\n")
    code, out, _ = nsdbench("status mine --json")
    (cell,) = json.loads(out)["tables"][0]["cells"]
    assert cell["status"] == "not run" and cell["arch"] != record.cell.arch

    (tmp_path / "nets" / "mine.py").unlink()
    code, out, err = nsdbench("run mine")
    assert code == 3 and "nets/mine.py: No such file or directory" in out + err


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("nets/gone.py:Linear", "error: nets/gone.py: No such file or directory; expected the"),
        ("nets/mine.py:Liner", "has nothing under 'Liner'; expected a factory"),
        ("nets/mine.py:Linear-w4", "takes no width, got 4; leave it out of the id"),
        ("nets/mine", "error: unknown architecture id 'nets/mine'; write convnet<depth>-w<width>"),
    ],
)
def test_what_is_wrong_is_one_line(nsdbench, arch, message):
    line = f"evaluate set.pt --dataset Digits16 --arch {arch} --protocol common-1ep --repeats 1"
    code, out, err = nsdbench(line)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and out == "" and len(errors) == 1 and message in errors[0]
    assert "Traceback" not in err


def test_list_says_how_to_name_it(nsdbench):
    code, out, _ = nsdbench("list archs --json")
    ids = {arch["name"]: arch["id"] for arch in json.loads(out)["archs"]}
    assert ids["FILE.py:FACTORY"] == "FILE.py:FACTORY[-d<depth>][-w<width>][-bn|-nonorm]"
    assert ids["resnet34"] == "resnet34[-w<width>][-bn|-nonorm]" and ids["mlp"] == "mlp[-w<width>]"
