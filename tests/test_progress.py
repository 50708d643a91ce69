"""Progress: bars and lines with the time left, in a notebook too; what Python shows by default."""

import io
import sys
from types import ModuleType

import pytest
from rich.console import Console

import nsdbench
from nsdbench import progress as module
from nsdbench.progress import Bars, curves, reporting, silent

DATA = "synthetic:3x1x8x8"


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by a list whose last number is the time now."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[-1])
    return now


def test_lines_where_there_is_no_terminal_say_the_time_left(clock):
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=False, width=80)) as bars:
        for step in range(101):
            clock[-1] = 1.0 * step
            bars("distill", step, 200, f"loss {step}")
    assert stream.getvalue().splitlines() == [
        "distill 0/200 loss 0",
        "distill 30/200 loss 30, about 2.8 min left",  # 170 s
        "distill 60/200 loss 60, about 2.3 min left",
        "distill 90/200 loss 90, about 1.8 min left",
    ]
    assert "\x1b" not in stream.getvalue()


def test_a_resumed_phase_counts_what_was_done_since(clock):
    """At piece 150 of 200 after 40 s, where it went on from 100: 40 s are left, not 13."""
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=False, width=80)) as bars:
        bars("distill", 100, 200)
        clock[-1] = 40.0
        bars("distill", 150, 200)
    assert stream.getvalue() == "distill 100/200\ndistill 150/200, about 40 s left\n"


def test_a_terminal_has_a_bar_with_the_time_left(clock):
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=80)) as bars:
        bars("distill", 0, 10)
        clock[-1] = 20.0
        bars("distill", 2, 10, "loss 1.5")
        bars._live.refresh()
    assert "\u2501" in stream.getvalue() and "2/10 loss 1.5, about 80 s left" in stream.getvalue()


class Output:
    """What ipywidgets shows in a cell of a notebook."""

    def close(self):
        """Go, for a notebook."""

    def clear_output(self, wait=False):
        """Do what the real one does, for a notebook."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def notebook(monkeypatch):
    """Have a notebook around, and return what it displays."""
    shown = []
    for name, values in (
        ("IPython", {}),
        ("IPython.display", {"display": lambda thing: shown.append(str(vars(thing)))}),
        ("ipywidgets", {"Output": Output}),
    ):
        stand_in = ModuleType(name)
        vars(stand_in).update(values)
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(module, "find_spec", lambda name: name if name in sys.modules else None)
    return shown


def test_a_notebook_has_a_bar(notebook, clock):
    with Bars(Console(force_jupyter=True, width=80)) as bars:
        bars("distill", 0, 10)
        clock[-1] = 20.0
        bars("distill", 2, 10, "loss 1.5")
        bars._live.refresh()
    assert any("about 80 s left" in text for text in notebook)
    assert any("\u2501" in text for text in notebook)


def test_a_notebook_without_widgets_has_lines(notebook, monkeypatch, clock):
    monkeypatch.delitem(sys.modules, "ipywidgets")
    with Bars(Console(force_jupyter=True, width=80)) as bars:
        bars("distill", 0, 10)
        clock[-1] = 40.0
        bars("distill", 5, 10)
    assert bars._live is None
    assert "distill 0/10" in notebook[0] and "5/10, about 40 s left" in notebook[1]


def test_what_public_functions_take():
    told = []
    with reporting(lambda *step: told.append(step)) as report:
        report("distill", 1, 2, "loss 1")
    assert told == [("distill", 1, 2, "loss 1")]
    with reporting(None) as report:
        assert report is silent
    with pytest.raises(ValueError, match="progress is 'tqdm'; expected \"bar\", None, or a"):
        with reporting("tqdm"):
            pass


def test_python_shows_progress_by_default_and_none_does_not(tiny_methods, capsys, tmp_path, clock):
    artefact = nsdbench.distill("tiny-nsd", DATA, 4, work=tmp_path / "a")
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert [line.partition("/")[0] for line in lines] == ["experts 1", "distill 1"]
    assert shown.out == ""
    nsdbench.distill("tiny-nsd", DATA, 4, work=tmp_path / "b", progress=None)
    assert capsys.readouterr() == ("", "")
    nsdbench.evaluate(artefact, DATA, "convnet1-w8", "common-1ep", 2)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("evaluate 0/2 ") and second.startswith("train 1/")
    nsdbench.evaluate(artefact, DATA, "convnet1-w8", "common-1ep", 2, progress=None)
    assert capsys.readouterr() == ("", "")
    told = []
    result = nsdbench.evaluate(
        artefact, DATA, "convnet1-w8", "common-9ep", 2, progress=lambda *x: told.append(x[:3])
    )
    steps = result.steps
    assert [x for x in told if x[0] == "train"] == [
        ("train", done, 2 * steps) for done in range(1, 2 * steps + 1)
    ]
    assert [x for x in told if x[0] == "evaluate"] == [("evaluate", n, 2) for n in range(3)]


def read_back(folder):
    """Read the curves of an event file: steps and values by name."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_the_loss_of_a_distillation_is_a_curve_of_tensorboard(tiny_methods, tmp_path):
    pytest.importorskip("tensorboard")
    artefact = nsdbench.distill(
        "tiny-nsd", DATA, 4, work=tmp_path / "work", tensorboard=tmp_path / "curves", progress=None
    )
    (folder,) = (tmp_path / "curves").iterdir()
    assert folder.name.startswith("tiny-nsd-")
    curve = artefact.metadata["distillation"]["curve"]
    assert [step for step, _ in read_back(folder)["loss"]] == list(range(1, len(curve) + 1))
    assert [v for _, v in read_back(folder)["loss"]] == pytest.approx(
        [v for _, v in curve], rel=1e-6
    )


def test_a_resumed_curve_goes_on_where_it_was(tmp_path):
    pytest.importorskip("tensorboard")
    for first, steps in ((1, range(1, 8)), (6, range(6, 11))):
        with curves(tmp_path, first) as curve:
            for step in steps:
                curve("loss", 10.0 * first + step, step)
    known = read_back(tmp_path)["loss"]
    assert [step for step, _ in known] == list(range(1, 11))
    assert [value for _, value in known] == [11, 12, 13, 14, 15, 66, 67, 68, 69, 70]


def test_no_folder_needs_no_tensorboard_and_a_folder_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with curves(None) as curve:
        assert curve is None
    with pytest.raises(ValueError, match=r"pip install 'nsdbench\[tensorboard\]'"):
        with curves(tmp_path):
            pass
