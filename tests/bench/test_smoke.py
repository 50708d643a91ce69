"""The demonstration's claim, on the real smoke cells with one set each."""

import pytest

from nsdbench.bench.cell import Cell


@pytest.mark.slow
def test_full_data_beats_nsd_and_nsd_beats_random_selection(tmp_path, monkeypatch, measure_cell):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    means = {}
    for method, ipc, protocol in (
        ("random", 1, "common-150ep"),
        ("mtt", 1, "common-150ep"),
        ("nsd", 1, "common-150ep"),
        ("full", 0, "full-20ep"),
    ):
        cell = Cell("Digits16", ipc, method, "convnet2-w16", protocol, "smoke")
        record = measure_cell(cell, tmp_path)
        assert record.status == "done", record.failure
        means[method] = record.accuracy.mean
        if record.distillation is not None:
            assert record.distillation.images_moved > 0.1
            assert record.distillation.loss_last < record.distillation.loss_first
    # chance is 10 %, and 360 test images make one accuracy uncertain by about 2.5 points
    assert means["full"] > means["nsd"] > means["random"] + 5
    assert means["mtt"] > means["random"] + 5
    assert means["random"] > 30


@pytest.mark.slow
def test_latents_of_a_trained_prior_beat_random_selection(tmp_path, monkeypatch, measure_cell):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    means = {}
    for method in ("random", "glad-suite"):
        cell = Cell("Digits64", 1, method, "convnet4-w16", "common-150ep", "smoke")
        record = measure_cell(cell, tmp_path, repeats=2)
        assert record.status == "done", record.failure
        means[method] = record.accuracy.mean
    assert means["glad-suite"] > means["random"] + 8
