"""Wrong-typed settings are refused by name before anything is trained."""

from typing import Literal

import pytest

from nsdbench import data, methods
from nsdbench.distillation import loop as distillation
from nsdbench.distillation import objectives
from nsdbench.distillation.objectives import ObjectiveContext
from nsdbench.sets import parameterizations
from nsdbench.signature import check_settings


def example(
    image, *, count: int, rate: float = 0.5, size: int | None = None, is_on: bool = False,
    word: str = "", kind: Literal["a", "b"] = "a", anything=None,
):  # fmt: skip
    """Take one setting of every type."""


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 3},
        {"count": 3, "rate": 2, "size": None, "is_on": True, "word": "w", "kind": "b"},
        {"count": 3, "rate": 2.5, "size": 4, "anything": [1]},
    ],
)
def test_settings_of_the_right_type_pass(settings):
    check_settings(example, 1, settings, "example")
    check_settings(example, 1, {**settings, "more": True}, "example", more=bool)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "missing a required.*'count'"),
        ({"count": 1, "cuont": 2}, "unexpected keyword argument 'cuont'"),
        ({"count": 1, "image": 2}, "multiple values for argument 'image'"),
        ({"count": 4.5}, "count is 4.5; expected a whole number"),
        ({"count": 4.0}, "count is 4.0; expected a whole number"),
        ({"count": True}, "count is True; expected a whole number"),
        ({"count": None}, "count is None; expected a whole number"),
        ({"count": 1, "size": 1.5}, "size is 1.5; expected a whole number"),
        ({"count": 1, "rate": "abc"}, "rate is 'abc'; expected a finite number"),
        ({"count": 1, "rate": True}, "rate is True; expected a finite number"),
        ({"count": 1, "rate": float("inf")}, "rate is inf; expected a finite number"),
        ({"count": 1, "is_on": "no"}, "is_on is 'no'; expected true or false"),
        ({"count": 1, "is_on": 1}, "is_on is 1; expected true or false"),
        ({"count": 1, "word": ["w"]}, r"word is \['w'\]; expected text"),
    ],
)
def test_other_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=f"example: .*{message}"):
        check_settings(example, 1, settings, "example")


def test_settings_beside_the_function_are_asked_for_too():
    with pytest.raises(ValueError, match="example: missing a required.*'more'"):
        check_settings(example, 1, {"count": 1}, "example", more=bool)
    with pytest.raises(ValueError, match="example: more is 'no'; expected true or false"):
        check_settings(example, 1, {"count": 1, "more": "no"}, "example", more=bool)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dm+objective.augment=no", "augment is 'no'; expected true or false"),
        ("dc+objective.inner_epochs=2.5", "inner_epochs is 2.5; expected a whole number"),
        ("dc+objective.real_batch=4.5", "real_batch is 4.5; expected a whole number"),
        ("dc+objective.lr_network=abc", "lr_network is 'abc'; expected a finite number"),
        ("idc+objective.momentum_network=abc", "momentum_network is 'abc'; expected a finite"),
        ("dct+parameterization.t3=4.5", "t3 is 4.5; expected a whole number"),
        ("nsd+parameterization.t1=1.5", "t1 is 1.5; expected a whole number"),
        ("dwt+parameterization.num_low=1.5", "num_low is 1.5; expected a whole number"),
        ("svd+parameterization.share=half", "share is 'half'; expected a finite number"),
        ("nsd+objective.syn_steps=2.5", "syn_steps is 2.5; expected a whole number"),
        ("nsd+objective.guided_weight=abc", "guided_weight is 'abc'; expected a finite number"),
        ("ftd+optimiser.ema_decay=abc", "`optimiser.ema_decay` is 'abc'; expected a finite number"),
        ("ftd+optimiser.ema_decay=1.5", "`optimiser.ema_decay` is 1.5; .* below 1"),
        ("nsd+optimiser.momentum=1", "`optimiser.momentum` is 1; expected .* below 1"),
        ("ftd+experts.rho=abc", "`experts.rho` is 'abc'; expected a finite number"),
        ("ftd+experts.alpha=-1", "`experts.alpha` is -1; expected a finite number of at least 0"),
        ("ftd+experts.optimiser=3", "`experts.optimiser` is 3; expected text"),
        ("forgetting+experts.keeps_correctness=yes", "`experts.keeps_correctness` is 'yes'"),
        ("random+coreset.draw_per_network=no", "`coreset.draw_per_network` is 'no'; expected true"),
    ],
)
def test_recipes_with_wrong_types_are_refused_before_experts_are_opened(method, message):
    def refuse():
        pytest.fail("experts were opened")

    spec = data.spec("Digits16")
    with pytest.raises(ValueError, match=message):
        values = methods.resolve(method, "Digits16", 10, "smoke").values
        parameterizations.plan(values["parameterization"], spec, 10)
        objectives.build(
            values["objective"], ObjectiveContext(None, None, spec.dsa_strategy, refuse)
        )


def test_a_fault_while_experts_are_opened_is_not_blamed_on_settings():
    def break_down():
        raise TypeError("a fault of ours")

    values = methods.resolve("nsd", "Digits16", 10, "smoke").values
    with pytest.raises(TypeError, match="a fault of ours"):
        objectives.build(values["objective"], ObjectiveContext(None, None, "", break_down))


def test_distill_plans_storage_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(
        distillation, "_objective", lambda *args: pytest.fail("the objective was built")
    )
    with pytest.raises(ValueError, match="t1 is 1.5; expected a whole number"):
        distillation.distill("nsd+parameterization.t1=1.5", "synthetic:3x1x8x8", 2)
