"""The command line as a whole: mistakes, places that are missing, completion, the program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsdbench.cli import app as cli
from tests.cli.texts import CELL_ID, SET


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
        ("run mine --devices cpu,tpu9", "--devices 'tpu9': expected cpu, cuda, cuda:N or auto"),
        ("run mine --devices cpu --device cpu", "--devices names the devices; leave one out"),
        ("run mine --devices " + "cpu," * 999 + "cpu", "expected 1 to"),
        ("run mine --shard 9/8", "--shard '9/8': expected NUMBER/COUNT"),
        ("plan mine --shard third", "--shard 'third': expected NUMBER/COUNT"),
        ("run mine --device tpu9", "--device 'tpu9': expected cpu, cuda, cuda:N or auto"),
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


@pytest.mark.parametrize("line", ["run", "nonsense", "run mine --colour red", "evaluate"])
def test_wrong_arguments_exit_2(nsdbench, line):
    code, _, err = nsdbench(line)
    assert code == 2 and "Traceback" not in err


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


def test_the_version_is_that_of_the_package(nsdbench):
    from nsdbench import __version__

    assert nsdbench("--version") == (0, f"nsdbench {__version__}\n", "")


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
