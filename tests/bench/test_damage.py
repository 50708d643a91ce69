"""Damaged files between the parts of a run: set aside and made anew, with the same numbers."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nsdbench import distillation, experts
from nsdbench.bench.arrays import read_arrays
from nsdbench.bench.cell import Cell
from nsdbench.errors import DataCorrupt
from nsdbench.experts import buffer, buffer_manifest
from nsdbench.sets import load_artefact

NAME = "synthetic:3x1x8x8"
CELL = Cell(NAME, 4, "tiny-nsd", "convnet1-w8", "common-20ep", "smoke")

pytestmark = pytest.mark.usefixtures("tiny_methods")


def flip(path, place):
    """Flip the lowest bit of one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_damaged_set_is_made_anew_with_the_same_number(tmp_path, measure_cell, caplog):
    before = measure_cell(CELL, tmp_path).accuracy
    (path,) = (tmp_path / "artefacts").glob("*.safetensors")
    images = load_artefact(path).images()
    flip(path, -3)
    (networks,) = (tmp_path / "work").glob("*.json")
    networks.unlink()
    assert measure_cell(CELL, tmp_path).accuracy == before
    assert path.with_name(f"{path.name}.damaged").exists() and f"{path} is damaged" in caplog.text
    assert load_artefact(path).images().equal(images)


@pytest.mark.parametrize("content", ["", "{", '{"key": 5}', '{"key": "k", "networks": {"0/0": 1}}'])
def test_damaged_kept_networks_never_block_a_cell(tmp_path, measure_cell, caplog, content):
    before = measure_cell(CELL, tmp_path).accuracy
    (networks,) = (tmp_path / "work").glob("*.json")
    networks.write_text(content)
    assert measure_cell(CELL, tmp_path).accuracy == before
    assert str(networks) in caplog.text and "set aside" in caplog.text


def test_kept_networks_of_another_cell_are_not_taken(tmp_path, measure_cell):
    before = measure_cell(CELL, tmp_path).accuracy
    (networks,) = (tmp_path / "work").glob("*.json")
    content = networks.read_text()
    content = content.replace(str(before.values[0][0]), "77.0")
    networks.write_text(content)
    assert measure_cell(CELL, tmp_path).accuracy == before


