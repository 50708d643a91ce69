"""How fast a GPU trains, measured once and kept in the user's cache, so that plans price it.

Two training steps as judged networks take them (augmentation, gradients, SGD), one of a small and
one of a large network, tell the cost of a step beside arithmetic and the rate of arithmetic:

    t_small = F_small / rate + step,    t_large = F_large / rate + step

with F as the plan counts it (`cost`). A copy on the device tells how fast bytes move. This takes
some seconds; `doctor --calibrate` does it. Cards are told apart by name.
"""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from nsdbench.bench.cost import GPU, Rates
from nsdbench.data.fetching.cache import cache_dir, find_cache_dir, make_folder
from nsdbench.distillation.objectives.registry import TRAINING_PASSES
from nsdbench.errors import DataCorrupt, checked
from nsdbench.models.sizes import network_size
from nsdbench.registry import Settings
from nsdbench.sums import read_summed_json, set_aside, write_summed_json

FILE = "calibration.json"
SMALL = ("convnet1-w8", (1, 8, 8), 10)  # architecture, image, batch: hardly any arithmetic
LARGE = ("convnet3-w128", (3, 32, 32), 256)  # the network and batch of the published protocol
_COPIED_BYTES = 2**28
_CALLS = 30
_STRATEGY = "color_crop_cutout_flip_scale_rotate"
_NUM_CLASSES = 10

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Card(Settings):
    model_config = ConfigDict(strict=False)
    flops: _Positive
    moved_bytes: _Positive
    step_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    code_path: str
    torch: str
    time: str


class _Content(Settings):
    cards: dict[str, _Card]


def measure(
    device: str,
    small: tuple = SMALL,
    large: tuple = LARGE,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Rates, str]:
    """Measure a device.

    Args:
        device: "cuda", "cuda:1" or "cpu".
        small, large: architecture, image and batch of the two steps.
        clock: seconds.

    Returns:
        Its rates, and the code path of the steps.
    """
    import torch

    place = torch.device(device)

    def median_of(run: Callable[[], object]) -> float:
        for _ in range(3):  # a capture, cuDNN's plans
            run()
        times = []
        for _ in range(_CALLS):
            _wait(place)
            started = clock()
            run()
            _wait(place)
            times.append(clock() - started)
        return statistics.median(times)

    seconds, flops, paths = [], [], []
    for arch, image_shape, batch in (small, large):
        step, path = _training_step(arch, image_shape, batch, place)
        seconds.append(median_of(step))
        paths.append(path())
        size = network_size(arch, image_shape, _NUM_CLASSES)
        flops.append(batch * TRAINING_PASSES * size.flops)
    source = torch.empty(_COPIED_BYTES // 4, device=place)
    target = torch.empty_like(source)
    copying = median_of(lambda: target.copy_(source))
    rate, step_seconds = solve(flops, seconds)
    return Rates(rate, 2 * _COPIED_BYTES / copying, step_seconds), paths[1]


def solve(flops: list[float], seconds: list[float]) -> tuple[float, float]:
    """Find rate and step of the two equations at the head of this file.

    A step that comes out negative is 0, and the rate that of the large network alone: its launches
    hide behind its arithmetic.

    Raises:
        ValueError: the large network did not take longer.
    """
    if not seconds[1] > seconds[0]:
        raise ValueError(
            f"a step of the large network took {seconds[1]:.2e} s, of the small one "
            f"{seconds[0]:.2e} s: something else uses the device; calibrate again when it is idle"
        )
    rate = (flops[1] - flops[0]) / (seconds[1] - seconds[0])
    step = seconds[0] - flops[0] / rate
    return (rate, step) if step >= 0 else (flops[1] / seconds[1], 0.0)


def keep(name: str, rates: Rates, code_path: str) -> Path:
    """Keep the rates of a card; those of others stay.

    Raises:
        OSError, ValueError: there is no cache to keep them in.
    """
    import torch

    path = make_folder(cache_dir()) / FILE
    cards = _cards(path)
    cards[name] = {
        "flops": rates.flops,
        "moved_bytes": rates.moved_bytes,
        "step_seconds": rates.step_seconds,
        "code_path": code_path,
        "torch": torch.__version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_summed_json(path, {"cards": cards}, indent=1)
    return path


def rates_of(name: str) -> Rates | None:
    """Return what is kept of a card, None if nothing is; a damaged file is set aside."""
    folder = find_cache_dir()
    card = None if folder is None else _cards(folder / FILE).get(name)
    if card is None:
        return None
    return Rates(card["flops"], card["moved_bytes"], card["step_seconds"])


def gpu_rates() -> Rates:
    """Return the rates of this machine's first GPU: as measured, else a guess (`cost.GPU`)."""
    import torch

    if not torch.cuda.is_available():
        return GPU
    return rates_of(torch.cuda.get_device_name(0)) or GPU


def _cards(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = read_summed_json(path, "a calibration")
        checked(_Content, content, str(path))
        return content["cards"]
    except FileNotFoundError:
        return {}
    except (DataCorrupt, ValueError) as damage:
        set_aside(path, damage)
        return {}


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _training_step(
    arch: str, image_shape: tuple[int, int, int], batch: int, device: Any
) -> tuple[Callable[[], object], Callable[[], str]]:
    """Make a step as evaluation takes it, and what names its code path."""
    import torch
    from torch.nn import functional as F

    from nsdbench import models
    from nsdbench.seeding import generator
    from nsdbench.student import augment
    from nsdbench.student.training_step import TrainingStep

    stream = generator(0, "calibration")
    model = models.from_id(
        arch, in_channels=image_shape[0], image_size=image_shape[1], num_classes=_NUM_CLASSES
    )
    models.initialize(model, stream)
    model.to(device)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    train = TrainingStep(model, sgd, lambda x, y: (F.cross_entropy(model(x), y),))
    images = torch.randn(batch, *image_shape, generator=stream).to(device)
    labels = torch.randint(_NUM_CLASSES, (batch,), generator=stream).to(device)

    def step() -> None:
        draw = augment.sample(_STRATEGY, batch, image_shape, stream)
        train(augment.apply(images, draw), labels)

    return step, lambda: train.code_path
