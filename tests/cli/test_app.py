"""The command line: what it prints and which exit code it ends with, without measuring anything."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from nsdbench import data, experts, methods, models
from nsdbench.bench import artefacts, judging, tables
from nsdbench.bench import plan as planning
from nsdbench.bench import run as running
from nsdbench.bench.store import Store
from nsdbench.cli import app as cli
from nsdbench.cli import doctor
from nsdbench.data import names as dataset_names
from nsdbench.experts import Run
from nsdbench.sets import Artefact, parameterizations
from nsdbench.student import unroll

TABLE = """
name = "mine"
title = "Mine"
source = "nobody"
[[rows]]
label = "Random"
family = "coreset"
method = "random"
[[rows]]
label = "Dream"
family = "ours"
method = "dream"
[scales.smoke]
protocol = "common-2ep"
seeds = 2
repeats = 1
columns = [{ dataset = "Digits16", ipc = 1, arch = "convnet1-w8" }]
[scales.paper]
protocol = "common"
seeds = 1
repeats = 5
columns = [{ dataset = "ImageNette", ipc = 1, arch = "convnet5-w128" }]
"""
TINY = """
name = "tiny"
title = "Tiny"
extends = "nsd"
[[settings]]
source = "test"
network = { width = 8, depth = 1 }
experts = { num_experts = 1, epochs = 2, batch_size = 8 }
parameterization = { num_kernel_sets = 1 }
[settings.objective]
syn_steps = 2
expert_epochs = 1
max_start_epoch = 2
lr_inner = 0.02
batch_syn = 6
[settings.optimiser]
iterations = 50
lr_syn = 1.0
lr_kernels = 0.1
lr_lr = 1e-5
"""
SET = (
    "distill --method tiny --dataset synthetic:3x1x8x8@8+4 --ipc 4 --out OUT --set "
    "experts.epochs=2 --set "
)
ODD = """
name = "odd"
title = "Odd"
kind = "distillation"
source = "nobody"
[[settings]]
source = "replaced for all cells by the next block"
parameterization = { name = "lace" }
[[settings]]
source = "test"
parameterization = { name = "pixels" }
[[settings]]
when = { scale = "paper" }
source = "test"
parameterization = { name = "quilt" }
"""
CELL_ID = "Digits16-ipc1-random-convnet1-w8-common-2ep"


def make_plan(results, names, scale, data_root=None, **choice):
    return planning.make(planning.Choice(names, scale, **choice), Run(results, data_root))


@pytest.fixture
def folder(tmp_path, monkeypatch, undescribed):
    """Work in an empty folder with the table `mine`, without data and without downloads."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine.toml").write_text(TABLE)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "tiny.toml").write_text(TINY)
    monkeypatch.setenv(methods.FOLDERS_VARIABLE, str(tmp_path / "methods"))
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path / "tables"))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    monkeypatch.delenv("NSDBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nsdbench(folder, monkeypatch, capsys):
    """Run a command in this process; returns (exit code, stdout, stderr)."""

    def run(line):
        words = shlex.split(line.replace("OUT", "x.safetensors"))
        monkeypatch.setattr(sys, "argv", ["nsdbench", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


def test_run_report_status_and_run_again(nsdbench, folder):
    code, out, _ = nsdbench("run mine")
    assert code == 0
    plan_at, started_at = (
        out.index("2 cells at scale smoke: 1 todo, 1 not implemented"),
        out.index(f"[1/1] {CELL_ID}"),
    )
    assert plan_at < started_at  # the plan is printed first
    assert re.search(rf"{CELL_ID}: \d+\.\d\d ± \d+\.\d\d % \(n = 2\)", out)
    assert out.rstrip().endswith("1 done, 1 not implemented")
    record = Store(folder / "results").read("smoke", CELL_ID)
    assert record.status == "done"
    assert record.provenance.command == "python -m nsdbench run mine"

    code, out, _ = nsdbench("run mine")
    assert code == 0 and "Nothing left to do." in out
    assert Store(folder / "results").read("smoke", CELL_ID) == record

    code, out, _ = nsdbench("status mine")
    assert code == 0 and out.startswith("mine: Mine\n")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert lines[CELL_ID].split()[1:] == ["Random", "measured"]
    assert "not implemented" in lines[CELL_ID.replace("random", "dream")]
    assert lines["mine"].split()[1:] == ["2", "1", "0", "0", "0", "0", "1"]
    found = json.loads(nsdbench("status mine --json --where method=random")[1])
    ((cell,),) = (part["cells"] for part in found["tables"])
    assert (cell["id"], cell["status"]) == (CELL_ID, "measured")
    assert cell["mean"] == record.accuracy.mean
    every = json.loads(nsdbench("status --scale paper --json")[1])
    shown = [part["name"] for part in every["tables"]]
    assert shown == [name for name in tables.names() if "paper" in tables.load(name).scales]

    code, out, _ = nsdbench("report mine")
    mean, std = record.accuracy.mean, record.accuracy.std
    assert code == 0 and f"{mean:.1f} ± {std:.1f}" in out
    assert "- not implemented: Dream" in out
    assert nsdbench("report mine --markdown")[1] == out
    assert nsdbench("report mine --csv")[1].startswith("table,row,family")
    assert "\\toprule" in nsdbench("report mine --latex")[1]
    code, out, _ = nsdbench("report mine --html out/report.html --images out")
    html = (folder / "out" / "report.html").read_text()
    assert code == 0 and "wrote out/report.html" in out
    assert "data:image/png;base64," in html
    assert (folder / "out" / f"{CELL_ID}.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = nsdbench("report mine --html site")
    assert code == 0 and out == "wrote site/index.html\n"
    assert (folder / "site" / "index.html").read_text() == html


def test_another_protocol_judges_the_same_sets_and_keeps_its_own_records(nsdbench, folder):
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace('"random"', '"tiny"'))
    where = "--where dataset=Digits16,method=tiny"
    (folder / "methods" / "tiny.toml").write_text(TINY.replace("iterations = 50", "iterations = 2"))
    assert nsdbench(f"run mine --seeds 1 {where}")[0] == 0
    artefacts = folder / "results" / "artefacts"
    sets = {path: path.stat().st_mtime_ns for path in artefacts.glob("*.safetensors")}
    assert len(sets) == 1
    usual = CELL_ID.replace("random", "tiny")
    equal = usual.replace("common-2ep", "common-equal-steps-7")
    made = make_plan(Path("results"), ["mine"], "smoke", seeds=1, protocol="mtt-2ep")
    (planned,) = (planned for planned in made.cells if planned.cell.method == "tiny")
    assert [part.phase for part in planned.estimate.work] == ["evaluate"]  # its set is there
    made = make_plan(Path("results"), ["mine"], "smoke", seeds=2, protocol="mtt-2ep")
    assert "distill" in [part.phase for part in made.cells[0].estimate.work]
    code, out, _ = nsdbench(f"run mine --seeds 1 {where} --protocol common-equal-steps-7")
    assert code == 0 and f"[1/1] {equal}" in out
    assert {path: path.stat().st_mtime_ns for path in artefacts.glob("*.safetensors")} == sets
    records = {name: Store(folder / "results").read("smoke", name) for name in (usual, equal)}
    steps = {name: record.training.steps for name, record in records.items()}
    assert steps == {usual: 3, equal: 7}
    for option, seen, unseen in (
        ("", usual, equal),
        ("--protocol common-equal-steps-7", equal, usual),
    ):
        number = f" {records[seen].accuracy.mean:.1f} |"
        code, out, _ = nsdbench(f"report mine {option}")
        assert code == 0 and number in out and records[seen].cell.protocol in out
        assert records[unseen].cell.protocol not in out
        plan = nsdbench(f"plan mine --seeds 1 {option} --where method=tiny")[1]
        assert re.search(rf"^{seen} +1 x 1 +done", plan, flags=re.MULTILINE) and unseen not in plan
    explained = nsdbench(f"explain {equal}")[1]
    assert "common-equal-steps-7: lr" in explained and "steps 7" in explained
    assert explained == nsdbench(f"explain mine {where} --protocol common-equal-steps-7")[1]


def test_cells_that_run_out_of_time_go_on_and_end_as_undisturbed(nsdbench, folder):
    """At no time at all every command does one piece of work: an epoch, a step, a network."""
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace('"dream"', '"tiny"'))
    (folder / "methods" / "tiny.toml").write_text(TINY.replace("iterations = 50", "iterations = 3"))
    reasons = set()
    for _ in range(20):
        code, out, _ = nsdbench("run mine --where method=tiny --cell-time-limit 0s")
        if code == 0:
            break
        assert code == 3
        reasons.update(re.findall(r"failed: \S+: (its time limit of 0 s ended at .*);", out))
    assert code == 0
    ends = ["experts 1/2", "experts 2/2", *(f"distill {k}/3" for k in (1, 2, 3)), "evaluate 1/2"]
    assert reasons == {f"its time limit of 0 s ended at {end}" for end in ends}
    assert nsdbench("run mine --where method=tiny --results undisturbed")[0] == 0
    cell_id = CELL_ID.replace("random", "tiny")
    ended, undisturbed = (
        Store(folder / name).read("smoke", cell_id) for name in ("results", "undisturbed")
    )
    assert ended.comparable() == undisturbed.comparable()


def test_distill_marks_what_ran_away(nsdbench, monkeypatch):
    line = SET + "optimiser.iterations=2"
    assert "diverged?" not in nsdbench(line)[1]
    monkeypatch.setattr("nsdbench.bench.divergence.runaway", lambda curve, moved: f"{len(curve)}")
    code, out, _ = nsdbench(line)
    assert code == 0 and out.endswith("bytes\ndiverged?: 2\n")


def test_what_diverged_is_done_again_from_its_start(nsdbench, folder, monkeypatch):
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace('"dream"', '"tiny"'))
    (folder / "methods" / "tiny.toml").write_text(TINY.replace("iterations = 50", "iterations = 2"))
    cell_id, store = CELL_ID.replace("random", "tiny"), Store(folder / "results")
    assert nsdbench("run mine --where method=tiny")[0] == 0
    before = store.read("smoke", cell_id)
    code, out, _ = nsdbench("run mine --retry diverged --retry failed")
    assert code == 0 and "0 cells at scale smoke" in out and "Nothing left to do." in out
    monkeypatch.setattr("nsdbench.bench.record.runaway", lambda *_: "it ran")
    out = nsdbench("status mine")[1]
    assert re.search(r"measured +1 +diverged\?: it ran", out)
    assert "1 todo, 1 done" in nsdbench("plan mine")[1]
    code, out, _ = nsdbench("run mine --retry diverged")
    assert code == 0 and f"[1/1] {cell_id}" in out and "Random" not in out
    assert re.search(rf"{cell_id}: .* \(n = 2\), diverged\?: it ran", out)
    aside = {p.name.split("-seed")[0] for p in (folder / "results").rglob("*.diverged")}
    kept = {p.name.split("-seed")[0] for p in (folder / "results").rglob("*") if p.is_file()}
    assert len(list((folder / "results").rglob("*.diverged"))) == 6  # 2 sets twice, 2 files
    assert {name.removesuffix(".diverged") for name in aside} <= kept, "all of it is made anew"
    assert store.read("smoke", cell_id).accuracy == before.accuracy


@pytest.mark.slow
def test_gc_removes_what_nobody_refers_to_and_nothing_else(nsdbench, folder):
    table, method = folder / "tables" / "mine.toml", folder / "methods" / "tiny.toml"
    results = folder / "results"
    table.write_text(table.read_text().replace('"dream"', '"tiny"'))
    settings = TINY.replace("iterations = 50", "iterations = 2")

    def listed():
        return sorted((x["kind"], x["reason"]) for x in json.loads(nsdbench("gc --json")[1]))

    def files():
        kept = ("*.safetensors", "*.pt", "work/*.json", "*.npz")
        return {path: path.stat().st_mtime_ns for kind in kept for path in results.rglob(kind)}

    def run_again(text):
        method.write_text(text)
        assert nsdbench("run mine")[0] == 0

    run_again(settings)
    made = ("checkpoint", "its set is made")
    assert listed() == [made] * 2
    before = files()
    assert nsdbench("gc")[0] == 0 and files() == before, "it lists, and removes nothing"
    code, out, _ = nsdbench("gc --delete")
    assert code == 0 and "Removed 2" in out and listed() == []
    assert before.items() - files().items() == {x for x in before.items() if x[0].suffix == ".pt"}
    assert "Nothing left to do." in nsdbench("run mine")[1]

    method.write_text(settings.replace("iterations = 2", "iterations = 3"))
    assert listed() == [], "the record refers to the sets of the old recipe"
    run_again(settings.replace("iterations = 2", "iterations = 3"))
    assert listed() == [made] * 2 + [("set", "of no recipe")] * 2
    old = [path for path in results.rglob("tiny*.safetensors") if path in before]
    with FileLock(old[0].with_suffix(".lock")):
        out = nsdbench("gc --delete")[1]
    assert f"{old[0].relative_to(folder)} stays: somebody works on it" in out
    assert "Removed 3" in out and [path.exists() for path in old] == [True, False]
    nsdbench("gc --delete")
    assert listed() == [] and len(list(results.rglob("tiny*.safetensors"))) == 2

    run_again(settings.replace("epochs = 2", "epochs = 3"))
    nsdbench("gc --delete")
    assert listed() == [("experts", "no recipe asks for them")]
    buffers = folder / "cache" / "experts"
    assert len(list(buffers.iterdir())) == 2
    code, out, _ = nsdbench("gc --delete --experts")
    assert "Removed 1" in out and len(list(buffers.iterdir())) == 1 and listed() == []
    assert "Nothing left to do." in nsdbench("run mine")[1]

    record = Store(results).path("smoke", CELL_ID)
    record.write_text("no record")
    code, out, err = nsdbench("gc --delete")
    assert code == 3 and "nothing is removed" in err and str(record.name) in err


def test_parts_share_a_results_folder(nsdbench, folder):
    """Each command does its part, and together they leave nothing; the first draws the figures."""
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace('"dream"', '"herding"'))
    assert nsdbench("plan mine --shard 3/3")[1].startswith("0 cells at scale smoke.")
    for number, figures in ((1, 1), (2, 0)):
        code, out, _ = nsdbench(f"run mine figure4 --shard {number}/2")
        assert code == 0 and "1 cell at scale smoke: 1 todo." in out
        assert out.count("figure4: similarity") == figures
        assert out.rstrip().endswith(f"{1 + figures} done")
    code, out, _ = nsdbench("run mine figure4")
    assert code == 0 and "2 cells at scale smoke: 2 done." in out and "Nothing left to do." in out


