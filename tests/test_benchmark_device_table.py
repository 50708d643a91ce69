"""The table for a GPU in pieces: what is run, what is packed, and how it goes on."""

import json
from pathlib import Path

import pytest

from benchmarks import device_check, device_table


@pytest.fixture
def results(tmp_path):
    """Return a folder as `run` leaves it: one set is finished, one is on its way."""
    folder = tmp_path / "results"
    files = {
        "records/paper/one.json": b"{}", "artefacts/nsd-seed0-draw0.safetensors": bytes(5000),
        "artefacts/nsd-seed0-draw0.lock": b"", "work/nsd-seed0.pt": b"over", "work/locks/one": b"",
        "work/mtt-seed0.pt": bytes(range(256)) * 40, "work/paper-one.json": b"[]",
        "cache/experts/large.npy": bytes(9000),
    }  # fmt: skip
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def steps(monkeypatch):
    """Replace what runs: return the steps asked for, and how some of them end."""
    asked, endings = [], {}

    def run(step, seconds, environment, log):
        asked.append((step, seconds, environment))
        status = endings.get(step.name, 0)
        return {"step": step.name, "status": status, "seconds": 1.0, "output": f"{step.name} said"}

    monkeypatch.setattr(device_check, "run", run)
    monkeypatch.setattr(device_check, "has_cuda", lambda environment: True)
    return asked, endings


def test_what_goes_on_is_packed_in_parts_and_put_back(results, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    out.mkdir()
    (out / "results.tar.99").write_bytes(b"of an older piece")
    parts = device_table.pack(results, out, part_bytes=4096)
    assert len(parts) > 3 and max(part.stat().st_size for part in parts) == 4096
    assert sorted(out.iterdir()) == parts
    device_table.unpack(out, again)
    kept = {str(path.relative_to(again)): path.read_bytes() for path in again.rglob("*.*")}
    assert set(kept) == {
        "records/paper/one.json", "artefacts/nsd-seed0-draw0.safetensors", "work/mtt-seed0.pt",
        "work/paper-one.json",
    }  # fmt: skip
    assert all((results / name).read_bytes() == content for name, content in kept.items())


def test_parts_that_are_missing_are_named(results, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match=r"holds nothing; expected results.tar.00"):
        device_table.unpack(out, tmp_path / "again")
    parts = device_table.pack(results, out, part_bytes=4096)
    parts[1].unlink()
    with pytest.raises(
        ValueError, match=r"holds results.tar.00, results.tar.02, .* all that follow"
    ):
        device_table.unpack(out, tmp_path / "again")
    for part in device_table.pack(results, out, part_bytes=4096)[1:]:
        part.unlink()
    with pytest.raises(ValueError, match="the parts are no whole archive"):
        device_table.unpack(out, tmp_path / "again")


def test_a_piece_prepares_runs_for_the_time_left_and_packs(results, steps, tmp_path, capsys):
    asked, endings = steps
    endings["run"] = device_table.TIME_UP
    out = tmp_path / "out"
    words = ["--out", str(out), "--data", str(tmp_path), "--results", str(results)]
    assert device_table.main([*words, "--minutes", "9", "--where", "ipc=1"]) == 4
    assert [step.name for step, *_ in asked] == ["build", "run", "report", "manifests"]
    run, seconds, environment = asked[1]
    assert run.words[:4] == ("-m", "nsdbench", "run", "cifar10-jpeg")
    assert run.words[-4:-1] == ("--where", "ipc=1", "--time-limit")
    limit = float(run.words[-1].removesuffix("s"))
    assert limit + device_table.RESERVE == pytest.approx(540, abs=5) and limit < seconds < 540
    assert environment["NSDBENCH_DATA"] == str(tmp_path)
    assert Path(environment["NSDBENCH_CACHE"]).parent == results
    facts = json.loads((out / "device_table.json").read_text())
    assert facts["status"] == 4 and [step["step"] for step in facts["steps"]][1] == "run"
    assert (out / "report.md").read_text() == "report said" and (out / "results.tar.00").exists()
    assert "exit status 4" in capsys.readouterr().out

    endings.update(run=0, manifests="stopped")
    next_out, elsewhere = tmp_path / "next", tmp_path / "elsewhere"
    words = ["--out", str(next_out), "--from", str(out), "--results", str(elsewhere)]
    assert device_table.main([*words, "--no-build"]) == 0
    assert (elsewhere / "work" / "mtt-seed0.pt").exists()
    assert not (elsewhere / "cache").exists()


@pytest.mark.parametrize("name", ["build", "run"])
def test_a_piece_that_fails_packs_what_there_is(results, steps, tmp_path, name):
    asked, endings = steps
    endings[name] = "stopped"
    words = ["--out", str(tmp_path / "out"), "--results", str(results)]
    assert device_table.main(words) == 1
    assert (tmp_path / "out" / "results.tar.00").exists()
    assert ("run" in [step.name for step, *_ in asked]) == (name == "run")


def test_it_asks_for_time_and_for_a_device(results, steps, tmp_path, monkeypatch, capsys):
    asked, _ = steps
    words = ["--out", str(tmp_path / "out"), "--results", str(results), "--no-build"]
    assert device_table.main([*words, "--minutes", "2"]) == 1 and not asked
    assert "give more --minutes" in capsys.readouterr().out
    monkeypatch.setattr(device_check, "has_cuda", lambda environment: False)
    assert device_table.main(words) == device_check.NO_DEVICE and not asked
    assert "--scale smoke rehearses it" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        device_table.main([*words, "--data", str(tmp_path / "nowhere")])
    assert "there is no such folder" in capsys.readouterr().err


def test_it_goes_on_with_nothing_but_what_a_piece_left(results, steps, tmp_path, capsys):
    asked, _ = steps
    words = ["--out", str(tmp_path / "out"), "--results", str(results), "--no-build"]
    assert device_table.main([*words, "--from", str(tmp_path / "nowhere")]) == 1 and not asked
    said = capsys.readouterr().out
    assert said.startswith(f"--from {tmp_path / 'nowhere'} holds nothing; expected results.tar.00")
