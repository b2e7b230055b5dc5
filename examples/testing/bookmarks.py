"""What is tested: bookmarks that share their topics."""

from sqlalchemy import Column, ForeignKey, String, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from async_goc import get_or_create


class Base(DeclarativeBase): ...


bookmark_topic = Table(
    "bookmark_topic",
    Base.metadata,
    Column("bookmark_id", ForeignKey("bookmark.id"), primary_key=True),
    Column("topic_id", ForeignKey("topic.id"), primary_key=True),
)


class Topic(Base):
    __tablename__ = "topic"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class Bookmark(Base):
    __tablename__ = "bookmark"
    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(String(200), unique=True)
    topics: Mapped[list[Topic]] = relationship(
        secondary=bookmark_topic, lazy="selectin", order_by=Topic.name
    )


async def save(session: AsyncSession, url: str, *names: str) -> tuple[Bookmark, int]:
    """Store and commit a bookmark; return it, and how many topics are new."""
    bookmark, _ = await get_or_create(session, Bookmark, url=url)
    new = 0
    # Sorted: transactions that create topics in different orders may deadlock.
    for name in sorted({*names}):
        topic, created = await get_or_create(session, Topic, name=name)
        new += created
        if topic not in bookmark.topics:
            bookmark.topics.append(topic)
    await session.commit()
    return bookmark, new