def test_a_figure_of_real_images_runs_and_is_drawn(nsdbench, folder):
    line = "figure4: similarity of 100 training images of class 0 of Digits16: "
    assert line + "todo" in nsdbench("plan figure4")[1]
    assert line + "todo" in nsdbench("status figure4")[1]
    code, out, _ = nsdbench("run figure4")
    assert code == 0 and line + "todo" in out and out.rstrip().endswith("1 done")
    assert "Nothing left" not in out
    assert line + "done" in nsdbench("status figure4")[1]
    code, out, _ = nsdbench("run figure4")
    assert code == 0 and "Nothing left to do." in out
    code, out, err = nsdbench("report figure4")
    assert code == 0 and "100 training images of class 0 of Digits16" in out
    for suffix in ("png", "csv"):
        assert f"wrote results/figures/smoke/figure4.{suffix}" in err
        assert (folder / "results" / "figures" / "smoke" / f"figure4.{suffix}").is_file()


def test_missing_data_is_named_with_the_ways_and_exits_3(nsdbench, folder):
    for command, expected in (("run", 3), ("plan", 0)):
        code, out, err = nsdbench(f"{command} mine --scale paper")
        assert code == expected and "Traceback" not in out + err
        for way in ("ImageNette is not on this machine", "--data-root", "NSDBENCH_DATA"):
            assert way in out
        assert "It keeps 1 cell from running." in out
    record = Store(folder / "results").read("paper", "ImageNette-ipc1-random-convnet5-w128-common")
    assert record.failure.kind == "data_missing"
    code, out, _ = nsdbench("report mine --scale paper")
    assert code == 0 and "data missing: Random (ImageNette ipc 1)" in out


