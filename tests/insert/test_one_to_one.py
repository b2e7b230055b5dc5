"""Both sides of a relationship agree, whether the race is won or lost."""

import pytest
from backends import Sessions, on_postgres
from models import Author, Book, Desk, Seat
from rivals import after_rival
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import selectinload

from async_goc import get_or_create

pytestmark = pytest.mark.one_driver


@on_postgres
@pytest.mark.parametrize("is_loaded", [True, False])
async def test_one_to_one_does_not_take_the_rivals_row(
    engine: AsyncEngine, sessions: Sessions, is_loaded: bool
) -> None:
    """The rival's row keeps its foreign key.

    Fails without `assume_empty` in `_insert_all`: the flush finds the rival's seat,
    sets its foreign key to NULL, and the call returns a second one, as created.
    """
    async with sessions.begin() as session:
        session.add(Author(name="Ann"))
    async with sessions.begin() as session:
        load = [selectinload(Author.seat)] if is_loaded else []
        ann = (await session.scalars(select(Author).options(*load))).one()
        rival = after_rival(engine, Seat(id=7, author_id=ann.id))
        seat, created = await get_or_create(session, Seat, author=ann, defaults=rival)
        assert (seat.id, seat.author_id, created) == (7, ann.id, False)
        assert ("seat" in inspect(ann).unloaded) is not is_loaded
        ann_id = ann.id
    async with sessions() as session:
        assert (await session.scalars(select(Seat.author_id))).all() == [ann_id]


@on_postgres
@pytest.mark.parametrize("is_criterion", [True, False])
async def test_one_to_one_parent_in_the_defaults(
    engine: AsyncEngine, session: AsyncSession, is_criterion: bool
) -> None:
    """It does, too, if the lookup has the foreign key and the defaults the parent."""
    session.add(Author(name="Ann"))
    await session.commit()
    ann = (await session.scalars(select(Author))).one()
    rival = after_rival(engine, Seat(id=7, author_id=ann.id), {"author": ann})
    criteria = [Seat.author_id == ann.id] if is_criterion else []
    lookup = {} if is_criterion else {"author_id": ann.id}
    seat, created = await get_or_create(
        session, Seat, *criteria, defaults=rival, **lookup
    )
    assert (seat.id, created) == (7, False)


async def test_one_to_one_created(sessions: Sessions) -> None:
    """A created row is on both sides of the relationship."""
    async with sessions.begin() as session:
        session.add(Author(name="Ann"))
    async with sessions.begin() as session:
        ann = (await session.scalars(select(Author))).one()
        seat, created = await get_or_create(session, Seat, author=ann)
        assert (ann.seat is seat, seat.author is ann, created) == (True, True, True)


@on_postgres
async def test_lost_race_restores_a_scalar_relationship(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """The other side of a one-to-one forgets the loser, too."""
    async with sessions.begin() as session:
        session.add(Author(name="Ann"))
    async with sessions.begin() as session:
        load = selectinload(Author.desk)
        ann = (await session.scalars(select(Author).options(load))).one()
        rival = after_rival(engine, Desk(author_id=ann.id))
        desk, created = await get_or_create(session, Desk, author=ann, defaults=rival)
        assert not created
        assert ann.desk is None  # as it was loaded
        assert ann.name == "Ann"
        assert desk.author is ann


async def test_created_row_joins_loaded_collections(sessions: Sessions) -> None:
    """A loaded collection shows the created row."""
    async with sessions.begin() as session:
        ann, _ = await get_or_create(session, Author, name="Ann")
        book, _ = await get_or_create(session, Book, author=ann, title="one")
        assert ann.books == [book]
