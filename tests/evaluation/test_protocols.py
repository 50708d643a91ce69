"""Protocols: published numbers, names and hashes."""

from dataclasses import dataclass, fields

import pytest
import torch

from nsdbench.evaluation import protocols


def test_common_is_the_papers_evaluation():
    """Paper, sec. 4.1; decay as counted in MTT's loop: 502 epochs at the rate, 499 at a tenth."""
    common = protocols.get("common")
    assert (common.lr, common.batch_size, common.momentum) == (0.01, 256, 0.9)
    assert (common.weight_decay, common.augment) == (5e-4, True)
    assert common.total_steps(10) == 1001
    assert common.decay_step(10) == 502
    assert common.total_steps(560) == 1001 * 3
    assert common.decay_step(560) == 502 * 3


def test_mtt_trains_at_the_learned_rate_and_dc_without_augmentation():
    assert protocols.get("mtt").lr is None
    dc = protocols.get("dc")
    assert (dc.augment, dc.total_steps(256), dc.decay_step(256)) == (False, 301, 152)


def test_haba_standardises_batches_and_fetches_every_base_once_an_epoch():
    """1,001 epochs of ceil(C N / 256) steps, 502 of them at the learned rate."""
    haba = protocols.get("haba")
    assert (haba.lr, haba.batch_size, haba.momentum) == (None, 256, 0.9)
    assert (haba.weight_decay, haba.augment, haba.standardises_batches) == (5e-4, True, True)
    assert (haba.total_steps(500), haba.decay_step(500)) == (2002, 1004)
    assert protocols.get("haba-150ep").total_steps(10) == 151
    added = haba.as_dict().keys() - protocols.get("mtt").as_dict().keys()
    assert added == {"standardises_batches"}
    assert "standardises_batches True" in str(haba)
    assert "standardises" not in str(protocols.get("mtt"))


def test_rtp_trains_for_300_epochs_at_one_rate():
    """Reference code: batches of 640, no decay of rate or weights, its own augmentation."""
    rtp = protocols.get("rtp")
    assert (rtp.lr, rtp.batch_size, rtp.momentum, rtp.weight_decay) == (0.01, 640, 0.9, 0)
    assert (rtp.augment, rtp.strategy) == (True, "flip_rotate")
    assert rtp.total_steps(1150) == 300 * 2
    assert rtp.decay_step(1150) == rtp.total_steps(1150), "nothing is trained after that step"
    assert protocols.get("rtp-20ep").total_steps(640) == 21
    assert "decays" not in str(protocols.get("common")) and "decays False" in str(rtp)


def test_glad_warms_up_for_501_epochs_and_falls_along_a_cosine_for_499():
    """GLaD's utils.py, by torch's own schedulers; the second follows after epoch index 500."""
    glad = protocols.get("glad")
    assert (glad.lr, glad.batch_size, glad.momentum, glad.weight_decay) == (1e-3, 256, 0.9, 5e-4)
    assert (glad.augment, glad.ema_decay, glad.decays) == (True, 0.995, False)
    assert glad.total_steps(10) == 1000 and glad.total_steps(257) == 2000
    assert protocols.get("glad-150ep").total_steps(10) == 151
    for name, epochs in (("glad", 1000), ("glad-150ep", 151), ("glad-1ep", 2)):
        sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
        half = epochs // 2
        linear = torch.optim.lr_scheduler.LinearLR(sgd, 1e-7, 1.0, total_iters=half)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=half)
        scheduler = linear
        for epoch in range(epochs):
            factor = protocols.get(name).rate_factor(epoch)
            assert 1e-3 * factor == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
            sgd.step()
            scheduler.step()
            if epoch == half:
                scheduler = cosine
    added = glad.as_dict().keys() - protocols.get("mtt").as_dict().keys()
    assert added == {"decays", "warms_up", "ema_decay"}
    assert "ema_decay 0.995" in str(glad) and "ema" not in str(protocols.get("mtt"))


@pytest.mark.parametrize("num_images", [1, 256, 257, 10_000])
def test_equal_steps_do_not_depend_on_the_set(num_images):
    protocol = protocols.get("common-equal-steps")
    assert protocol.total_steps(num_images) == 5000
    assert protocol.decay_step(num_images) == 2500
    assert protocols.get("common-equal-steps-3000").total_steps(num_images) == 3000


def test_other_epochs_are_another_protocol():
    short = protocols.get("common-150ep")
    assert short.name == "common-150ep"
    assert short.total_steps(10) == 151
    assert short.hash != protocols.get("common").hash
    names = [*protocols.names()[:4], "common-20ep", "full-20ep"]
    assert len({protocols.get(name).hash for name in names}) == len(names)


@pytest.mark.parametrize("name", ["", "full", "common-1.5ep", "commonly", "dsa"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError, match="common-equal-steps"):
        protocols.get(name)


@pytest.mark.parametrize("name", ["common-equal-steps-0", "common-0ep", "full-00ep"])
def test_nothing_is_no_training(name):
    with pytest.raises(ValueError, match=f"{name}.*expected at least 1"):
        protocols.get(name)


def test_a_protocol_of_the_full_data_judges_no_sets():
    with pytest.raises(ValueError, match="'full-20ep' is for the full data.*common-20ep"):
        protocols.get_for_sets("full-20ep")
    assert protocols.get_for_sets("dc") == protocols.get("dc")
    with pytest.raises(ValueError) as caught:
        protocols.get("full")
    assert "did you mean" not in str(caught.value)


def test_a_setting_that_came_later_changes_no_hash_until_it_is_used():
    @dataclass(frozen=True)
    class Later(protocols.Protocol):
        warm_up: int = 0

    today = protocols.get("common-150ep")
    settings = {field.name: getattr(today, field.name) for field in fields(today)}
    assert Later(**settings).hash == today.hash
    assert Later(**settings, warm_up=5).hash != today.hash
    assert Later(**settings, warm_up=5).as_dict()["warm_up"] == 5
