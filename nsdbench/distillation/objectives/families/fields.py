"""Fields that settings of several objectives have."""

from typing import Annotated

from pydantic import AfterValidator, Field

from nsdbench.student.strategy import parse_strategy


def _is_strategy(text: str) -> str:
    parse_strategy(text)
    return text


Strategy = Annotated[str, AfterValidator(_is_strategy)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
