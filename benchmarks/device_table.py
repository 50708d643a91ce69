"""Measure a piece of the table for a GPU on a bare machine, within some minutes.

    python -m benchmarks.device_table --out FOLDER --data FOLDER [--minutes 9] [--wheels FOLDER]
    python -m benchmarks.device_table --out NEXT --from FOLDER --data FOLDER    # goes on there

Takes packages from wheels and builds, as `device_check` does. Then it runs `cifar10-jpeg` at scale
paper for the time that is left, and packs what that leaves into FOLDER: results.tar.00 and so on,
none above 15 MiB, with records, pictures, distilled sets, manifests of experts, checkpoints and
judged networks. Beside them report.md, device_table.json (what ran, how long, how it ended) and
device_table.log (all output). Data and experts are not packed: experts are trained again from the
same seeds.

The exit status is 0 when the table is done, 4 when its time is up, 3 without a CUDA device at scale
paper, else 1. The report and the manifests are for reading: they may fail. `--scale smoke
--no-build` rehearses it on a CPU, `--where method=nsd` takes some cells, `--table` another table.
"""

import argparse
import json
import sys
import tarfile
import time
from pathlib import Path

from benchmarks import device_check
from benchmarks.device_check import NO_DEVICE, ROOT, Step

TIME_UP = 4
RESULTS = ROOT / "build" / "device_table"  # on a machine that is kept, the next piece goes on here
PACKED = ("records", "images", "experts", "artefacts", "work")
PART_BYTES = 15 * 2**20
RESERVE = 90.0  # seconds for the piece of work at the time limit, report, manifests and packing
LEAST = 60.0  # seconds below which running is not worth its start


def pack(results: Path, out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write what a run left into one tar archive, cut into parts of at most so many bytes.

    Locks stay behind, and so do checkpoints of sets that are finished.
    """

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        folder, name = Path(info.name).parent.name, Path(info.name).stem
        is_over = (
            folder == "work" and (results / "artefacts" / f"{name}-draw0.safetensors").exists()
        )
        return None if is_over or info.name.endswith((".lock", "locks")) else info

    whole = out / "results.tar"
    with tarfile.open(whole, "w") as archive:
        for name in PACKED:
            if (results / name).exists():
                archive.add(results / name, name, filter=kept)
    for old in out.glob("results.tar.*"):
        old.unlink()
    parts = []
    with whole.open("rb") as file:
        while content := file.read(part_bytes):
            parts.append(out / f"results.tar.{len(parts):02d}")
            parts[-1].write_bytes(content)
    whole.unlink()
    return parts


def unpack(folder: Path, results: Path) -> None:
    """Put back what `pack` wrote.

    Raises:
        ValueError: there is nothing of that kind in the folder, or a part is missing.
    """
    parts = sorted(folder.glob("results.tar.*"))
    expected = [folder / f"results.tar.{number:02d}" for number in range(len(parts))]
    if not parts or parts != expected:
        found = ", ".join(part.name for part in parts) or "nothing"
        raise ValueError(f"{folder} holds {found}; expected results.tar.00 and all that follow")
    results.mkdir(parents=True, exist_ok=True)
    whole = results / "results.tar"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    try:
        with tarfile.open(whole) as archive:
            archive.extractall(results, filter="data")
    except tarfile.ReadError as error:
        raise ValueError(f"{folder}: the parts are no whole archive ({error})") from error
    finally:
        whole.unlink()


def main(words: list[str] | None = None) -> int:
    """Prepare the machine, run the table until the time is up, and pack what is there."""
    started = time.monotonic()
    asked = _read(words)
    out, results = asked.out.resolve(), asked.results.resolve()
    environment = device_check.variables()
    environment["NSDBENCH_CACHE"] = str(results / "cache")
    if asked.data is not None:
        environment["NSDBENCH_DATA"] = str(asked.data.resolve())
    if asked.scale == "paper" and not device_check.has_cuda(environment):
        print("no CUDA device: scale paper needs one; --scale smoke rehearses it")
        return NO_DEVICE
    out.mkdir(parents=True, exist_ok=True)
    log = out / "device_table.log"
    log.write_text("", encoding="utf-8")
    if asked.resume is not None:
        try:
            unpack(asked.resume, results)
        except ValueError as error:
            print(f"--from {error}")
            return 1
    done: list[dict[str, int | str | float]] = []

    def taken(step: Step) -> int | str:
        found = device_check.run(step, step.seconds, environment, log)
        output = device_check.told(found)
        if step.name == "report":
            (out / "report.md").write_text(output, encoding="utf-8")
        done.append(found)
        return found["status"]

    for step in device_check.preparation(not asked.no_build, asked.wheels):
        if taken(step) != 0:
            return _finish(out, done, results, 1)
    end = started + 60 * asked.minutes
    left = end - time.monotonic()
    if left < LEAST + RESERVE:
        print(f"{left:.0f} s are left after the preparation, too few to run; give more --minutes")
        return _finish(out, done, results, 1)
    of_table = (asked.table, "--scale", asked.scale, "--results", str(results))
    where = ("--where", asked.where) if asked.where else ()
    limit = ("--time-limit", f"{left - RESERVE:.0f}s")
    ended = taken(Step("run", ("-m", "nsdbench", "run", *of_table, *where, *limit), left - 45))
    taken(Step("report", ("-m", "nsdbench", "report", *of_table, "--markdown"), 20))
    manifest = ("-m", "nsdbench", "experts", "manifest", "--results", str(results))
    taken(Step("manifests", manifest, max(end - time.monotonic() - 10, 10)))
    status = {0: 0, TIME_UP: TIME_UP}.get(ended, 1)
    return _finish(out, done, results, status)


def _finish(out: Path, done: list[dict], results: Path, status: int) -> int:
    """Pack, write what was done, and return the exit status."""
    parts = pack(results, out) if results.exists() else []
    size = sum(part.stat().st_size for part in parts) / 2**20
    facts = {"status": status, "steps": done, "packed_mib": round(size, 1)}
    (out / "device_table.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"packed {size:.1f} MiB into {len(parts)} files of {out}; exit status {status}")
    return status


def _read(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.device_table", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder for what it leaves")
    parser.add_argument("--from", type=Path, dest="resume", help="the --out of the piece before")
    parser.add_argument("--data", type=Path, help="folder that holds CIFAR10-JPEG.tar.xz")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (9)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to take packages from")
    parser.add_argument("--no-build", action="store_true", help="take what is built")
    parser.add_argument("--table", default="cifar10-jpeg")
    parser.add_argument("--scale", default="paper", choices=("smoke", "paper"))
    parser.add_argument("--where", help="some cells, as in `nsdbench run`")
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.wheels is not None and not any(asked.wheels.glob("*.whl")):
        parser.error(f"--wheels {asked.wheels}: expected a folder with .whl files")
    if asked.data is not None and not asked.data.is_dir():
        parser.error(f"--data {asked.data}: there is no such folder")
    return asked


if __name__ == "__main__":
    sys.exit(main())
