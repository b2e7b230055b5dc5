"""Rows to give to a call, and how many there are."""

from typing import Any

from models import Tag
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


def named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


async def count(session: AsyncSession, model: type[object] = Tag) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


async def id_of(engine: AsyncEngine, name: str) -> int | None:
    async with AsyncSession(engine) as session:
        return await session.scalar(select(Tag.id).where(Tag.name == name))
