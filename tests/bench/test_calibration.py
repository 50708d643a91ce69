"""Rates of a GPU: the two equations, what is kept, and what a plan makes of it."""

import json

import pytest
import torch

from nsdbench.bench import calibration, cost
from nsdbench.bench.cost import Rates, Work
from nsdbench.cli import doctor

RATES = Rates(flops=2e13, moved_bytes=3e12, step_seconds=4e-4)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path))
    return tmp_path


def test_the_equations_give_back_what_made_them():
    flops = [1e8, 2e11]
    seconds = [work / RATES.flops + RATES.step_seconds for work in flops]
    rate, step = calibration.solve(flops, seconds)
    assert rate == pytest.approx(RATES.flops) and step == pytest.approx(RATES.step_seconds)


def test_a_step_that_hides_behind_the_arithmetic_costs_nothing():
    # Twice the work in more than twice the time: the line through both points misses zero below.
    assert calibration.solve([1e12, 2e12], [1.0, 3.0]) == (2e12 / 3.0, 0.0)


def test_a_busy_device_is_no_measure():
    with pytest.raises(ValueError, match="something else uses the device"):
        calibration.solve([1e8, 2e11], [2e-3, 2e-3])


def test_seconds_of_work_by_hand():
    work = Work("distill", (), flops=4e13, steps=1000, moved_bytes=6e12)
    assert work.seconds(RATES) == pytest.approx(2 + 2 + 0.4)
    assert work.seconds(Rates.of_cores(2)) == pytest.approx(
        4e13 / (2 * cost.FLOPS_PER_CORE) + 6e12 / (2 * cost.BYTES_PER_CORE) + 2.0
    )


def test_cards_are_kept_by_name(cache):
    assert calibration.rates_of("card A") is None
    calibration.keep("card A", RATES, "graph")
    other = Rates(1e12, 1e11, 0.0)
    calibration.keep("card B", other, "fused")
    assert calibration.rates_of("card A") == RATES and calibration.rates_of("card B") == other
    content = json.loads((cache / calibration.FILE).read_text())
    assert content["cards"]["card A"]["code_path"] == "graph"


@pytest.mark.parametrize("text", ["{", '{"cards": {"card A": {"flops": -1}}}'])
def test_a_damaged_file_is_set_aside(text, cache, caplog):
    (cache / calibration.FILE).write_text(text)
    assert calibration.rates_of("card A") is None
    assert (cache / f"{calibration.FILE}.damaged").read_text() == text and caplog.records
    calibration.keep("card A", RATES, "graph")
    assert calibration.rates_of("card A") == RATES


def test_a_plan_prices_a_gpu_by_what_was_measured(monkeypatch):
    assert calibration.gpu_rates() == cost.GPU or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "card A")
    assert calibration.gpu_rates() == cost.GPU
    calibration.keep("card A", RATES, "graph")
    assert calibration.gpu_rates() == RATES


def test_measuring_goes_through_the_step_that_trains():
    """On the CPU, whose rates nobody keeps; a clock of its own, so that nothing hangs on load."""
    ticks = iter(range(10**6))
    # 30 calls each of small, large and copy: a call takes 1, 3 and 1 ticks of this clock.
    seconds = [0.0]

    def clock():
        number = next(ticks)
        is_end, call = number % 2 == 1, number // 2
        seconds[0] += (3.0 if 30 <= call < 60 else 1.0) if is_end else 0.0
        return seconds[0]

    small, large = ("convnet1-w4", (1, 8, 8), 2), ("convnet1-w8", (3, 16, 16), 4)
    rates, path = calibration.measure("cpu", small, large, clock)
    assert path == "native"
    work = [
        3 * batch * calibration.network_size(arch, shape, 10).flops
        for arch, shape, batch in (small, large)
    ]
    assert calibration.TRAINING_PASSES == 3
    assert rates.flops == pytest.approx((work[1] - work[0]) / 2.0)
    assert rates.moved_bytes == 2 * 2**28


def test_the_doctor_calibrates_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--calibrate: torch sees no GPU"):
        doctor.calibrate()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "AAB"[number])
    measured = []
    monkeypatch.setattr(
        calibration, "measure", lambda device: measured.append(device) or (RATES, "graph")
    )
    doctor.calibrate()
    assert len(measured) == 2 and calibration.rates_of("A") == calibration.rates_of("B") == RATES