def test_the_plan_is_printed_once_and_before_a_download(nsdbench, folder, monkeypatch):
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace("ImageNette", "CIFAR10").replace("net5", "net3"))
    monkeypatch.delenv("NSDBENCH_OFFLINE")
    fetched = []
    monkeypatch.setattr(planning, "locate", lambda name, root: folder if fetched else None)
    monkeypatch.setattr(planning.data, "load", lambda name, root: fetched.append(name))
    monkeypatch.setattr(running, "run_plan", lambda *_, **__: running.Outcome())
    code, out, _ = nsdbench("run mine --scale paper --where method=random")
    before, after = out.split("CIFAR10 is not on this machine; trying to download it\n")
    assert code == 0 and fetched == ["CIFAR10"]
    assert "1 data missing" in before and "1 todo" in after
    assert out.count("CIFAR10-ipc1-random-convnet3-w128-common") == 1


def test_a_failing_cell_exits_3_without_a_traceback(nsdbench, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(artefacts, "select_recipe", fail)
    code, out, err = nsdbench("run mine --where method=random")
    assert code == 3 and "Traceback" not in out + err
    assert f"failed: {CELL_ID}: RuntimeError: out of luck" in out
    code, out, _ = nsdbench("plan mine")
    assert code == 0 and "failed before: RuntimeError: out of luck" in out


def test_a_method_that_does_not_exist_is_printed_and_is_no_failure(nsdbench):
    code, out, _ = nsdbench("run mine --where method=dream")
    assert code == 0 and "0 done, 1 not implemented" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run table99", "unknown table 'table99'; known: cifar10-jpeg, fashion-mnist, "),
        ("plan mine --scale huge", "no scale 'huge'; choose one of smoke, paper"),
        ("run mine --where ipc=7", "ipc is one of 1"),
        ("run mine --where size=7", "expected key=value with a key of dataset"),
        ("run mine --seeds 0", "seeds is 0"),
        ("run mine --protocol usual", "unknown protocol 'usual'"),
        ("plan mine --protocol full", "unknown protocol 'full'"),
        ("report mine --protocol usual", "unknown protocol 'usual'"),
        ("explain mine --protocol usual", "unknown protocol 'usual'"),
        (f"explain {CELL_ID} --protocol dc", "--protocol goes with a table"),
        (f"explain {CELL_ID}-usual", "no table declares the cell"),
        ("run mine --jobs 1000", "--jobs 1000: expected 1 to"),
        ("run mine --time-limit soon", "--time-limit 'soon': expected a time such as 90s"),
        ("run mine --cell-time-limit 3", "--cell-time-limit '3': expected a time such as 90s"),
        ("run mine --retry broken", "--retry 'broken': expected one of failed, stale, diverged"),
        ("run mine --executor slurm", "--executor 'slurm': expected local or ray"),
        ("run mine --address auto", "--address goes with --executor ray, not with local"),
        ("run mine --jobs 2 --executor ray", "--jobs goes with --executor local, not with ray"),
        ("run mine --devices cpu,tpu9", "expected cpu, cuda, cuda:N or auto"),
        ("run mine --devices cpu --device cpu", "--devices names the devices; leave one out"),
        ("run mine --devices " + "cpu," * 999 + "cpu", "expected 1 to"),
        ("run mine --shard 9/8", "--shard '9/8': expected NUMBER/COUNT"),
        ("plan mine --shard third", "--shard 'third': expected NUMBER/COUNT"),
        ("run mine --device tpu9", "expected cpu, cuda, cuda:N or auto"),
        ("report table99", "unknown table 'table99'"),
        ("report --scale huge", "unknown scale 'huge'"),
        (
            "report mine --csv --latex",
            "choose one of --markdown, --latex, --csv, --json and",
        ),
        ("report mine --json --html x.html", "choose one of --markdown"),
        ("list nonsense", "cannot list 'nonsense'; choose one of methods, datasets"),
        ("explain nonsense", "no table declares the cell 'nonsense'"),
        ("distill --method magic --dataset Digits16 --ipc 1 --out OUT", "'magic' is not"),
        ("distill --method nsd --dataset Digits16 --ipc 1 --out OUT --set a", "--set 'a'"),
        ("distill --method nsd --dataset Moon --ipc 1 --out OUT", "got 'Moon'"),
        ("run tabel1", "did you mean table1 or table6"),
        ("plan table1 --scale papr", "choose one of smoke, small, paper; did you mean paper?"),
        ("status --scale papr", "did you mean paper?"),
        ("report table5 --protocol common-equal-step", "did you mean common-equal-steps"),
        ("list method", "did you mean methods?"),
        ("explain table1 --where method=randm", "did you mean random"),
        ("distill --method NSD --dataset Digits16 --ipc 1 --out OUT", "did you mean nsd"),
        ("distill --method nsd --dataset digits16 --ipc 1 --out OUT", "did you mean Digits16"),
        ("distill --method nsd --dataset Digits16 --ipc 1 --out OUT --scale huge", "unknown scale"),
        ("evaluate x.pt --dataset Digits16 --lr 0.1", "protocol common trains at rate 0.01"),
        ("evaluate x.pt --dataset Digits16 --lr 0 --protocol mtt", "expected a positive number"),
        ("experts record --dataset Digits16 --arch covnet --root x", "did you mean convnet or"),
        (SET + "objectve.syn_steps=2", "section of data, param"),
        (SET + "objective.syn_stps=2", "unknown key `syn_stps`"),
        (SET + "objective.syn_steps=many", "`syn_steps` is 'many'; expected a whole number"),
        (SET + "parameterization.t1=few", "`t1` is 'few'; expected a whole number"),
        (SET + "experts.epoch=2", "unknown key `experts.epoch`; known: buffer"),
        (SET + "optimiser.iterations=-1", "`optimiser.iterations` is -1; expected a whole number"),
        (SET + "optimiser.iterations=1.5", "`optimiser.iterations` is 1.5; expected a whole"),
        (
            SET + "optimiser.lr_syn=fast",
            "`optimiser.lr_syn` is 'fast'; expected a finite number of at",
        ),
        (SET + "experts.num_experts=true", "`experts.num_experts` is True; expected a whole"),
        (SET + "network.name=3", "`network.name` is 3; expected text"),
        (SET + "parameterization.name=spectra", "did you mean spectral"),
        (SET + "objective.name=trajectories", "did you mean trajectory"),
        ("evaluate absent.safetensors --dataset Digits16", "absent.safetensors"),
        ("evaluate absent.pt --dataset Digits16", "absent.pt"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(nsdbench, line, message):
    code, out, err = nsdbench(line)
    assert code == 2, (out, err)
    assert err.startswith("error: ") and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    "line",
    [
        "status --results file/results",
        "run mine --results file/results --where method=random",
        "report mine --html file/report.html",
        "report mine --images file",
        "distill --method nsd --dataset Digits16 --ipc 1 --out file/set.safetensors",
    ],
)
def test_a_path_that_cannot_be_used_is_one_message(nsdbench, folder, line):
    (folder / "file").write_text("no folder")
    code, out, err = nsdbench(line)
    assert "Traceback" not in out + err
    if line.startswith("status"):  # no records are there, as in a folder that does not exist
        assert code == 0
    else:
        assert code == 2 and "file" in err, (out, err)


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


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "a/b", ".hidden", "a b"])
def test_a_name_never_leaves_its_folder(nsdbench, folder, name):
    before = sorted(folder.rglob("*"))
    for line in (
        f"experts import x.pt --dataset Digits16 --name {shlex.quote(name)} --preprocessing zca",
        f"experts manifest {shlex.quote(name)}",
    ):
        code, _, err = nsdbench(line)
        assert code == 2 and err.startswith("error: the name of a buffer: "), err
        assert "cannot name a file" in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("home", [None, "/", "/nonexistent", ""])
