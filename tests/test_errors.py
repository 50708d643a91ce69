"""Faults that pydantic models find, in our words."""

import re
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from nsdbench.errors import checked


class Inner(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    count: Annotated[int, Field(ge=1)] = 1
    kind: Literal["first", "second"] = "first"
    dct_type: Literal[2, 4] = 2
    only: Literal["one"] = "one"
    share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None


class Outer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    title: str
    inner: Inner = Inner()
    many: list[Inner] = []
    pairs: dict[str, list[int]] = {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "is 3; expected a table of keys"),
        ({}, "`title` is missing"),
        ({"titl": 1}, "unknown key `titl`; known: title, inner, many, pairs; did you mean title?"),
        ({"title": None}, "`title` is None; expected text"),
    ],
)  # fmt: skip
def test_a_fault_of_the_whole_is_named(value, message):
    with pytest.raises(ValueError, match=f"^a file: {re.escape(message)}$"):
        checked(Outer, value, "a file")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("inner", 3, "`inner` is 3; expected a table of keys"),
        ("inner", {"count": 0}, "`inner.count` is 0; expected a whole number of at least 1"),
        ("inner", {"coutn": 0}, "unknown key `inner.coutn`; known: count, kind, dct_type, only,"),
        ("inner", {"kind": "frst"}, "`inner.kind` is 'frst'; expected one of first, second; did"),
        ("inner", {"dct_type": 3}, "`inner.dct_type` is 3; expected one of 2, 4"),
        ("inner", {"only": 3}, "`inner.only` is 3; expected one of one"),
        ("inner", {"share": 1.0}, "`inner.share` is 1.0; expected a finite number above 0 and"),
        ("many", 3, "`many` is 3; expected a list"),
        ("many", [{}, 3], "item 2 of `many` is 3; expected a table of keys"),
        ("many", [{}, {"count": "1"}], "item 2 of `many`: `count` is '1'; expected a whole number"),
        ("many", [{}, {"coutn": 1}], "item 2 of `many`: unknown key `coutn`; known: count, kind"),
        ("pairs", {"a": [1, "2"]}, "item 2 of `pairs.a` is '2'; expected a whole number"),
    ],
)  # fmt: skip
def test_a_fault_names_place_value_and_what_was_expected(key, value, message):
    with pytest.raises(ValueError, match=f"^a file: {re.escape(message)}"):
        checked(Outer, {"title": "t", key: value}, "a file")


def test_a_long_value_is_cut():
    with pytest.raises(ValueError) as caught:
        checked(Outer, {"title": list(range(10**5))}, "a file")
    assert len(str(caught.value)) < 300
