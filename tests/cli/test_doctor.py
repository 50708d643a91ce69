"""The doctor's report is JSON, is true, and notices an operator that computes wrongly."""

import json
import os
from pathlib import Path

import pytest
import torch

from nsdbench import ops
from nsdbench.cli import doctor
from nsdbench.ops import backend
from nsdbench.student import self_test
from nsdbench.student.convnet_step import STEPS


@pytest.fixture(scope="module")
def report():
    return doctor.report()


def test_report_is_json(report):
    assert json.loads(json.dumps(report)) == report


def test_report_is_true(report):
    assert report["torch"]["version"] == torch.__version__
    assert report["cpu"]["threads"] == torch.get_num_threads()
    assert report["cpu"]["cores"] == os.cpu_count()
    assert report["cuda"]["loaded"] == (
        torch.version.cuda is not None
        and torch.cuda.is_available()
        and (backend.FOLDER / "_C_cuda.so").exists()
    )
    assert report["cuda"]["loaded"] or report["cuda"]["reason"]
    built = (backend.FOLDER / "_C_cuda.so").exists()
    assert report["cuda"]["architectures_built"] == (["sm_75", "sm_80", "sm_90"] if built else [])


def test_simd_level_is_what_the_processor_has(report):
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "NSDBENCH_SIMD" in os.environ or not flags:
        pytest.skip("a level is asked for, or the processor's flags are not in /proc/cpuinfo")
    has_avx512 = {"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= set(flags)
    expected = "avx512" if has_avx512 else "avx2" if {"avx2", "fma"} <= set(flags) else "baseline"
    assert report["cpu"]["simd"] == expected


def test_datasets_found_exist(report):
    assert "FashionMNIST" in report["datasets"] and "CIFAR10" in report["datasets"]
    for place in report["datasets"].values():
        assert place is None or os.path.exists(place)


def test_self_test_passes(report):
    assert [test["device"] for test in report["self_test"]][0] == "cpu"
    for test in report["self_test"]:
        assert test["passed"] and test["error"] <= test["tolerance"]
    assert {test["device"] for test in report["self_test"]} == set(report["convnet"])


def test_it_names_the_path_of_students(report, monkeypatch):
    assert report["convnet"]["cpu"] == "native"
    assert report["convnet"].get("cuda", "graph") == "graph"
    assert "students take the native path on cpu" in doctor.render(report)
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    assert set(doctor.report()["convnet"].values()) == {"generic"}


@pytest.mark.parametrize("operator", ["reconstruct", "dsa", "inorm_relu_pool"])
def test_self_test_notices_a_wrong_operator(monkeypatch, operator):
    right = getattr(ops, operator)
    monkeypatch.setattr(ops, operator, lambda *operands: right(*operands) * (1 + 1e-9))
    tests = {test["operator"]: test for test in self_test.run("cpu")}
    assert [name for name, test in tests.items() if not test["passed"]] == [operator]
    assert "WRONG" in doctor.render(doctor.report() | {"self_test": list(tests.values())})


@pytest.mark.parametrize("path", ["native", "fused"])
def test_self_test_notices_a_wrong_step(monkeypatch, request, path):
    if path == "fused":
        request.getfixturevalue("fused_on_cpu")
    step = STEPS[path]
    right = step.gradient
    monkeypatch.setattr(step, "gradient", lambda *a: right(*a) * (1 + 1e-9))
    tests = {test["operator"]: test["passed"] for test in self_test.run("cpu")}
    assert not tests.pop("convnet") and all(tests.values())


def test_rendering_names_every_part(report):
    text = doctor.render(report)
    for part in (torch.__version__, report["cpu"]["simd"], "FashionMNIST", "reconstruct on cpu"):
        assert part in text
    if not report["cuda"]["loaded"]:
        assert f"not loaded: {report['cuda']['reason']}" in text


def test_doctor_prints_json_and_fails_if_the_native_code_is_wrong(nsdbench, monkeypatch):
    code, out, _ = nsdbench("doctor --json")
    facts = json.loads(out)
    assert code == 0 and all(test["passed"] for test in facts["self_test"])
    assert facts["torch"]["version"] == torch.__version__
    code, out, _ = nsdbench("doctor")
    assert code == 0 and torch.__version__ in out
    monkeypatch.setattr(doctor, "report", lambda: facts | {"self_test": [{"passed": False}]})
    assert nsdbench("doctor --json")[0] == 3
