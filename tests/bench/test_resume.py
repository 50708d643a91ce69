"""Runs that are killed, or share a folder, end with the records of an undisturbed run."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nsdbench.bench.store import Store

ROOT = Path(__file__).parents[2]
METHOD = """
name = "tiny"
title = "Tiny"
extends = "nsd"
[[settings]]
source = "test: every phase takes about a second"
network = { width = 8, depth = 1 }
experts = { num_experts = 2, epochs = 12, batch_size = 64 }
parameterization = { num_kernel_sets = 1 }
[settings.objective]
syn_steps = 3
expert_epochs = 1
max_start_epoch = 2
lr_inner = 0.02
batch_syn = 8
real_batch = 16
[settings.optimiser]
iterations = 100
lr_syn = 1.0
lr_kernels = 0.1
lr_lr = 1e-5
"""
TABLE = """
name = "small"
title = "Small"
source = "nobody"
[[rows]]
label = "Tiny"
family = "ours"
method = "tiny"
[[rows]]
label = "Random"
family = "coreset"
method = "random"
[scales.smoke]
protocol = "common-80ep"
seeds = 2
repeats = 2
columns = [{ dataset = "Digits16", ipc = 2, arch = "convnet1-w8" }]
"""
# The command line as it is, but every step of progress is a line of output.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
sys.path.append(sys.argv.pop(1))
from nsdbench.cli import app as cli, console
console.SECONDS_BETWEEN_LINES = 0.0
cli.main()
"""
# Progress that a kill may undo: distillation keeps a checkpoint of every fifth of its 100 steps,
# experts every epoch, evaluation every network.
STRIDE = {"experts": 1, "distill": 5, "evaluate": 1}
PROGRESS = re.compile(r": (experts|distill|evaluate) (\d+)/(\d+)")


class Place:
    """A results folder and a cache of their own, and the processes that run there."""

    def __init__(self, folder, declared):
        self.folder = folder
        folder.mkdir()
        self.environment = os.environ | {
            "NSDBENCH_METHODS": str(declared / "methods"),
            "NSDBENCH_TABLES": str(declared / "tables"),
            "NSDBENCH_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    def start(self):
        """Start `run small`."""
        return subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(ROOT), "run", "small"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.folder, env=self.environment,
        )  # fmt: skip

    def finish(self):
        """Run to the end and return the output."""
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def stop_at(self, phase, done, delay_seconds, how=signal.SIGKILL):
        """Run until a phase has done that many steps, and send a signal a moment later.

        Returns:
            The first step of the phase that this run reported.
        """
        seen, first = [], None
        with self.start() as process:
            for line in process.stdout:
                seen.append(line)
                match = PROGRESS.search(line)
                if match and match[1] == phase:
                    first = int(match[2]) if first is None else first
                if match and match[1] == phase and int(match[2]) >= done:
                    assert int(match[2]) < int(match[3]), "too late to be in the middle of a phase"
                    time.sleep(delay_seconds)
                    process.send_signal(how)
                    break
            rest, _ = process.communicate(timeout=60)
        output = "".join(seen) + rest
        if how == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL, output
        else:  # Ctrl-C
            assert process.returncode == 130 and "Traceback" not in output, output
            assert output.endswith("The same command goes on from here.\n")
        return first

    def results(self):
        """Return all that two runs must agree in, by name: fields of records and decoded images."""
        records, warnings = Store(self.folder / "results").records()
        assert warnings == [] and [record.status for record in records] == ["done"] * 2
        found = {}
        for record in records:
            for field, value in record.comparable().items():
                found[f"{record.cell.method}: {field}"] = value
        for path in sorted((self.folder / "results" / "images").rglob("*.npz")):
            with np.load(path) as arrays:
                found |= {f"{path.name}: {name}": arrays[name].tolist() for name in arrays}
        return found


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    """Return a folder with the method `tiny`, and one with the table `small`."""
    folder = tmp_path_factory.mktemp("declared")
    (folder / "methods").mkdir()
    (folder / "tables").mkdir()
    (folder / "methods" / "tiny.toml").write_text(METHOD)
    (folder / "tables" / "small.toml").write_text(TABLE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, declared):
    """Return the results of a run that nothing disturbs."""
    place = Place(tmp_path_factory.mktemp("undisturbed") / "place", declared)
    place.finish()
    results = place.results()
    assert sum(name.endswith("npz: images") for name in results) == 2
    return results


def differences(here, there):
    """Return the names of what two runs do not agree in."""
    return {name for name in here | there if here.get(name) != there.get(name)}


@pytest.mark.campaign
@pytest.mark.slow
def test_killed_runs_end_with_the_records_of_an_undisturbed_run(tmp_path, declared, undisturbed):
    place = Place(tmp_path / "place", declared)
    moments = random.Random(0)
    place.stop_at("experts", 1, 0.0, signal.SIGINT)
    kept = {"experts": 1, "distill": 0, "evaluate": 0}
    for phase, earliest, latest in (
        ("experts", 2, 6),
        ("experts", 9, 15),
        ("distill", 10, 30),
        ("distill", 50, 70),
        ("evaluate", 1, 1),
        ("evaluate", 3, 3),
    ):
        moment = moments.randint(earliest, latest)
        first = place.stop_at(phase, moment, moments.uniform(0.0, 0.05))
        assert first > kept[phase], "it repeated work that was kept"
        kept[phase] = moment - moment % STRIDE[phase]
    place.finish()
    assert not differences(place.results(), undisturbed)
    assert "Nothing left to do." in place.finish()


@pytest.mark.slow
def test_two_runs_on_one_folder_end_with_the_records_of_an_undisturbed_run(
    tmp_path, declared, undisturbed
):
    place = Place(tmp_path / "place", declared)
    processes = [place.start(), place.start()]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert not differences(place.results(), undisturbed)
