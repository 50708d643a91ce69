"""Start commands of the suite quickly: import everything once, then fork for every command.

Reads lines of JSON from stdin, {"folder": ..., "variables": {...}, "words": [...], "event": N},
and writes a line with the process id of each, then one with its exit status (as `os.wait` has it).
What the first command that ends well has imported is then imported here, for those that follow.
With an event N >= 0 the command kills itself at its Nth file event: just before or just after a
file is synced or renamed.
"""

import contextlib
import importlib
import itertools
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch

import nsdbench.bench.run
import nsdbench.distillation.loop
import nsdbench.evaluation.judge
import nsdbench.experts.recording  # noqa: F401
from nsdbench.cli import app


def dying(function, count, at):
    """Have a function kill its process before or after the call that is due."""

    def call(*arguments, **options):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def child(folder, variables, words, event):
    os.chdir(folder)
    os.environ.update(variables)
    if event >= 0:
        count = itertools.count()
        for name in ("fsync", "replace"):
            setattr(os, name, dying(getattr(os, name), count, event))
    log = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["nsdbench", *words]
    code = 0
    try:
        app.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 99
    sys.stdout.flush()
    if not IS_WARM:
        Path("modules.json").write_text(json.dumps(list(sys.modules)))
    os._exit(code)


def warm_up(file):
    warnings.simplefilter("ignore")
    for name in json.loads(file.read_text()):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


IS_WARM = False
torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    process = os.fork()
    if process == 0:
        child(**order)
    print(process, flush=True)
    status = os.waitpid(process, 0)[1]
    if status == 0 and not IS_WARM:
        warm_up(Path(order["folder"]) / "modules.json")
        IS_WARM = True
    print(status, flush=True)
