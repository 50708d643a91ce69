"""A thousand damages to stored files: no reported number changes, no command ends in a traceback.

A small benchmark is run once. Then, for every damage, its files are put back, one of them is
damaged, what was made from it is removed, and the command that has to read it is run in this
process. Whatever it makes of the damage, the numbers are those of the undisturbed run, or are
missing from a report that names the file. Files that users edit (tables, methods) are left alone.
"""

import contextlib
import csv
import io
import logging
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsdbench.bench.store import Store
from nsdbench.bench.tables import published
from nsdbench.cli import app as cli

pytestmark = [pytest.mark.campaign, pytest.mark.slow]

PAPER = Path(__file__).parents[2] / "results" / "paper"
METHODS = {
    "tiny": """
extends = "nsd"
title = "Tiny"
[[settings]]
source = "test"
network = { width = 4, depth = 1 }
data = { preprocessing = "zca" }
experts = { num_experts = 2, epochs = 3, batch_size = 8 }
parameterization = { num_kernel_sets = 1 }
[settings.objective]
syn_steps = 2
expert_epochs = 1
max_start_epoch = 2
lr_inner = 0.02
batch_syn = 6
real_batch = 8
[settings.optimiser]
iterations = 6
lr_syn = 1.0
lr_kernels = 0.1
lr_lr = 1e-5
""",
    "latent": """
extends = "glad-suite"
title = "Latent"
[[settings]]
source = "test"
network = { width = 4, depth = 1 }
experts = { num_experts = 1, epochs = 3, batch_size = 8 }
[settings.parameterization]
layer = -2
prior_width = 2
prior_z_dim = 2
prior_w_dim = 4
prior_epochs = 2
prior_batch_size = 16
[settings.objective]
syn_steps = 2
expert_epochs = 1
max_start_epoch = 2
[settings.optimiser]
iterations = 4
""",
    "forgotten": """
extends = "forgetting"
title = "Forgotten"
[[settings]]
source = "test"
network = { width = 4, depth = 1 }
data = { preprocessing = "zca" }
experts = { num_experts = 1, epochs = 3, batch_size = 8, dsa_strategy = "flip" }
""",
}
TABLE = """
title = "Small"
source = "nobody"
[[rows]]
label = "Tiny"
family = "ours"
method = "tiny"
[[rows]]
label = "Latent"
family = "ours"
method = "latent"
[[rows]]
label = "Forgotten"
family = "coreset"
method = "forgotten"
[scales.smoke]
protocol = "common-2ep"
seeds = 1
repeats = 2
columns = [{ dataset = "folder:PICTURES", ipc = 2, arch = "convnet1-w4" }]
"""
# Of every thousand damages: how many, which files, and what is removed so that they are read.
RECORDS, NETWORKS = "results/records/*/*.json", "results/work/*.json"
SETS, CHECKPOINTS = "results/artefacts/*.safetensors", "results/work/*.pt"
KINDS = {
    "record": (150, RECORDS, ()),
    "networks": (90, NETWORKS, (RECORDS,)),
    "artefact": (150, SETS, (RECORDS, NETWORKS)),
    "checkpoint": (100, CHECKPOINTS, (RECORDS, NETWORKS, SETS)),
    "buffer": (160, "cache/experts/*/*.[nj]*", (RECORDS, NETWORKS, SETS, CHECKPOINTS)),
    "prior": (30, "cache/priors/*.safetensors", (RECORDS, NETWORKS, SETS, CHECKPOINTS)),
    "whitening": (80, "cache/zca/*.safetensors", (RECORDS, NETWORKS)),
    "decoded": (80, "cache/resized/*.safetensors", (RECORDS, NETWORKS)),
    "picture": (60, "results/images/*/*.npz", ()),
    "user's picture": (30, "pictures/*/*.png", (RECORDS, NETWORKS, SETS, CHECKPOINTS)),
    "published": (70, "paper/[tS]*", ()),
}
TABLES = [f"table{number}" for number in range(1, 7)]


