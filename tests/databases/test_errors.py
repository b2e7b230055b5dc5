"""Which database errors are a lost race: by code, on the real drivers' errors."""

from typing import Any

import aiomysql
import pytest
from asyncmy.errors import IntegrityError as AsyncmyIntegrityError
from models import Tag
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from async_goc._databases.errors import is_duplicate_key, violation


# An id that the sequence does not come to.
async def error_of(engine: AsyncEngine, **values: Any) -> DBAPIError:
    async with engine.connect() as connection:
        await connection.execute(insert(Tag).values(id=-1, name="red", slug="r"))
        with pytest.raises(DBAPIError) as raised:
            await connection.execute(insert(Tag).values(values))
    return raised.value


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"id": -1, "name": "x"}, "tag_pkey"),
        ({"name": "red"}, "tag_name_key"),
        ({"name": "x", "colour": "bad"}, None),
        ({"name": None}, None),
    ],
    ids=["primary key", "unique", "check", "not null"],
)
async def test_drivers(
    engine: AsyncEngine, values: dict[str, Any], expected: str | None
) -> None:
    """Duplicate keys are told from other violations; constraints have their names."""
    error = await error_of(engine, **values)
    assert isinstance(error, IntegrityError)
    assert is_duplicate_key(error) is (expected is not None)
    if engine.dialect.name == "postgresql" and expected is not None:
        assert violation(error).constraint == expected
        assert violation(error).table == "tag"


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (AsyncmyIntegrityError(1062, "Duplicate entry 'x' for key 'uq_k'"), True),
        (AsyncmyIntegrityError(1452, "a foreign key constraint fails"), False),
        (aiomysql.IntegrityError(1586, "Duplicate entry 'x' for key 'uq_k'"), True),
        (aiomysql.IntegrityError(1048, "Column 'x' cannot be null"), False),
        (aiomysql.IntegrityError(), False),
    ],
    ids=["asyncmy", "asyncmy foreign key", "aiomysql", "aiomysql null", "no code"],
)
def test_mysql_codes(cause: Exception, expected: bool) -> None:
    """MariaDB's and MySQL's drivers carry the code as the first argument."""
    error = IntegrityError("INSERT", None, cause)
    assert is_duplicate_key(error) is expected
    assert violation(error).constraint is None
