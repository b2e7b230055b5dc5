"""Which unique index covers a lookup, where it is given as text, or reflected."""

from typing import Any

import pytest
from backends import each_strategy
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Enum,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    func,
    literal,
    text,
    true,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import class_mapper, registry

from async_goc import Policy, get_or_create
from async_goc._models.constraints import is_covered

pytestmark = pytest.mark.one_driver

PG, LITE, MY = postgresql.dialect(), sqlite.dialect(), mysql.dialect()
strict = Policy(missing_constraint="error")


def mapped(table: Table) -> Any:
    class Thing:
        pass

    registry(metadata=table.metadata).map_imperatively(Thing, table)
    return Thing


def thing(*items: Any) -> Any:
    """A class with columns id, a, b, n, gone and Odd, and these indexes."""
    strings = [Column(name, String) for name in ("a", "b", "Odd", "order")]
    table = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *strings,
        Column("n", Integer),
        Column("gone", Boolean),
        Column("kind", Enum("x", "y", name="kind")),
        *items,
    )
    return mapped(table)


def partial_index(where: Any) -> Any:
    return thing(
        Index("i", "a", unique=True, postgresql_where=where, sqlite_where=where)
    )


# The condition of an index, as text; and criteria that say the same.
CONDITIONS: list[tuple[str, Any]] = [
    ("b IS NULL", lambda t: [t.b.is_(None)]),
    ("(b is null)", lambda t: [t.b.is_(None)]),
    ('("b" IS NULL)', lambda t: [t.b.is_(None)]),
    ("b='x'", lambda t: [t.b == "x"]),
    ("b = 'x'::text", lambda t: [t.b == "x"]),
    ("((b)::text = 'x'::text)", lambda t: [t.b == "x"]),
    ("((b)::character varying(20) = 'x'::public.\"T\"[])", lambda t: [t.b == "x"]),
    ("b = 'it''s AND (x'", lambda t: [t.b == "it's AND (x"]),
    ("(b IS NULL) AND ((n = 1) AND gone)", lambda t: [t.b.is_(None), t.n == 1, t.gone]),
    ("((b IS NULL) AND (n = 1))", lambda _: [text("n = 1 AND b IS NULL")]),
    ("n = 1 AND b = 'x'", lambda t: [(t.n == 1) & (t.b == "x")]),
    ("b != 'x'", lambda t: [t.b != "x"]),
    ("b IS NOT NULL", lambda t: [t.b.is_not(None)]),
    ("NOT gone", lambda t: [t.gone.is_(False)]),
    ("NOT (gone)", lambda t: [~t.gone]),
    ("(gone IS FALSE)", lambda t: [t.gone == False]),  # noqa: E712
    ("gone = false", lambda _: [text("NOT gone")]),
    ("gone", lambda t: [t.gone]),
    ("(gone)", lambda t: [t.gone == true()]),
    ("(gone IS TRUE)", lambda t: [t.gone.is_(True)]),
    ("((n = 1) OR (n = 2))", lambda t: [(t.n == 1) | (t.n == 2)]),
    ("n BETWEEN 1 AND 2", lambda t: [t.n.between(1, 2)]),
    ("(\"Odd\" = 'x'::text)", lambda t: [t.Odd == "x"]),
    ("n IN (1, 2)", lambda t: [t.n.in_([1, 2])]),
    ("lower((b)::text) = 'x'", lambda t: [func.lower(t.b) == "x"]),
    ("a ~~ 'x%'", lambda t: [t.a.op("~~")("x%")]),
]


@pytest.mark.parametrize("dialect", [PG, LITE], ids=["PG", "LITE"])
@pytest.mark.parametrize("form", [str, text])
@pytest.mark.parametrize(
    ("where", "criteria"), CONDITIONS, ids=[where for where, _ in CONDITIONS]
)
def test_conditions(where: str, criteria: Any, form: Any, dialect: Any) -> None:
    """A partial index counts where the lookup says what its text says, and only there.

    Fails without `conditions_of` in `unique_of`.
    """
    one = partial_index(form(where))
    mapper, said = class_mapper(one), criteria(one)
    assert is_covered(mapper, [one.a == "x", *said], dialect)
    assert not is_covered(mapper, [one.a == "x"], dialect)
    assert not is_covered(mapper, [one.a == "x", *said[1:], one.n == 7], dialect)
    assert not is_covered(mapper, said, dialect)