class Place:
    """The benchmark, the files it left, and what it reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        noise = np.random.default_rng(0)
        for label in range(3):
            (folder / "live" / "pictures" / f"class{label}").mkdir(parents=True)
            for number in range(10):
                pixels = noise.integers(0, 120, (8, 8, 3)) + 60 * label
                path = folder / "live" / "pictures" / f"class{label}" / f"{number}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(path)
        shutil.copytree(PAPER, folder / "live" / "paper")
        for kind, files in (("methods", METHODS), ("tables", {"small": TABLE})):
            (folder / kind).mkdir()
            for name, text in files.items():
                text = f'name = "{name}"\n' + text.replace("PICTURES", f"{folder}/live/pictures")
                (folder / kind / f"{name}.toml").write_text(text)

    def command(self, *words: str) -> tuple[int, str]:
        """Run the command line in this process; return its exit code and all that it said."""
        said = io.StringIO()
        handler = logging.StreamHandler(said)
        logging.getLogger("nsdbench").addHandler(handler)
        sys.argv = ["nsdbench", *words]
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        finally:
            logging.getLogger("nsdbench").removeHandler(handler)
        assert "Traceback" not in said.getvalue(), said.getvalue()
        return code, said.getvalue()

    def run(self) -> tuple[int, str]:
        return self.command("run", "small", "--results", str(self.folder / "live" / "results"))

    def report(self, *more: str) -> tuple[int, str]:
        results = str(self.folder / "live" / "results")
        return self.command("report", *more, "--results", results)

    def numbers(self) -> dict:
        """Return the accuracies of all records and what they were measured on."""
        records, _ = Store(self.folder / "live" / "results").records()
        done = [record for record in records if record.failure is None]
        return {r.cell.method: (r.accuracy.values, r.data.checksum) for r in done}

    def restore(self) -> None:
        """Put every file back as the undisturbed run left it, times of change included."""
        shutil.rmtree(self.folder / "live")
        shutil.copytree(self.folder / "kept", self.folder / "live")


@pytest.fixture(scope="module")
def place(folder):
    made = Place(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSDBENCH_METHODS", str(folder / "methods"))
        patch.setenv("NSDBENCH_TABLES", str(folder / "tables"))
        patch.setenv("NSDBENCH_CACHE", str(folder / "live" / "cache"))
        patch.setattr(published, "folder", lambda: folder / "live" / "paper")
        patch.setattr(sys, "argv", sys.argv)
        code, said = made.run()
        assert code == 0, said
        shutil.copytree(folder / "live", folder / "kept")
        yield made


def damage(content: bytes, other: bytes, dice: random.Random) -> bytes:
    """Flip a bit, cut, insert, remove or replace a piece, or replace all by another file's."""
    place = dice.randrange(len(content)) if content else 0
    length = dice.choice((1, 2, 8, 64, 1000))
    how = dice.choice(("flip", "flip", "flip", "cut", "insert", "remove", "replace", "other"))
    if how == "flip" and content:
        flipped = bytes([content[place] ^ 1 << dice.randrange(8)])
        return content[:place] + flipped + content[place + 1 :]
    if how == "cut":
        return content[:place]
    if how == "insert":
        return content[:place] + dice.randbytes(length) + content[place:]
    if how == "remove":
        return content[:place] + content[place + length :]
    if how == "replace":
        return content[:place] + dice.randbytes(length) + content[place + length :]
    return other


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_changes_a_number_or_ends_in_a_traceback(place, kind):
    count, pattern, removed = KINDS[kind]
    kept, live = place.folder / "kept", place.folder / "live"
    files = sorted(path.relative_to(kept) for path in kept.glob(pattern))
    every = sorted(path for path in kept.rglob("*") if path.is_file())
    assert files
    place.restore()
    undisturbed = place.numbers()
    _, reported = place.report("small", "--csv")
    printed = {n: place.report(n, "--scale", "paper", "--csv")[1] for n in TABLES}
    dice = random.Random(kind)
    ends = Counter()
    for number in range(count):
        place.restore()
        path = files[number % len(files)]
        content = (kept / path).read_bytes()
        same_kind = [kept / file for file in files if file != path]
        other = dice.choice(same_kind if same_kind and dice.random() < 0.5 else every).read_bytes()
        damaged = damage(content, other, dice)
        (live / path).write_bytes(damaged)
        for glob in removed:
            for file in live.glob(glob):
                file.unlink()
        where = f"damage {number} to {path}"
        if kind == "published":
            name = path.stem if path.stem in TABLES else "table1"
            code, said = place.report(name, "--scale", "paper", "--csv")
            ends["refused" if code else "read"] += 1
            assert said == printed[name] if code == 0 else str(live / "paper") in said, where
        elif kind == "record":
            code, said = place.report("small", "--csv")
            ends["read" if said == reported else "left out"] += 1
            assert code == 0, where
            if said != reported:
                assert path.name in said, f"{where}: the file is not named"
            known = {line["row"]: line for line in lines(reported)}
            for line in lines(said):
                is_known = all(line[name] == known[line["row"]][name] for name in line)
                assert is_known or line["status"] == "not run", where
        elif kind == "picture":
            code, said = place.report("small", "--html", str(live / "report.html"))
            assert code == 0, where
            text = (live / "report.html").read_text(encoding="utf-8")
            ends["named" if path.name in text else "drawn"] += 1
            for values, _ in undisturbed.values():
                assert f"{sum(values[0]) / 2:.1f}" in text, where
        else:
            code, said = place.run()
            is_anew = "set aside" in said or "trained anew" in said
            ends["failed" if code else "made anew" if is_anew else "read"] += 1
            for method, (values, checksum) in place.numbers().items():
                was = undisturbed[method]
                # pictures that their owner changed are other data, and the record says so
                is_other_data = kind == "user's picture" and checksum != was[1]
                assert values == was[0] or is_other_data, f"{where}: another number\n{said}"
            if code != 0:
                assert kind == "user's picture" and path.name in said, f"{where}:\n{said}"
            if kind != "user's picture":
                assert place.numbers().keys() == undisturbed.keys(), f"{where}:\n{said}"
        partial = [p for p in live.rglob(".*@*")]
        assert not partial, where
    print(f"{kind}: {dict(ends)}")


def lines(text: str) -> list[dict[str, str]]:
    """Read the lines of a CSV report, without warnings before it."""
    start = text.index("table,row,")
    return list(csv.DictReader(io.StringIO(text[start:])))


def test_there_are_a_thousand_damages():
    assert sum(count for count, _, _ in KINDS.values()) == 1000
    assert os.environ.get("OMP_NUM_THREADS") == "1", "numbers must not depend on the machine"
