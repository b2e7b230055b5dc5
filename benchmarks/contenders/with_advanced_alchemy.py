"""Ask as a user of advanced-alchemy does: a repository on the request's session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from advanced_alchemy.base import IdentityBase
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy.orm import Mapped, mapped_column

from . import Call, Contender


class Tag(IdentityBase):
    __tablename__ = "benchmark_tag"
    name: Mapped[str] = mapped_column(unique=True)
    uses: Mapped[int] = mapped_column(default=0)


class TagRepository(SQLAlchemyAsyncRepository[Tag]):
    model_type = Tag


class AdvancedAlchemy(Contender):
    remark = "upsert=False, auto_refresh=False"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with self.place.sessions.begin() as session:
            # The defaults would add an UPDATE to a hit, and a SELECT to both.
            tags = TagRepository(session=session, auto_refresh=False)

            async def ask(name: str) -> bool:
                _, created = await tags.get_or_upsert(
                    match_fields="name", upsert=False, name=name
                )
                return bool(created)

            yield ask
