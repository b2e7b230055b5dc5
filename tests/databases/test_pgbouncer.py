"""PgBouncer in transaction mode: each transaction may have another connection."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pooled
import poolers
import processes
import psycopg
import pytest
from backends import POSTGRES
from sqlalchemy import URL, make_url

DOCUMENT = Path(__file__).parents[2] / "docs" / "postgresql.md"
# How many server connections there are.
SIZE = 3
KEYS = 3
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.fixture
def pooler(server: str) -> Iterator[str]:
    with poolers.pgbouncer(server, default_pool_size=SIZE) as where:
        yield where


@pytest.mark.heavy
@pytest.mark.parametrize("backend", POSTGRES, indirect=True)
async def test_pgbouncer(pooler: str, url: str) -> None:
    """48 clients, of 3 server connections: no call fails, and each row is created once.

    With the settings of the documents, by each verb, and by both strategies at a time.
    """
    [block] = [block for block in BLOCKS if make_url(url).drivername in block]
    place = make_url(f"postgresql://{pooler}")
    there = make_url(url).set(host=place.host, port=place.port)
    text = there.render_as_string(hide_password=False)
    strategies = ["savepoint", "native"] * 2
    calls = [(block, text, strategy, 12, KEYS) for strategy in strategies]
    results = await processes.at_once(pooled, *calls)
    created = sum((Counter(result["created"]) for result in results), Counter())
    assert created == {f"{way} {n}": 1 for way in pooled.WAYS for n in range(KEYS)}
    # Each is a statement that is prepared and executed in one transaction.
    is_asyncpg = url.startswith("postgresql+asyncpg")
    lane = "session" if is_asyncpg else "cursor"
    assert [result["lanes"] for result in results] == [{lane: 2 * 12 * KEYS}] * 4
    assert kept(there.set(drivername="postgresql")) == [0] * SIZE


def kept(url: URL) -> list[int]:
    """How many prepared statements each of the server connections has."""
    text = url.render_as_string(hide_password=False)
    with ExitStack() as stack:
        # Each is in a transaction, and so they are all of them.
        connections = [
            stack.enter_context(psycopg.connect(text, prepare_threshold=None))
            for _ in range(SIZE)
        ]
        counting = "SELECT count(*) FROM pg_prepared_statements"
        found = [connection.execute(counting) for connection in connections]
        return [number for cursor in found for number in cursor.fetchone() or ()]
