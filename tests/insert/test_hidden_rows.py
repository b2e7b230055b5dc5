"""The row that holds the key is there, and the lookup cannot see it."""

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from backends import on_postgres
from rivals import after_rival, rival
from rows import count
from sqlalchemy import Engine, Index, create_engine, func, make_url, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import get_or_create, update_or_create
from async_goc.exceptions import (
    ContentionError,
    ContradictionError,
    SnapshotConflictError,
)

pytestmark = pytest.mark.one_driver

levels = pytest.mark.parametrize(
    "level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
)
verbs = pytest.mark.parametrize("verb", [get_or_create, update_or_create])


class Base(DeclarativeBase):
    """Tables that only these tests have."""


class Slug(Base):
    __tablename__ = "slug"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    tenant: Mapped[str]


class User(Base):
    __tablename__ = "app_user"
    __table_args__ = (Index("uq_email", func.lower(text("email")), unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(server_default="none")


class Person(Base):
    __tablename__ = "named_person"

    id: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[str]
    last: Mapped[str] = mapped_column(server_default="Lee")


Index("uq_whole", func.lower(Person.first + Person.last), unique=True)


class Word(Base):
    __tablename__ = "small_word"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


# Rows of `slug` are seen by their tenant alone, and `small_word` stores lower case.
OF_POSTGRES = (
    "ALTER TABLE slug ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON slug USING (tenant = current_setting('app.tenant'))",
    "CREATE ROLE tenant",
    "GRANT ALL ON slug, slug_id_seq TO tenant",
    """CREATE FUNCTION in_lower_case() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN new.name = lower(new.name); RETURN new; END $$""",
    """CREATE TRIGGER in_lower_case BEFORE INSERT ON small_word
    FOR EACH ROW EXECUTE FUNCTION in_lower_case()""",
)
UNDO = ("DROP FUNCTION in_lower_case CASCADE", "DROP ROLE tenant")


@pytest.fixture(scope="module")
def own_tables_on_postgres(tables: Engine) -> Iterator[Engine]:
    with tables.begin() as connection:
        Base.metadata.create_all(connection)
        for statement in OF_POSTGRES:
            connection.execute(text(statement))
    yield tables
    with tables.begin() as connection:
        Base.metadata.drop_all(connection)
        for statement in UNDO:
            connection.execute(text(statement))


@pytest.fixture(autouse=True)
def own_tables(url: str, request: pytest.FixtureRequest) -> Iterator[None]:
    if url.startswith("sqlite"):
        engine = create_engine(make_url(url).set(drivername="sqlite"))
        Base.metadata.create_all(engine)
        engine.dispose()
        yield
        return
    tables: Engine = request.getfixturevalue("own_tables_on_postgres")
    yield
    with tables.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(table.delete())


async def enter(session: AsyncSession, level: str) -> None:
    """Begin a transaction of the tenant a, and take its snapshot."""
    await session.connection(execution_options={"isolation_level": level})
    await session.execute(text("SET LOCAL ROLE tenant"))
    await session.execute(text("SET LOCAL app.tenant = 'a'"))
    await session.execute(select(Slug))


@on_postgres
@levels
@verbs
async def test_row_level_security(
    engine: AsyncEngine, session: AsyncSession, level: str, verb: Any
) -> None:
    """What a policy hides is not called gone, nor beyond the snapshot.

    Fails without `is_beyond_snapshot` in `find_rival`: at REPEATABLE READ, by a
    snapshot conflict.
    """
    await rival(engine, Slug(name="home", tenant="b"))()
    await enter(session, level)
    with pytest.raises(ContentionError, match="row level security") as raised:
        await verb(session, Slug, name="home", defaults={"tenant": "a"})
    assert raised.value.constraint == "slug_name_key"
    assert "slug_name_key" in str(pickle.loads(pickle.dumps(raised.value)))  # noqa: S301
    assert isinstance(raised.value.__cause__, IntegrityError)
    # The transaction goes on.
    _, created = await verb(session, Slug, name="x", defaults={"tenant": "a"})
    assert created


@on_postgres
async def test_row_level_security_and_the_snapshot(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A rival of the same tenant is beyond the snapshot, and one that has gone is not.

    Fails without `is_beyond_snapshot` in `find_rival`: the other way round.
    """
    await enter(session, "REPEATABLE READ")
    mine = Slug(name="home", tenant="a")
    defaults = after_rival(engine, mine, {"tenant": "a"})
    with pytest.raises(SnapshotConflictError, match="whole transaction"):
        await get_or_create(session, Slug, name="home", defaults=defaults)


@on_postgres
@levels
@verbs
async def test_value_that_a_trigger_changes(
    session: AsyncSession, level: str, verb: Any
) -> None:
    """What is stored in another form than it was given is not called gone."""
    await session.connection(execution_options={"isolation_level": level})
    await verb(session, Word, name="Home")
    with pytest.raises(ContentionError, match="as it is stored") as raised:
        await verb(session, Word, name="Home")
    assert isinstance(raised.value.__cause__, IntegrityError)
    await session.commit()
    assert await count(session, Word) == 1


@verbs
async def test_values_that_do_not_satisfy_the_criteria(
    session: AsyncSession, verb: Any
) -> None:
    """The error shows which value of the new row the criterion does not accept.

    Fails without `refuse_contradiction` in `find_rival`.
    """
    ann = func.lower(User.email) == "ann@x.org"
    values = {"email": "ann@x.org "}
    _, created = await verb(session, User, ann, defaults=values)
    assert created
    with pytest.raises(ContradictionError, match=r"'ann@x\.org '") as raised:
        await verb(session, User, ann, defaults=values)
    error = raised.value
    assert (error.model, error.field, error.given) == (User, "email", "ann@x.org ")
    assert "lower(" in error.wanted
    assert isinstance(error.__cause__, IntegrityError)
    assert await count(session, User) == 1


@pytest.mark.parametrize(
    ("criteria", "values"),
    [
        ([func.lower(User.email) == "ann@x.org", User.note != "a"], {"note": "a"}),
        ([func.lower(User.email) == "ann@x.org", User.note.is_(None)], {}),
    ],
    ids=["another condition", "null"],
)
async def test_values_that_have_the_key(
    engine: AsyncEngine, session: AsyncSession, criteria: Sequence[Any], values: Any
) -> None:
    """A row that has the key, and not the rest, is the database's error as ever."""
    await rival(engine, User(email="Ann@x.org", note="a"))()
    values = {"email": "ann@X.org"} | values
    with pytest.raises(IntegrityError):
        await get_or_create(session, User, *criteria, defaults=values)


@verbs
@pytest.mark.parametrize("values", [{"first": "Ann "}, {"first": func.lower("Ann ")}])
async def test_values_that_are_not_known(
    engine: AsyncEngine, session: AsyncSession, verb: Any, values: dict[str, Any]
) -> None:
    """Of SQL expressions and server defaults, nothing is claimed."""
    await rival(engine, Person(first="Ann "))()
    criterion = func.lower(Person.first + Person.last) == "annlee"
    with pytest.raises((ContentionError, IntegrityError)):
        await verb(session, Person, criterion, defaults=values)


@verbs
async def test_several_values(session: AsyncSession, verb: Any) -> None:
    """All values of the expression are in the error."""
    criterion = func.lower(Person.first + Person.last) == "annlee"
    values = {"first": "Ann ", "last": "Lee"}
    await verb(session, Person, criterion, defaults=values)
    with pytest.raises(ContradictionError, match="first, last") as raised:
        await verb(session, Person, criterion, defaults=values)
    assert raised.value.given == ["Ann ", "Lee"]
