"""Wrong settings of a recipe are refused by name: by the plan, and before anything is trained."""

import pytest

from nsdbench import data, methods
from nsdbench.bench.cost import estimate
from nsdbench.distillation import loop as distillation
from nsdbench.distillation import objectives
from nsdbench.distillation.objectives import ObjectiveContext
from nsdbench.evaluation import protocols

SPEC = data.spec("Digits16")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dm+objective.augment=no", "`augment` is 'no'; expected true or false"),
        ("dc+objective.inner_epochs=2.5", "`inner_epochs` is 2.5; expected a whole number"),
        ("dc+objective.real_batch=4.5", "`real_batch` is 4.5; expected a whole number"),
        ("dc+objective.lr_network=abc", "`lr_network` is 'abc'; expected a finite number"),
        ("idc+objective.momentum_network=abc", "`momentum_network` is 'abc'; expected a finite"),
        ("idc+objective.strategy=blur", "objective 'conv-gradient': `strategy`: unknown augment"),
        ("dct+parameterization.t3=4.5", "`t3` is 4.5; expected a whole number"),
        ("nsd+parameterization.t1=1.5", "`t1` is 1.5; expected a whole number"),
        ("nsd+parameterization.t9=1", "parameterization 'spectral': unknown key `t9`"),
        ("dwt+parameterization.num_low=1.5", "`num_low` is 1.5; expected a whole number"),
        ("svd+parameterization.share=half", "`share` is 'half'; expected a finite number"),
        ("nsd+objective.syn_steps=2.5", "`syn_steps` is 2.5; expected a whole number"),
        (
            "nsd+objective.syn_steps=-1",
            "objective 'trajectory': `syn_steps` is -1; expected a whole",
        ),
        ("nsd+objective.guided_weight=abc", "`guided_weight` is 'abc'; expected a finite number"),
        ("nsd+objective.guided_weight=1e+308", r"`guided_weight` is 1e\+308; .* at most"),
        ("nsd+objective.name=trajektory", "unknown objective 'trajektory'.* did you mean traj"),
        ("haba+parameterization.over_budget=yes", "`over_budget` is 'yes'; expected true or false"),
        ("haba+objective.temperature=0", "`temperature` is 0"),
        ("haba+experts.standardises_batches=1", "`experts.standardises_batches` is 1"),
        ("ftd+optimiser.ema_decay=abc", "`optimiser.ema_decay` is 'abc'"),
        ("ftd+optimiser.ema_decay=1.5", "`optimiser.ema_decay` is 1.5"),
        ("nsd+optimiser.momentum=1", "`optimiser.momentum` is 1"),
        ("ftd+experts.rho=abc", "`experts.rho` is 'abc'"),
        ("ftd+experts.alpha=-1", "`experts.alpha` is -1"),
        ("ftd+experts.optimiser=3", "`experts.optimiser` is 3"),
        ("forgetting+experts.keeps_correctness=yes", "`experts.keeps_correctness` is 'yes'"),
        ("random+coreset.draw_per_network=no", "draw_per_network` is 'no'; expected true"),
        ("random+coreset.name=randon", "unknown coreset 'randon'; .* did you mean random"),
    ],
)
def test_the_plan_refuses_a_wrong_setting(method, message):
    with pytest.raises(ValueError, match=message):
        recipe = methods.resolve(method, "Digits16", 10, "smoke")
        estimate(recipe, SPEC, 10, "convnet2-w16", protocols.get("common-10ep"), 1, 1)


def test_settings_are_checked_before_experts_are_opened_and_faults_of_these_are_their_own():
    def break_down():
        raise TypeError("a fault of ours")

    section = methods.resolve("nsd", "Digits16", 10, "smoke").values["objective"]
    context = ObjectiveContext(None, None, "", break_down)
    with pytest.raises(ValueError, match="`syn_steps` is 0"):
        objectives.build({**section, "syn_steps": 0}, context)
    with pytest.raises(TypeError, match="a fault of ours"):
        objectives.build(section, context)


def test_distill_plans_storage_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(
        distillation, "_objective", lambda *args: pytest.fail("the objective was built")
    )
    with pytest.raises(ValueError, match="`t1` is 1.5; expected a whole number"):
        distillation.distill("nsd+parameterization.t1=1.5", "synthetic:3x1x8x8", 2)


def test_models_check_and_leave_a_recipe_as_it_is():
    """A whole number where a float is expected stays one in the recipe, and in its hash."""
    recipe = methods.resolve("nsd+objective.guided_weight=1", "Digits16", 10, "smoke")
    section = recipe.values["objective"]
    _, settings = objectives.read(section)
    assert settings.guided_weight == 1 and type(section["guided_weight"]) is int