@pytest.mark.parametrize(
    "line", ["list", "plan mine", "status mine", "report mine", "explain mine"]
)
def test_what_needs_no_cache_needs_no_home(nsdbench, monkeypatch, home, line):
    monkeypatch.delenv("NSDBENCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    without_home(monkeypatch, home)
    code, out, err = nsdbench(line)
    assert code == 0 and out and err == "", err


def without_home(monkeypatch, home):
    """Have HOME be as given; None: it is not set, and the system does not know the user."""
    if home is not None:
        monkeypatch.setenv("HOME", home)
        return
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)


@pytest.mark.parametrize("line", ["experts list", "experts record --dataset Digits16"])
def test_what_needs_a_cache_names_the_variable(nsdbench, monkeypatch, line):
    monkeypatch.delenv("NSDBENCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    without_home(monkeypatch, None)
    code, _, err = nsdbench(line)
    assert code == 2 and err == (
        "error: there is no home folder to keep a cache in; set NSDBENCH_CACHE to a folder that "
        "you can write to\n"
    )


@pytest.mark.parametrize("name", ["a[/b].html", "[red]x.html", "x:smile:.html"])
def test_the_path_of_a_report_is_no_markup(nsdbench, folder, name):
    code, out, err = nsdbench(f"report mine --html {shlex.quote(name)}")
    assert code == 0 and out == f"wrote {name}\n", err
    assert (folder / name).stat().st_size > 0


def test_no_result_is_lost_where_only_ascii_can_be_printed(folder, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["nsdbench", "report", "table1", "--scale", "paper"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert re.search(rb"\d\.\d\d? \+- \d\.\d", out.buffer.getvalue())


def test_a_file_of_something_else_is_one_message(nsdbench, folder):
    (folder / "odd.pt").write_text("no tensors")
    for line in (
        "evaluate odd.pt --dataset Digits16",
        "experts import odd.pt --dataset Digits16 --name odd --preprocessing zca --root buffers",
    ):
        code, out, err = nsdbench(line)
        assert code == 3 and err.startswith("error: odd.pt"), (out, err)
    code, out, err = nsdbench("evaluate tables --dataset Digits16")
    assert code == 3 and err.startswith("error: tables: holds folders (none); expected some")


def test_list_names_no_setting_that_a_protocol_has_not(nsdbench):
    out = nsdbench("list protocols")[1]
    assert "None" not in out and re.search(r"^mtt +lr learned step size, batch_size 256", out, re.M)
    assert re.search(r"^common-equal-steps +lr 0.01, .* steps 5000, augment True *$", out, re.M)


@pytest.mark.parametrize("line", ["run", "nonsense", "run mine --colour red", "evaluate"])
def test_wrong_arguments_exit_2(nsdbench, line):
    code, _, err = nsdbench(line)
    assert code == 2 and "Traceback" not in err


def test_list_shows_everything_there_is(nsdbench):
    code, out, _ = nsdbench("list")
    assert code == 0
    for name in (*methods.names(), *dataset_names(), *tables.names(), "common-equal-steps"):
        assert re.search(rf"^{re.escape(name)}\b", out, flags=re.MULTILINE), name
    assert re.search(r"^dream +not implemented|^dream\b", out, flags=re.MULTILINE)
    assert "resnet18_ap[-w<width>]" in out and "folder:PATH[@SIZE]" in out
    assert nsdbench("list archs")[1].startswith("archs:")


def test_list_says_what_every_method_is_made_of_and_what_is_missing(nsdbench, folder):
    (folder / "methods" / "odd.toml").write_text(ODD)
    code, out, _ = nsdbench("list methods --json")
    assert code == 0
    listed = {method["name"]: method for method in json.loads(out)["methods"]}
    declared = {row.method for name in tables.names() for row in tables.load(name).rows}
    assert set(listed) == {*methods.names(), *declared} - {None}
    for name, method in listed.items():
        if name not in methods.names():
            assert method["status"] == "not implemented" and method["title"]
            assert method["missing"].startswith("no file describes it; named by ")
        elif name != "odd":
            expected = (
                ("data missing", "prior 'stylegan-xl'") if name == "glad" else ("runnable", "")
            )
            assert (method["status"], method["missing"]) == expected, name
            assert method["title"] and method["kind"] and method["source"]
    assert listed["dream"]["missing"] == "no file describes it; named by mine"
    parts = ("kind", "parameterization", "objective", "selection")
    for name, expected in (
        ("nsd", ("distillation", "spectral", "trajectory", "")),
        ("mtt", ("distillation", "pixels", "trajectory", "")),
        ("k-center", ("coreset", "", "", "k-center")),
        ("full", ("full", "", "", "")),
        ("odd", ("distillation", "pixels, quilt", "", "")),
    ):
        assert tuple(listed[name][part] for part in parts) == expected
    assert listed["odd"]["missing"] == ("parameterization 'quilt', a name in the section objective")
    assert listed["odd"]["status"] == "not implemented"
    shown = nsdbench("list methods")[1]
    assert re.search(r"^nsd +NSD +distillation +spectral +trajectory +runnable", shown, re.M)


def test_every_command_says_that_a_method_lacks_a_part(nsdbench, folder):
    (folder / "methods" / "odd.toml").write_text(ODD)
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace('"random"', '"odd"'))
    lacks = "parameterization 'quilt', a name in the section objective"
    made = make_plan(Path("results"), ["mine"], "smoke", where={"method": ["odd"]})
    assert [(planned.status, planned.reason) for planned in made.cells] == [
        ("not implemented", lacks)
    ]
    for command, start in (
        ("list methods", "odd "), ("plan mine", "Digits16-ipc1-odd"),
        ("status mine", "Digits16-ipc1-odd"),
    ):  # fmt: skip
        (line,) = re.findall(rf"^{start}.*$", nsdbench(command)[1], re.M)
        assert "not implemented" in line and lacks in line
    assert f"not implemented: Random - {lacks}" in nsdbench("report mine")[1]
    code, out, _ = nsdbench("run mine")
    assert code == 0 and out.rstrip().endswith("0 done, 2 not implemented")


@pytest.mark.parametrize("command", ["plan", "explain"])
def test_a_set_over_its_budget_is_announced(nsdbench, command):
    """4,620 floats where ipc 1 allows 2,560."""
    code, out, _ = nsdbench(f"{command} table1 --where method=haba,dataset=Digits16,ipc=1")
    assert code == 0 and "(1.80 ipc: over budget)" in out
    assert "over budget" not in nsdbench(f"{command} table1 --where method=mtt,ipc=1")[1]


def test_explain_gives_every_value_its_source(nsdbench):
    code, out, _ = nsdbench("explain table1 --scale paper --where method=nsd,dataset=CIFAR10,ipc=1")
    recipe = methods.resolve("nsd", "CIFAR10", 1, "paper")
    assert code == 0 and recipe.hash in out
    for path, source in recipe.sources.items():
        section, key = path.split(".")
        value = json.dumps(recipe.values[section][key])
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [path]]
        assert value in line and line.endswith(source)
    network = models.from_id("convnet3-w128", in_channels=3, image_size=32, num_classes=10)
    code_path = unroll.code_path(network, "exact")
    assert f"unrolled gradient: mode exact, {code_path} code path on the CPU" in out
    assert "source:" in out
    same = nsdbench("explain CIFAR10-ipc1-nsd-convnet3-w128-common")[1]
    assert same == out
    assert "'dream' is not implemented" in nsdbench("explain mine --where method=dream")[1]
    judged = nsdbench("explain CIFAR10-ipc1-frepo-convnet3-w128-frepo")[1]
    assert "judged by  convnet_frepo3-w128-nonorm" in judged
    assert "distils with convnet_frepo3-w128-bn" in judged


def test_no_set_is_judged_by_a_protocol_of_the_full_data(nsdbench):
    other = CELL_ID.replace("common-2ep", "full-2ep")
    for line, message in (
        (f"explain {other}", f"no table declares the cell '{other}'"),
        ("plan mine --protocol full-2ep", "'full-2ep' is for the full data"),
    ):
        code, _, err = nsdbench(line)
        assert code == 2 and message in err


@pytest.mark.parametrize("option", ["--scale paper", "--where ipc=10", "--protocol dc"])
def test_a_cell_id_leaves_nothing_to_choose(nsdbench, option):
    code, out, err = nsdbench(f"explain {CELL_ID} {option}")
    assert (code, out) == (2, "")
    assert err.startswith(
        f"error: {option.split()[0]} goes with a table, and '{CELL_ID}' is not a table"
    )


def test_figures_of_real_images_have_no_cells(nsdbench):
    assert nsdbench("explain figure4")[:2] == (
        0, "figure4 has no cells at scale smoke: it compares real images\n",
    )  # fmt: skip
    for command in ("explain", "plan"):
        code, _, err = nsdbench(f"{command} figure4 --where ipc=1")
        assert code == 2 and "--where ipc=1 matches no cell: there is none to choose" in err
    for command in ("report figure4", "report figure4 --csv", "status figure4", "plan figure4"):
        code, _, err = nsdbench(f"{command} --protocol nonsense")
        assert code == 2 and "unknown protocol 'nonsense'" in err, command
    found = json.loads(nsdbench("status figure4 table6 --json")[1])
    assert found["figures"] == [{"name": "figure4", "is_computed": False}]
    assert nsdbench("run figure4")[0] == 0
    found = json.loads(nsdbench("status figure4 --json")[1])
    assert found["figures"] == [{"name": "figure4", "is_computed": True}]


@pytest.mark.parametrize("option", ["--jobs 0", "--device quantum"])
def test_wrong_options_of_a_run_are_said_before_the_plan(nsdbench, option):
    code, out, err = nsdbench(f"run mine {option}")
    assert (code, out) == (2, "") and err.startswith(f"error: {option.split()[0]}")


def test_doctor_prints_json_and_fails_if_the_native_code_is_wrong(nsdbench, monkeypatch):
    code, out, _ = nsdbench("doctor --json")
    facts = json.loads(out)
    assert code == 0 and all(test["passed"] for test in facts["self_test"])
    assert facts["torch"]["version"] == torch.__version__
    code, out, _ = nsdbench("doctor")
    assert code == 0 and torch.__version__ in out
    monkeypatch.setattr(doctor, "report", lambda: facts | {"self_test": [{"passed": False}]})
    assert nsdbench("doctor --json")[0] == 3


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


def test_experts_record_list_and_import(nsdbench, folder):
    code, out, _ = nsdbench(
        "experts record --dataset synthetic:3x1x8x8@8+4 --arch convnet1-w8 --num-experts 2 "
        "--epochs 3 --root buffers"
    )
    assert code == 0 and out.startswith("2 experts, 3 epochs: buffers/")
    theta = [torch.zeros(shape) for shape in ((8, 1, 3, 3), (8,), (8,), (8,), (3, 288), (3,))]
    torch.save([[theta, theta]], folder / "replay_buffer_0.pt")
    code, out, err = nsdbench(
        "experts import replay_buffer_0.pt --dataset synthetic:3x1x8x8@8+4 --arch convnet1-w8 "
        "--preprocessing zca --name theirs --root buffers"
    )
    assert code == 0, err
    code, out, _ = nsdbench("experts list --root buffers")
    assert code == 0 and "6/6" in out and "theirs" in out
    assert len(out.splitlines()) == 1 + len(experts.list_buffers(folder / "buffers")) == 3
    code, out, err = nsdbench("experts manifest --root buffers")
    assert code == 0, err
    written = {path.name for path in (folder / "results" / "experts").iterdir()}
    assert "theirs.json" in written and len(written) == len(out.splitlines()) == 2
    assert nsdbench("experts manifest ours --root buffers")[0] == 3
    assert nsdbench("experts manifest --root none")[:2] == (
        0, "There is no finished buffer in none.\n",
    )  # fmt: skip


@pytest.mark.slow
def test_the_module_runs_as_a_program(folder):
    root = Path(cli.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    (folder / "methods" / "dream.toml").write_text(
        'name = "dream"\ntitle = "D"\nextends = "nsd"\n[[settings]]\nsource = "x"\n'
        'objective = { name = "dreamt" }'
    )
    done = subprocess.run(
        [sys.executable, "-m", "nsdbench", "run", "mine", "--where", "method=dream"],
        capture_output=True, text=True, env=environment, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    assert "0 done, 1 not implemented" in done.stdout


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


def test_the_version_is_that_of_the_package(nsdbench):
    from nsdbench import __version__

    assert nsdbench("--version") == (0, f"nsdbench {__version__}\n", "")


def test_a_plan_is_json_with_what_the_table_shows(nsdbench):
    plan = json.loads(nsdbench("plan mine figure4 --json")[1])
    assert (plan["scale"], plan["warnings"], plan["missing_data"]) == ("smoke", [], {})
    assert plan["figures"] == [{"name": "figure4", "is_computed": False}]
    cell, other = plan["cells"]
    assert (cell["id"], cell["status"], cell["tables"]) == (CELL_ID, "todo", ["mine"])
    assert cell["seconds"] > 0 and cell["peak_bytes"] > 0 and cell["images"] == 10
    assert (cell["seeds"], cell["repeats"]) == (2, 1)
    assert (other["status"], other["seconds"]) == ("not implemented", None)
    missing = json.loads(nsdbench("plan mine --scale paper --json")[1])["missing_data"]
    assert list(missing) == ["ImageNette"] and "--data-root" in missing["ImageNette"]


def test_a_report_is_json_with_what_the_csv_says(nsdbench):
    import csv

    assert nsdbench("run mine")[0] == 0
    report = json.loads(nsdbench("report mine --json")[1])
    (table,) = report["tables"]
    assert (report["scale"], table["name"]) == ("smoke", "mine")
    rows = list(csv.DictReader(io.StringIO(nsdbench("report mine --csv")[1])))
    assert len(table["cells"]) == len(rows) == 2
    for cell, row in zip(table["cells"], rows, strict=True):
        assert row.pop("table") == "mine"
        assert row.keys() == cell.keys()
        for key, value in cell.items():
            if isinstance(value, float):
                assert float(row[key]) == value
            else:
                assert row[key] == ("" if value is None else str(value))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("plan fig", {"figure3", "figure4"}),
        ("report table1 --scale s", {"smoke", "small"}),
        ("distill --method nsd-u", {"nsd-unguided"}),
        ("evaluate x.pt --dataset Fash", {"FashionMNIST"}),
        ("evaluate x.pt --protocol common-eq", {"common-equal-steps"}),
        ("exp", {"explain", "export", "experts"}),
    ],
)
def test_a_shell_completes_names(monkeypatch, capsys, words, offered):
    """As bash asks: the words so far in the environment, the offers a line each."""
    monkeypatch.setenv("_NSDBENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"nsdbench {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    monkeypatch.setattr(sys, "argv", ["nsdbench"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, None)
    assert set(capsys.readouterr().out.split()) == offered


def test_a_judgement_that_is_stopped_says_that_it_goes_on(nsdbench, monkeypatch):
    def stopped(question, run):
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "judge", stopped)
    code, _, error = nsdbench("judge x.pt --dataset Digits16")
    assert code == 130 and error == "Stopped. The same command goes on from here.\n"


@pytest.mark.parametrize("option", ["", " --data-root ."])
def test_an_export_names_what_the_artefact_lacks(nsdbench, folder, option):
    spec = data.spec("Digits16")
    pixels = parameterizations.build({"name": "pixels"}, spec, 1)
    Artefact(pixels, {"preprocessing": "standardise"}).save(folder / "set.safetensors")
    code, _, error = nsdbench(f"export set.safetensors --format npz{option}")
    assert code == 2 and error == "error: the artefact does not say of which data set it is\n"
