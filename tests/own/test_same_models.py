"""A creator treats all kinds of models as a session does."""

from typing import Any

import mapped
import pytest
from ways import Call, Case, Ways, direct, each, either, found

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("mapped_tables")]


def full(model: Any) -> Call:
    return lambda c: c.get_or_create(model, name="A b", defaults={"size": 5})


def bare(model: Any) -> Call:
    return lambda c: c.get_or_create(model, name="A b")


DIRECT = {
    f"{model.__name__}-{call.__name__}": direct(call(model))
    for model in mapped.DIRECT
    for call in (full, bare)
}
# The names of parameters would have to be escaped, in some statements.
DIRECT["Quoted"] = either(full(mapped.Quoted))
FOUND = {model.__name__: found(full(model)) for model in mapped.FOUND}
OTHERS = {model.__name__: Case(full(model)) for model in mapped.OTHERS}


@each(direct=DIRECT, found=FOUND, others=OTHERS)
async def test_models(ways: Ways, case: Case) -> None:
    """Relationships, constructors, inheritance, names, and values made elsewhere."""
    await ways.compare(case)
