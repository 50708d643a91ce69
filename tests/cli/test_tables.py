"""run, plan, status, report and gc: what they print, their exit codes, and what they leave."""

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from nsdbench.bench import artefacts, tables
from nsdbench.bench import plan as planning
from nsdbench.bench import run as running
from nsdbench.bench.store import Store
from nsdbench.cli import app as cli
from nsdbench.experts import Run
from tests.cli.texts import CELL_ID, ODD, TINY


def make_plan(results, names, scale, data_root=None, **choice):
    return planning.make(planning.Choice(names, scale, **choice), Run(results, data_root))


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
    assert "data:image/webp;base64," in html
    assert (folder / "out" / f"{record.pictures_name}.png").read_bytes().startswith(b"\x89PNG")
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


def test_what_diverged_is_done_again_from_its_start(nsdbench, folder, monkeypatch):
    path = folder / "tables" / "mine.toml"
    path.write_text(path.read_text().replace('"dream"', '"tiny"'))
    (folder / "methods" / "tiny.toml").write_text(TINY.replace("iterations = 50", "iterations = 2"))
    cell_id, store = CELL_ID.replace("random", "tiny"), Store(folder / "results")
    assert nsdbench("run mine --where method=tiny")[0] == 0
    before = store.read("smoke", cell_id)
    code, out, _ = nsdbench("run mine --retry diverged --retry failed")
    assert code == 0 and "0 cells at scale smoke" in out and "Nothing left to do." in out
    monkeypatch.setattr("nsdbench.bench.facts.runaway", lambda *_: "it ran")
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


@pytest.mark.parametrize("option", ["--jobs 0", "--device quantum"])
def test_wrong_options_of_a_run_are_said_before_the_plan(nsdbench, option):
    code, out, err = nsdbench(f"run mine {option}")
    assert (code, out) == (2, "") and err.startswith(f"error: {option.split()[0]}")


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
    left = [(kind, "of no recipe") for kind in ("pictures", "set", "set")]
    assert listed() == [made] * 2 + left
    old = [path for path in results.rglob("tiny*.safetensors") if path in before]
    with FileLock(old[0].with_suffix(".lock")):
        out = nsdbench("gc --delete")[1]
    assert f"{old[0].relative_to(folder)} stays: somebody works on it" in out
    assert "Removed 4" in out and [path.exists() for path in old] == [True, False]
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
