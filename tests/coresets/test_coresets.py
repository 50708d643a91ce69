"""Coresets: real images, balanced, distinct, drawn by the seed or chosen by a trained network."""

import itertools
import math

import pytest
import torch

from nsdbench import coresets, data, experts, models
from nsdbench.bench.cell import Cell
from nsdbench.coresets import rules, select_herding, select_k_center
from nsdbench.errors import TestSplitSealed
from nsdbench.seeding import generator

NAME = "synthetic:3x1x8x8"
CHOSEN_BY_NETWORK = ["tiny-herding", "tiny-k-center"]
_TINY = """
[[settings]]
source = "test"
network = { width = 4, depth = 1 }
experts = { epochs = 2 }
"""


@pytest.fixture
def tiny_coresets(tiny_methods):
    """Provide tiny-herding and its kin: two epochs of a small network."""
    for method in CHOSEN_BY_NETWORK:
        parent = method.removeprefix("tiny-")
        head = f'name = "{method}"\ntitle = "tiny"\nextends = "{parent}"\n'
        (tiny_methods / f"{method}.toml").write_text(head + _TINY)


def test_random_draws_distinct_real_training_images_per_class(tmp_path):
    dataset = data.load(NAME)
    artefact = coresets.select("random", dataset, 5, out=tmp_path / "set.safetensors")
    rows = torch.tensor(artefact.metadata["rows"])
    assert len(torch.unique(rows)) == 15
    transform = data.preprocessing("standardise", dataset)
    assert torch.equal(artefact.images(), transform.apply(dataset.train.images[rows]))
    assert torch.equal(artefact.labels(), dataset.train.labels[rows])
    assert artefact.labels().tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_seed_and_draw_name_the_set():
    rows = [
        coresets.select("random", NAME, 2, seed=seed, draw=draw).metadata["rows"]
        for seed, draw in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert rows[0] == rows[1]
    assert len({tuple(r) for r in rows}) == 3


def test_every_row_can_be_drawn():
    dataset = data.load(NAME).without_test()
    seen = set()
    for draw in range(300):
        seen.update(coresets.select("random", dataset, 3, draw=draw).metadata["rows"])
    assert len(seen) > 0.95 * min(len(dataset.train), 2700)


def test_asks_too_much_or_of_the_wrong_method():
    with pytest.raises(ValueError, match="class 0 has .* 100000 were asked for"):
        coresets.select("random", NAME, 100_000)
    with pytest.raises(ValueError, match="'mtt' is of kind distillation"):
        coresets.select("mtt", NAME, 1)


def test_selection_cannot_open_the_test_split(monkeypatch):
    opened = data.load(NAME)

    def peek(task, settings):
        return sealed.test

    sealed = opened.without_test()
    monkeypatch.setattr(rules, "random", peek)
    with pytest.raises(TestSplitSealed):
        coresets.select("random", opened, 1)


def herding_by_loops(points, ipc):
    """Choose as DatasetCondensation issue 15 says: all sums written out, the first of equals."""
    size, dims = len(points), range(len(points[0]))
    mean = [math.fsum(point[d] for point in points) / size for d in dims]
    chosen = []
    for k in range(ipc):
        best = None
        for i in range(size):
            if i in chosen:
                continue
            summed = [math.fsum([points[j][d] for j in chosen] + [points[i][d]]) for d in dims]
            distance = math.dist([(k + 1) * m for m in mean], summed)
            if best is None or distance < best[0]:
                best = (distance, i)
        chosen.append(best[1])
    return chosen


def k_center_by_loops(points, ipc):
    size, dims = len(points), range(len(points[0]))
    mean = [math.fsum(point[d] for point in points) / size for d in dims]
    chosen = [min(range(size), key=lambda i: (math.dist(points[i], mean), i))]
    while len(chosen) < ipc:
        rest = [i for i in range(size) if i not in chosen]
        cover = {i: min(math.dist(points[i], points[c]) for c in chosen) for i in rest}
        chosen.append(max(rest, key=lambda i: (cover[i], -i)))
    return chosen


@pytest.mark.parametrize(
    ("rule", "loops"),
    [(select_herding, herding_by_loops), (select_k_center, k_center_by_loops)],
)
@pytest.mark.parametrize("seed", range(5))
def test_rules_agree_with_explicit_loops(rule, loops, seed):
    points = torch.randn(12, 3, dtype=torch.float64, generator=generator(seed, "points"))
    for ipc in (1, 5, 12):
        assert rule(points, ipc).tolist() == loops(points.tolist(), ipc)


def test_herding_keeps_the_mean_of_hand_made_points():
    """The mean is 0: first the origin, then a pair that cancels, never the far point early."""
    points = torch.tensor([[9.0, 9.0], [0.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [-9.0, -9.0]])
    assert select_herding(points, 3).tolist() == [1, 2, 3]
    assert select_herding(points, 5).tolist() == [1, 2, 3, 0, 4]


def test_k_center_covers_hand_made_points():
    """The mean is 1; then the ends, 9 away each, and last 0 and 2, which are 1 away each."""
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [-8.0]])
    assert select_k_center(points, 5).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("rule", [select_herding, select_k_center])
