"""What the documents show is run here."""

import re
from pathlib import Path
from typing import Any

import pytest
from backends import Sessions, by_savepoint
from documents import blocks, run
from models import Tag
from sqlalchemy import Index, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import async_goc

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
on_postgres = pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)


async def readme_names(session: AsyncSession) -> dict[str, Any]:
    """Run all blocks in order; return what they leave behind."""
    names: dict[str, Any] = {
        **{name: getattr(async_goc, name) for name in async_goc.__all__},
        "Tag": Tag,
        "IntegrityError": IntegrityError,
        "session": session,
        "func": func,
        "insert": insert,
        "select": select,
    }
    names["sessions"] = async_sessionmaker(session.bind)
    # The first block is a program of its own.
    for block in blocks("python", README)[1:]:
        # SQLite has one writer, and the block may have a transaction of its own.
        await session.commit()
        await run(block, names)
    return names


def test_first_program_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted into a file, it creates the row, and then finds it."""
    monkeypatch.chdir(tmp_path)
    program = compile(blocks("python", README)[0], "<README>", "exec")
    for _ in range(2):
        exec(program, {"__name__": "readme"})  # noqa: S102
    assert capsys.readouterr().out == "1 python True\n1 python False\n"


@pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
async def test_readme(session: AsyncSession) -> None:
    """Every block of the README runs, in order."""
    names = await readme_names(session)
    assert names["created"] is True
    assert len(blocks("python", README)) >= 6


DOCUMENTS = {path: path.read_text() for path in sorted(ROOT.glob("docs/*.md"))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
@by_savepoint
@on_postgres
async def test_documents(sessions: Sessions, path: Path, tmp_path: Path) -> None:
    """Every block of every document runs, in order."""
    files = f"sqlite+aiosqlite:///{tmp_path}/"
    names: dict[str, Any] = {
        **{name: getattr(async_goc, name) for name in async_goc.__all__},
        "Tag": Tag,
        "sessions": sessions,
        "__name__": "__main__",
        "engine": sessions.kw["bind"],
        "IntegrityError": IntegrityError,
        "DeclarativeBase": DeclarativeBase,
        "Index": Index,
        "Mapped": Mapped,
        "func": func,
        "mapped_column": mapped_column,
        "select": select,
    }
    async with sessions() as names["session"]:
        for block in blocks("python", DOCUMENTS[path]):
            await run(block.replace("sqlite+aiosqlite:///", files), names)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_documents(path: Path) -> None:
    """Each file that a document names is there."""
    links = re.findall(r"\]\(([\w./]+)\)", DOCUMENTS[path])
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.fixture
async def naive(sessions: Sessions) -> dict[str, Any]:
    """The README's naive versions."""
    names: dict[str, Any] = {"Tag": Tag, "IntegrityError": IntegrityError}
    names |= {"insert": insert, "select": select}
    for block in blocks("python", README):
        if "async def" in block and "get_or_create" not in block:
            await run(block, names)
    async with sessions.begin() as session:
        session.add(Tag(name="taken", slug="taken"))
    return names


@on_postgres
async def test_what_look_then_add_loses(
    sessions: Sessions, naive: dict[str, Any]
) -> None:
    """Looking, then adding: the second of two transactions fails."""
    async with sessions() as one, sessions() as two:
        assert await two.scalar(select(Tag).where(Tag.name == "red")) is None
        await naive["look_then_add"](one, "red")
        await one.commit()
        two.add(Tag(name="red"))
        with pytest.raises(IntegrityError):
            await two.flush()


@on_postgres
async def test_what_rolling_back_loses(
    sessions: Sessions, naive: dict[str, Any]
) -> None:
    """Rolling back: the caller's earlier work is gone."""
    async with sessions() as session:
        session.add(Tag(name="mine"))
        await session.flush()
        await naive["roll_back"](session, "taken")
        await session.commit()
    async with sessions() as session:
        assert list(await session.scalars(select(Tag.name))) == ["taken"]


@on_postgres
async def test_what_the_savepoint_hides(
    session: AsyncSession, naive: dict[str, Any]
) -> None:
    """A CHECK error reads as "exists already", and nothing is returned."""
    assert await naive["savepoint"](session, name="red", colour="bad") is None


@on_postgres
async def test_what_do_nothing_hides(
    session: AsyncSession, naive: dict[str, Any]
) -> None:
    """A conflict on another constraint vanishes, and nothing is returned."""
    assert await naive["do_nothing"](session, name="red", slug="taken") is None


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    """Under 200 lines; each file it names is there."""
    assert len(README.splitlines()) < 200
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([\w./]+)\)", page.read_text())
        assert links or page.parent.name == "docs"
        assert [link for link in links if not (page.parent / link).exists()] == []


def test_reading_the_code_names_every_room() -> None:
    """No folder of the package is missing from the tour."""
    rooms = {path.parent.name for path in (ROOT / "async_goc").glob("*/__init__.py")}
    tour = (ROOT / "docs" / "reading.md").read_text()
    assert {room for room in rooms if room not in tour} == set()


def test_reference_has_every_public_name() -> None:
    """What is to be imported is in the API reference."""
    reference = (ROOT / "docs" / "api.md").read_text()
    names = [n for n in async_goc.__all__ if not re.search(rf"[. ]{n}\n", reference)]
    assert names == []


def test_ci_runs_the_readme_command() -> None:
    """What CI runs is what a newcomer is told to run."""
    _, tests = blocks("sh", README)
    assert tests.strip() in (ROOT / ".ci" / "run").read_text()