@pytest.mark.parametrize(
    ("where", "other"),
    [
        ("b = 'X'", lambda t: t.b == "x"),
        ("\"Odd\" = 'x'", lambda _: text("odd = 'x'")),
        ("NOT gone", lambda t: t.gone),
        ("gone IS NOT TRUE", lambda t: t.gone == False),  # noqa: E712
        ("n = 1 OR b IS NULL", lambda t: t.b.is_(None)),
        (
            "(n = 1 OR n = 2) AND b IS NULL",
            lambda _: text("n = 1 OR n = 2 AND b IS NULL"),
        ),
        ("lower(b) = 'x'", lambda _: text("lower b = 'x'")),
        ("b = :value", lambda t: t.b == "x"),
        ("(b = (", lambda t: t.b == "x"),
    ],
)
def test_other_conditions(where: str, other: Any) -> None:
    """What means something else is not taken for the same."""
    one = partial_index(text(where))
    conditions = [one.a == "x", other(one)]
    assert not is_covered(class_mapper(one), conditions, PG)


@pytest.mark.parametrize(
    ("terms", "dialect"),
    [
        ([text("lower(b)"), "a"], PG),
        ([text("lower((b)::text) DESC NULLS LAST"), text("a asc")], PG),
        ([text("(lower(b))"), text('"a"')], LITE),
        ([text("(lower(`b`))"), text("`a`")], MY),
        ([func.lower(text("b")).desc(), text("a DESC")], PG),
    ],
)
def test_terms(terms: list[Any], dialect: Any) -> None:
    """An index on text counts, whatever its order, and a column's name is a column."""
    one = thing()
    Index("i", *terms, unique=True, _table=one.__table__)
    lower = func.lower(one.b) == "x"
    assert is_covered(class_mapper(one), [lower, one.a == "y"], dialect)
    assert not is_covered(class_mapper(one), [lower], dialect)
    assert not is_covered(class_mapper(one), [one.a == "y"], dialect)
    upper = func.upper(one.b) == "x"
    assert not is_covered(class_mapper(one), [upper, one.a == "y"], dialect)


def test_term_without_a_text() -> None:
    """An index on what has no text of its own counts for nothing."""
    one = thing()
    term = func.coalesce(one.b, literal(object(), String))
    Index("i", term, unique=True)
    assert not is_covered(class_mapper(one), [term == "x"], PG)


@each_strategy
@pytest.mark.parametrize(
    ("where", "criteria", "values", "defaults"),
    [
        ("NOT gone AND b = 'x'", lambda t: [~t.gone, t.b == "x"], {}, {"gone": False}),
        ("gone IS FALSE", lambda _: [], {"gone": False}, {}),
        ("gone", lambda _: [], {"gone": True}, {}),
        ("kind = 'x' AND b IS NULL", lambda _: [], {"kind": "x", "b": None}, {}),
        ("\"order\" = 'x'", lambda _: [], {"order": "x"}, {}),
        (
            "n > 1 AND lower(b) = 'y'",
            lambda t: [t.n > 1, func.lower(t.b) == "y"],
            {},
            {"n": 2, "b": "Y"},
        ),
    ],
)
async def test_reflected(
    engine: AsyncEngine, where: str, criteria: Any, values: Any, defaults: Any
) -> None:
    """A reflected index counts, as the database spells it, and the second call hits."""
    declared = partial_index(text(where)).__table__

    def reflect(connection: Connection) -> Table:
        declared.create(connection)
        return Table("thing", MetaData(), autoload_with=connection)

    async with engine.connect() as connection:
        one = mapped(await connection.run_sync(reflect))
        async with AsyncSession(connection) as session:
            for expected in (True, False):
                _, created = await get_or_create(
                    session,
                    one,
                    *criteria(one),
                    a="x",
                    policy=strict,
                    defaults=defaults,
                    **values,
                )
                assert created is expected
        await connection.rollback()