def test_equals_are_taken_in_order_and_once(rule):
    copies = torch.ones(6, 4)
    assert rule(copies, 6).tolist() == [0, 1, 2, 3, 4, 5]
    points = torch.randn(20, 4, generator=generator(0, "points"))
    assert sorted(rule(points, 20).tolist()) == list(range(20))
    assert rule(points, 7).tolist() == rule(points, 20)[:7].tolist()


@pytest.mark.parametrize("rule", [select_herding, select_k_center])
def test_rules_refuse_what_they_cannot_do(rule):
    for ipc in (0, 4):
        with pytest.raises(ValueError, match=f"ipc is {ipc}; a class of 3 images allows 1...3"):
            rule(torch.eye(3), ipc)
    with pytest.raises(ValueError, match="expected finite vectors"):
        rule(torch.tensor([[float("nan")], [0.0]]), 1)
    with pytest.raises(ValueError, match=r"features are \[3\]"):
        rule(torch.ones(3), 1)


@pytest.mark.parametrize(
    ("method", "rule"), [("tiny-herding", select_herding), ("tiny-k-center", select_k_center)]
)
def test_features_are_those_of_the_trained_network(tiny_coresets, method, rule):
    """Recompute the coreset from the expert buffer by hand, class by class."""
    dataset = data.load(NAME)
    artefact = coresets.select(method, dataset, 3)
    recipe = experts.ExpertRecipe(
        num_experts=1, epochs=2, momentum=0.9, weight_decay=5e-4,
        dsa_strategy=dataset.spec.dsa_strategy,
    )  # fmt: skip
    transform = data.preprocessing("standardise", dataset)
    folders = [entry["path"] for entry in experts.list_buffers()]
    buffer = experts.record(dataset, transform, "convnet1-w4", recipe, seed=0)
    assert folders == [buffer.path], "the recipe asked for another network"
    assert artefact.metadata["network"]["name"] == buffer.path.name
    model = models.from_id("convnet1-w4", in_channels=1, image_size=8, num_classes=3)
    models.load_flat(model, buffer.snapshot(0, 2))
    expected = []
    for label in range(3):
        rows = torch.nonzero(dataset.train.labels == label).flatten()
        features = model.features(transform.apply(dataset.train.images[rows])).flatten(1)
        expected += rows[rule(features.detach(), 3)].tolist()
    assert artefact.metadata["rows"] == expected
    assert torch.equal(artefact.labels(), dataset.train.labels[torch.tensor(expected)])


def test_one_network_serves_all_ipc_and_rules_but_not_all_seeds(tiny_coresets):
    for method, ipc in itertools.product(CHOSEN_BY_NETWORK, (1, 3)):
        coresets.select(method, NAME, ipc)
    assert len(experts.list_buffers()) == 1
    rows = [coresets.select("tiny-herding", NAME, 3, seed=s).metadata["rows"] for s in (0, 1)]
    assert rows[0] != rows[1] and len(experts.list_buffers()) == 2


def test_too_few_images_are_noticed_before_anything_is_trained(tiny_coresets):
    with pytest.raises(ValueError, match="class 0 has .* 100000 were asked for"):
        coresets.select("tiny-herding", NAME, 100_000)
    assert experts.list_buffers() == []


def test_a_chosen_set_serves_all_networks_of_a_cell(tiny_coresets, tmp_path, measure_cell):
    cell = Cell(NAME, 2, "tiny-herding", "convnet1-w4", "common-20ep", "smoke")
    record = measure_cell(cell, tmp_path, seeds=1, repeats=2)
    assert record.status == "done", record.failure
    assert len(list((tmp_path / "artefacts").glob("*.safetensors"))) == 1
    assert record.cost.seconds["experts"] > 0


def test_random_keeps_its_recipe_and_its_draws():
    """Committed records name this hash; the rows were drawn before there were other coresets."""
    artefact = coresets.select("random", "Digits16", 1)
    assert artefact.metadata["recipe_hash"] == (
        "4b35600804bf723fc1c7e87ff2e3eb58b3b5b4f181114d06557e0cb381d89ac9"
    )
    expected = [1220, 66, 1245, 245, 1013, 1054, 678, 286, 101, 271]
    assert artefact.metadata["rows"] == expected
