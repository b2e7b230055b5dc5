"""What is found, of models that are unsafe in every way, on each database."""

import checked
import filled
import models
import pytest
import slippery
import vague
import wide
from backends import MARIADB, MARIADB_11, MYSQL_9, heavy
from sqlalchemy.ext.asyncio import AsyncEngine

from async_goc.checks import Finding, check

EVERYWHERE = ["sqlite+aiosqlite", "postgresql+asyncpg", MARIADB[0]]
HEAVY = heavy("postgresql+psycopg", *MARIADB[1:])


def found(findings: list[Finding]) -> set[tuple[str, str | None]]:
    return {(each.code, each.model) for each in findings}


@pytest.mark.parametrize(
    "backend", [*EVERYWHERE, *HEAVY, MARIADB_11[0], MYSQL_9[0]], indirect=True
)
async def test_everything(demo: AsyncEngine, backend: str) -> None:
    """Each kind of finding about models and tables, and nothing of what is sound."""
    findings = await check(demo, checked.Base)
    expected = set(checked.FOUND)
    if "mysql_9" in backend:
        expected |= {("not-native", None)}
    else:
        expected |= checked.NOT_NATIVE
    if demo.dialect.name not in checked.INNODB:
        expected |= checked.FOLDED
    if "mariadb_11" in backend:
        expected |= {("isolation", None)}
    assert found(findings) == expected
    errors = [each for each in findings if each.severity == "error"]
    assert findings[: len(errors)] == errors
    assert {each.code for each in errors} == {"missing-in-database", "duplicates"}
    [counted] = [each for each in errors if each.code == "duplicates"]
    assert "2 keys are there more than once by (name)" in counted.message
    assert "the most frequent 3 times" in counted.message


@pytest.mark.parametrize("backend", EVERYWHERE[:2], indirect=True)
async def test_no_drift(engine: AsyncEngine) -> None:
    """What SQLAlchemy has created, of all our models, is what they declare."""
    for module in (models, slippery, wide, filled, vague):
        if engine.dialect.name == "sqlite":
            async with engine.begin() as connection:
                await connection.run_sync(module.Base.metadata.create_all)
        findings = await check(engine, module.Base)
        harmless = {"no-unique-key", "nullable-key", "not-native"}
        assert [each for each in findings if each.code not in harmless] == []
