"""The benchmark and the check for a GPU, as far as they go without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import cuda, device_check

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_dry_run_goes_every_way(tmp_path):
    out = tmp_path / "dry.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda", "--dry-run", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert list(found) == ["machine", *cuda.GROUPS]
    assert set(found["outer_step"]["tiny, DSA"]) == {"graph", "fused", "autograd"}
    errors = found["gradient_error"]
    assert errors["graph, float32"] < 1e-4 < errors["first order, float32"]


def test_without_a_device_nothing_is_measured(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    assert cuda.main([]) == 2
    assert capsys.readouterr().out == "no CUDA device is available: nothing was measured\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run"], "give --out another file"),
        (["--groups", "judging,colour"], "unknown group 'colour'; there are outer_step"),
    ],
)
def test_what_is_asked_wrongly(words, message, capsys):
    with pytest.raises(SystemExit):
        cuda.main(words)
    assert message in capsys.readouterr().err


def test_a_group_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    def broken(bench):
        raise RuntimeError("no such kernel")

    out = tmp_path / "dry.json"
    monkeypatch.setattr(
        cuda, "GROUPS", {"one": broken, "gradient_error": lambda bench: {"graph": 0.5}}
    )
    assert cuda.main(["--dry-run", "--out", str(out), "--groups", "one,gradient_error"]) == 1
    assert json.loads(out.read_text())["gradient_error"] == {"graph": 0.5}
    assert "no such kernel" in capsys.readouterr().err


def test_the_check_without_a_device_says_so(tmp_path, monkeypatch, capsys):
    """Steps that fail are told, those after them run, and nothing passes for a device's."""
    asked = []

    def run(step, seconds, environment, log):
        asked.append(step.name)
        assert 0 < seconds <= step.seconds and str(device_check.SITE) in environment["PYTHONPATH"]
        status = failing.get(step.name, 0)
        return {"step": step.name, "status": status, "seconds": 1.0, "output": "{}"}

    failing = {}
    monkeypatch.setattr(device_check, "run", run)
    monkeypatch.setattr(device_check, "has_cuda", lambda environment: False)
    words = ["--out", str(tmp_path)]
    assert device_check.main([*words, "--no-build"]) == 3
    assert asked == ["doctor", "benchmark", "tests"]
    assert "no CUDA device" in capsys.readouterr().out
    assert json.loads((tmp_path / "device_check.json").read_text())["has_device"] is False
    failing = {"doctor": "stopped"}
    assert device_check.main([*words, "--no-build"]) == 1 and len(asked) == 6
    failing = {"build": 1}
    assert device_check.main(words) == 1 and asked[6:] == ["build"]


def test_a_step_that_takes_too_long_is_stopped_with_what_it_started(tmp_path):
    words = ("-c", "import subprocess, sys; print('begun', flush=True);"
             "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])")  # fmt: skip
    log = tmp_path / "log"
    found = device_check.run(device_check.Step("slow", words, 60), 5.0, dict(os.environ), log)
    assert found["status"] == "stopped" and found["seconds"] < 30
    assert "begun" in log.read_text()


def test_every_step_fits_into_the_time(tmp_path):
    """What cannot be left out, the build and the benchmark, leaves a minute for the tests."""
    seconds = {step.name: step.seconds for step in device_check.steps(tmp_path, True, True, None)}
    assert seconds["build"] + seconds["benchmark"] + 60 <= device_check.SECONDS
