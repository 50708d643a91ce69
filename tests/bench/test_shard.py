"""Parts of a plan: every cell is in one of them, and what cells share is in one."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdbench.bench import plan as planning
from nsdbench.bench.shard import Shard, parse_shard, split
from nsdbench.experts import Run


@cache
def whole(scale):
    """Plan every cell of four tables; the results folder does not exist."""
    names = ("table1", "table2", "table4", "table6")
    return planning.make(planning.Choice(names, scale), Run(Path("nonexistent")))


def ids(plan):
    return [planned.cell.id for planned in plan.cells]


def made_from(planned):
    """Name what a cell is made from, from its recipe alone: its sets, and its experts."""
    recipe = planned.task.recipe
    yield planned.cell.dataset, planned.cell.ipc, recipe.hash
    if recipe.kind == "distillation" and "experts" in recipe.values:
        settings = recipe.values["experts"], recipe.values["network"], recipe.values["data"]
        yield planned.cell.dataset, str(settings)


@settings(max_examples=40, deadline=None)
@given(scale=st.sampled_from(["smoke", "small", "paper"]), count=st.integers(1, 12), data=st.data())
def test_parts_are_complete_disjoint_and_share_nothing(scale, count, data):
    cells = whole(scale).cells
    kept = data.draw(st.lists(st.sampled_from(range(len(cells))), unique=True))
    plan = replace(whole(scale), cells=tuple(cells[i] for i in sorted(kept)))
    parts = split(plan, count)
    assert sorted(sum(map(ids, parts), [])) == sorted(ids(plan))
    for part in parts:
        assert ids(part) == [cell_id for cell_id in ids(plan) if cell_id in ids(part)]
    holders = defaultdict(set)
    for number, part in enumerate(parts):
        for planned in part.cells:
            for source in made_from(planned) if planned.task is not None else ():
                holders[source].add(number)
    assert all(len(numbers) == 1 for numbers in holders.values())


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 9), data=st.data())
def test_parts_do_not_depend_on_what_is_done_or_missing(count, data):
    plan = whole("smoke")
    statuses = st.sampled_from(["todo", "done", "data missing"])
    drawn = data.draw(st.lists(statuses, min_size=len(plan.cells), max_size=len(plan.cells)))
    later = replace(
        plan,
        cells=tuple(
            planned if planned.task is None else replace(planned, status=status, estimate=None)
            for planned, status in zip(plan.cells, drawn, strict=True)
        ),
    )
    assert [ids(part) for part in split(later, count)] == [ids(part) for part in split(plan, count)]


def test_parts_take_about_as_long_as_each_other():
    """The longest part of any list schedule takes at most the mean and the longest group."""
    plan = whole("paper")
    alone = [sum(part.seconds(1).values()) for part in split(plan, 1000)]
    times = [sum(part.seconds(1).values()) for part in split(plan, 3)]
    assert max(times) <= sum(times) / 3 + max(alone)
    assert min(times) > 0


def test_more_parts_than_groups_leaves_some_empty():
    parts = split(whole("smoke"), 300)
    assert sum(map(len, map(ids, parts))) == len(whole("smoke").cells)
    assert ids(parts[-1]) == []


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "3/0", "-1/8", "3/8/2", "a/b", "1.5/8"])
def test_nonsense_is_refused_by_name(text):
    with pytest.raises(ValueError, match="expected NUMBER/COUNT") as refused:
        parse_shard(text)
    assert repr(text) in str(refused.value)


def test_a_part_is_the_one_of_its_number():
    shard = parse_shard("3/8")
    assert shard == Shard(3, 8)
    assert ids(shard.of(whole("smoke"))) == ids(split(whole("smoke"), 8)[2])
    assert Shard(1, 1).of(whole("smoke")) == split(whole("smoke"), 1)[0] == whole("smoke")