@pytest.mark.parametrize("kind", ["cut", "empty", "foreign", "flipped", "another's"])
def test_a_torn_checkpoint_is_set_aside_and_the_work_begins_anew(tmp_path, caplog, kind):
    def interrupt(phase, done, total, note=""):
        if (phase, done) == ("distill", 4):
            raise KeyboardInterrupt

    whole = distillation.distill("tiny-nsd", NAME, 4).images()
    for seed in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            distillation.distill("tiny-nsd", NAME, 4, seed=seed, work=tmp_path, progress=interrupt)
    path, other = sorted(tmp_path.glob("*.pt"))
    content = path.read_bytes()
    if kind == "flipped":
        flip(path, len(content) // 2)
    else:
        path.write_bytes(
            {
                "cut": content[: len(content) // 2],
                "empty": b"",
                "foreign": b"PK\x03\x04 something else",
                "another's": other.read_bytes(),
            }[kind]
        )
    assert distillation.distill("tiny-nsd", NAME, 4, work=tmp_path).images().equal(whole)
    assert f"{path} is damaged" in caplog.text and "set aside" in caplog.text
    assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_damaged_experts_are_trained_anew_from_there(tmp_path, caplog, epoch):
    before = distillation.distill("tiny-nsd", NAME, 4)
    (entry,) = experts.list_buffers()
    file = entry["path"] / buffer.TRAJECTORIES
    whole, manifest = file.read_bytes(), buffer_manifest.read_manifest(entry["path"])
    place = len(whole) - np.load(file)[1, epoch:].nbytes
    flip(file, place)
    with pytest.raises(DataCorrupt, match=f"snapshot {epoch} of expert 1 in .*{file.name} does"):
        experts.ExpertBuffer(entry["path"]).snapshot(1, epoch)
    experts.opening.set_back_damaged(entry["path"])
    assert distillation.distill("tiny-nsd", NAME, 4).images().equal(before.images())
    assert file.read_bytes() == whole
    assert buffer_manifest.read_manifest(entry["path"]) == manifest


def test_a_distillation_that_meets_damage_mends_it(caplog):
    before = distillation.distill("tiny-nsd", NAME, 4)
    (entry,) = experts.list_buffers()
    file = entry["path"] / buffer.TRAJECTORIES
    whole = np.load(file)
    for expert in range(2):
        for epoch in range(4):
            flip(file, 128 + whole[0, 0].nbytes * (4 * expert + epoch))
    assert distillation.distill("tiny-nsd", NAME, 4).images().equal(before.images())
    assert "it is trained anew from there" in caplog.text
    assert np.array_equal(np.load(file), whole)


def distil_before_and_as_nobody():
    before = distillation.distill("tiny-nsd", NAME, 4).images()
    (entry,) = experts.list_buffers()
    (entry["path"] / ".lock").unlink(missing_ok=True)
    entry["path"].chmod(0o555)
    for path in (*entry["path"].parents, *entry["path"].iterdir()):
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755 if path.is_dir() else 0o444)
    os.setuid(65534)
    assert distillation.distill("tiny-nsd", NAME, 4).images().equal(before)
    assert not (entry["path"] / ".lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_finished_experts_of_another_user_need_no_lock(tiny_methods):
    process = multiprocessing.get_context("spawn").Process(target=distil_before_and_as_nobody)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("complete", None), ("complete", "yes"), ("num_experts", 10**15), ("num_experts", -1),
        ("num_epochs", 10**9), ("num_parameters", "x"), ("experts", 5), ("experts", [{}]),
        ("kind", "stolen"), ("recipe", []), ("name", None),
    ],
)  # fmt: skip
def test_absurd_manifests_are_named_and_left_out(caplog, key, value):
    distillation.distill("tiny-nsd", NAME, 4)
    (entry,) = experts.list_buffers()
    manifest = buffer_manifest.read_manifest(entry["path"])
    changed = {**manifest, key: value} if value is not None else {**manifest}
    if value is None:
        del changed[key]
    buffer_manifest.write_manifest(entry["path"], changed)
    with pytest.raises(DataCorrupt, match="manifest.json"):
        experts.ExpertBuffer(entry["path"])
    assert experts.list_buffers() == [] and "manifest.json" in caplog.text


def test_arrays_that_say_to_be_huge_take_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**10,)}
    with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(b"\0" * 100)
    with pytest.raises(ValueError, match="a.npz does not hold images .*says to be float32"):
        read_arrays(path, ["images"])


def test_sigterm_says_that_the_same_command_goes_on(tmp_path, tiny_methods):
    program = (
        "import os, signal\n"
        "from nsdbench.distillation import loop\n"
        "from nsdbench.cli import app\n"
        "save = loop.LoopState.save\n"
        "def then_stop(*arguments):\n"
        "    save(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "loop.LoopState.save = then_stop\n"
        "app.main()\n"
    )
    words = f"distill --method tiny-nsd --dataset {NAME} --ipc 4 --out set.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()], capture_output=True, text=True,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert done.stdout.endswith("Stopped. The same command goes on from here.\n")
    assert "Traceback" not in done.stderr and list((tmp_path / "results" / "work").glob("*.pt"))


def test_the_sum_of_a_manifest_is_of_its_content():
    distillation.distill("tiny-nsd", NAME, 4)
    (entry,) = experts.list_buffers()
    file = entry["path"] / buffer_manifest.MANIFEST
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "seed": 1}))
    with pytest.raises(DataCorrupt, match="its content has changed since it was written"):
        experts.ExpertBuffer(entry["path"])
