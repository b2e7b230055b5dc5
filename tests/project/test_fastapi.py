"""The FastAPI example under a real server, with clients that come, and go too soon."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from models import Tag
from serving import serving
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_tags.py"

# The example's table has the name of ours, and needs no more than ours has.
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.parametrize(
        "backend", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True
    ),
]


@pytest.fixture
def base_url(url: str) -> Iterator[str]:
    """Where the example listens."""
    settings = {"TAGS_DATABASE_URL": url, "TAGS_PORT": "0"}
    with serving("-W", "error", EXAMPLE, awaited="running on", **settings) as log:
        yield next(word for word in log[-1].split() if word.startswith("http://"))


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as client:
        yield client


async def reach(
    client: httpx.AsyncClient, is_reached: Callable[[dict[str, Any]], bool]
) -> None:
    """Return when the server's state is as it should be."""
    state: dict[str, Any] = {}
    try:
        async with asyncio.timeout(10):
            while not (state and is_reached(state)):
                state = (await client.get("/locks")).json()
    except TimeoutError:
        pytest.fail(f"the state stays {state}")


def is_idle(state: dict[str, Any]) -> bool:
    """No key is held, no call waits for one, and no connection is in use."""
    return (state["held"], state["waiting"]) == (0, 0) and state["pool"].endswith(
        "Current Checked out connections: 0"
    )


async def test_crowd(client: httpx.AsyncClient, backend: str) -> None:
    """50 clients x 10 requests: all succeed, and each of 20 tags is created once.

    25 clients ask for the same tag at once.
    """
    clients = 10 if backend.startswith("sqlite") else 50
    # Loading the certificates for every client takes longer than all its requests.
    context = ssl.create_default_context()

    async def ask(number: int) -> list[httpx.Response]:
        wanted = [f"{client.base_url}/tags/{n:02}" for n in range(number % 2, 20, 2)]
        async with httpx.AsyncClient(timeout=30, verify=context) as own:
            return [await own.put(url) for url in wanted]

    asked = await asyncio.gather(*map(ask, range(clients)))
    answers = [answer for answers in asked for answer in answers]
    assert len(answers) == 10 * clients
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {201: 20, 200: 10 * clients - 20}
    tags = [answer.json() for answer in answers]
    assert len({(tag["id"], tag["name"]) for tag in tags}) == 20
    names = [f"{n:02}" for n in range(20)]
    created = [tag["name"] for tag in tags if tag["created"]]
    assert sorted(created) == (await client.get("/tags")).json() == names
    await reach(client, is_idle)


async def test_clients_that_leave(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """One leaves in mid-response, one while it waits: the next one creates the tag.

    The response is larger than all buffers, so the server has to wait for the client,
    inside of the transaction.
    """
    rows = [{"name": f"{n:03}".ljust(10_000, "x")} for n in range(1000)]
    async with engine.begin() as connection:
        await connection.execute(insert(Tag), rows)

    async with client.stream("POST", "/tags/python/stream") as first:
        lines = first.aiter_lines()
        assert await anext(lines) == "created"
        await reach(client, lambda state: state["held"] > 0)
        async with client.stream("POST", "/tags/python/stream"):
            await reach(client, lambda state: state["waiting"] == 1)
        await reach(client, lambda state: state["waiting"] == 0)
    await reach(client, is_idle)

    again = await client.put("/tags/python")
    assert (again.status_code, again.json()["created"]) == (201, True)
    # A client that reads to the end has the tag committed.
    for expected in ("created", "found"):
        answer = await client.post("/tags/sql/stream")
        assert answer.text.partition("\n")[0] == expected
    await reach(client, is_idle)
