"""Write by hand what people paste into their projects, and what hits cost alone."""

from lab import Tag
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from . import OnSession

_PREBUILT = select(Tag).where(Tag.name == bindparam("name"))


async def _look(session: AsyncSession, name: str) -> Tag | None:
    tag: Tag | None = await session.scalar(select(Tag).filter_by(name=name))
    return tag


class FilterBy(OnSession):
    is_reference = True

    async def ask(self, session: AsyncSession, name: str) -> bool:
        assert await _look(session, name) is not None
        return False


class Prebuilt(OnSession):
    is_reference = True

    async def ask(self, session: AsyncSession, name: str) -> bool:
        assert await session.scalar(_PREBUILT, {"name": name}) is not None
        return False


class SavepointRecipe(OnSession):
    async def ask(self, session: AsyncSession, name: str) -> bool:
        if await _look(session, name) is not None:
            return False
        try:
            async with session.begin_nested():
                session.add(Tag(name=name))
                await session.flush()
        except IntegrityError:
            assert await _look(session, name) is not None
            return False
        return True


class OnConflict(OnSession):
    async def ask(self, session: AsyncSession, name: str) -> bool:
        if await _look(session, name) is not None:
            return False
        new = insert(Tag).values(name=name)
        new = new.on_conflict_do_nothing(index_elements=[Tag.name])
        if await session.scalar(new.returning(Tag)) is not None:
            return True
        assert await _look(session, name) is not None
        return False
