"""Names that the model does not have, and arguments in each other's place."""

from typing import Any

import pytest
from backends import before_sql
from models import Place, Tag, Ticket
from sqlalchemy.ext.asyncio import AsyncSession
from words import Word

from async_goc import get_or_create, update_or_create
from async_goc.exceptions import UnknownFieldError


@before_sql
@pytest.mark.parametrize(
    ("call", "fields", "matches"),
    [
        (
            lambda s: get_or_create(s, Tag, nmae=1, colr=2),
            ("nmae", "colr"),
            ("name", "colour"),
        ),
        (
            lambda s: get_or_create(s, Tag, nmae=1, defaults={"x": 1, "nmae": 2}),
            ("nmae", "x"),
            ("name",),
        ),
        (
            lambda s: get_or_create(s, Tag, name=1, defaults={"x": 1, "colr": 2}),
            ("x", "colr"),
            ("colour",),
        ),
        (
            lambda s: get_or_create(
                s, Ticket, cod=1, defaults={"price": 1, "x": 2}, factory=Ticket
            ),
            ("cod", "x"),
            ("code",),
        ),
        (
            lambda s: update_or_create(
                s, Tag, x=1, defaults={"y": 1}, create_defaults={"z": 1}
            ),
            ("x", "z", "y"),
            (),
        ),
        (
            lambda s: update_or_create(
                s, Ticket, x=1, defaults={"price": 1}, create_defaults={"price": 1}
            ),
            ("x", "price"),
            (),
        ),
        (
            lambda s: get_or_create(s, Place, z=1, defaults={"area": 1, "distance": 2}),
            ("z", "area", "distance"),
            (),
        ),
        (lambda s: get_or_create(s, Tag, x=1, defaults=lambda: {"y": 1}), ("x",), ()),
        (
            lambda s: Word.as_unique(s, txt="sun", defaults={"nte": 1}),
            ("txt", "nte"),
            ("text", "note"),
        ),
    ],
    ids=[
        *("lookup", "lookup and defaults", "defaults", "arguments", "create_defaults"),
        *("no arguments", "read-only", "lazy", "as_unique"),
    ],
)
async def test_all_are_named(
    session: AsyncSession,
    statements: list[str],
    call: Any,
    fields: tuple[str, ...],
    matches: tuple[str, ...],
) -> None:
    """One error names all of them, wherever they are, before any SQL."""
    with pytest.raises(UnknownFieldError) as raised:
        await call(session)
    assert (raised.value.fields, raised.value.matches) == (fields, matches)
    assert all(name in str(raised.value) for name in fields + matches)
    assert not statements


@before_sql
async def test_read_only(session: AsyncSession) -> None:
    """What is there, and cannot be set, is not called unknown or misspelt."""
    with pytest.raises(UnknownFieldError) as raised:
        await get_or_create(session, Place, id=1, defaults={"area": 1, "ara": 2})
    assert str(raised.value) == (
        "Place has no attribute 'ara'; use the names of mapped attributes. "
        "Place.area takes no value here; leave it out "
        "(see errors.html#unknownfielderror)"
    )


@before_sql
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_mapping_as_a_criterion(
    session: AsyncSession, statements: list[str], verb: Any
) -> None:
    """Defaults without their name are told from a criterion; their values are not."""
    with pytest.raises(TypeError, match="did you mean defaults=") as raised:
        await verb(session, Tag, {"colour": "secret"}, name="red")
    assert "secret" not in str(raised.value)
    assert not statements
