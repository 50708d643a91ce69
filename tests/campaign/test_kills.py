"""A hundred SIGKILLs, at random moments and at file events: records stay the undisturbed ones."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.test_resume import METHOD, TABLE, Place, differences

pytestmark = [pytest.mark.campaign, pytest.mark.slow]

KILLS = 50  # of each kind
SHORTER = {
    "epochs = 12": "epochs = 3", "batch_size = 64": "batch_size = 256",
    "iterations = 100": "iterations = 20", "80ep": "5ep",
}  # fmt: skip


class Forked(Place):
    """A place whose commands are forked from a process that has imported everything."""

    def __init__(self, folder: Path, declared: Path, zygote: subprocess.Popen) -> None:
        super().__init__(folder, declared)
        self.zygote = zygote

    def begin(self, event: int = -1) -> int:
        """Start `run small`; return its process id."""
        variables = {k: v for k, v in self.environment.items() if os.environ.get(k) != v}
        order = {"folder": str(self.folder), "variables": variables, "words": ["run", "small"]}
        self.zygote.stdin.write(json.dumps(order | {"event": event}) + "\n")
        self.zygote.stdin.flush()
        return int(self.zygote.stdout.readline())

    def end(self) -> int:
        """Wait for what was begun; return its exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(int(self.zygote.stdout.readline()))

    def kill(self, after_seconds: float) -> bool:
        """Run, and kill it after a while; say whether that was in time."""
        process = self.begin()
        time.sleep(after_seconds)
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.end() == -signal.SIGKILL

    def finish(self) -> str:
        self.begin()
        code = self.end()
        output = (self.folder / "output.txt").read_text(encoding="utf-8")
        assert code == 0 and "Traceback" not in output, output[-4000:]
        return output

    def partial(self) -> list[Path]:
        return list(self.folder.rglob(".*@*"))


@pytest.fixture(scope="module")
def zygote():
    program = Path(__file__).with_name("zygote.py")
    command = [sys.executable, str(program)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def declared(folder):
    for kind, name, text in (("methods", "tiny", METHOD), ("tables", "small", TABLE)):
        for old, new in SHORTER.items():
            text = text.replace(old, new)
        (folder / kind).mkdir()
        (folder / kind / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder, declared, zygote):
    """Return the results of a run that nothing disturbs, and the seconds it took."""
    Forked(folder / "first", declared, zygote).finish()  # from here on all is imported
    place = Forked(folder / "undisturbed", declared, zygote)
    started = time.monotonic()
    place.finish()
    return place.results(), time.monotonic() - started


def check(place: Forked, undisturbed: dict) -> None:
    place.finish()
    assert not differences(place.results(), undisturbed)
    assert not place.partial()
    assert not list(place.folder.rglob("*.damaged")), "what a kill leaves is never damaged"
    shutil.rmtree(place.folder)


def test_kills_at_random_moments(folder, declared, zygote, undisturbed):
    results, seconds = undisturbed
    dice, kills, histories = random.Random(0), 0, 0
    while kills < KILLS:
        place = Forked(folder / str(histories), declared, zygote)
        for _ in range(6):
            was_in_time = place.kill(dice.uniform(0.05, 0.6) * seconds)
            kills += was_in_time
            seconds *= 1.0 if was_in_time else 0.9  # the machine was busy when it was timed
        check(place, results)
        histories += 1
    print(f"{kills} kills in {histories} histories")


def test_kills_at_file_events(folder, declared, zygote, undisturbed):
    """Before and after files are synced and renamed, of all kinds that a run writes."""
    results, _ = undisturbed
    dice, kills, histories = random.Random(1), 0, 0
    while kills < KILLS:
        place = Forked(folder / str(histories), declared, zygote)
        for _ in range(6):
            place.begin(event=dice.randrange(60))
            kills += place.end() == -signal.SIGKILL
        check(place, results)
        histories += 1
    print(f"{kills} kills in {histories} histories")
