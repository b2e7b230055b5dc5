"""Put load on the service: many users at once, for few teams, heroes and tags.

    python examples/fastapi_app/storm.py [--url http://127.0.0.1:8000]

60 users send 3,000 requests for 300 heroes with 20 tags, and 100 more clients hang up
in the middle of theirs. At the end each hero must be there once, created by one
request, and no worker may hold a key or a connection. Exit code 1: something was wrong.
"""

import argparse
import asyncio
import random
import ssl
import sys
from collections import Counter
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

TEAMS, HEROES, TAGS = 3, 100, 20
# In a row: which worker answers is chance.
IDLE_ANSWERS = 50


class Load:
    """What is sent, and what has come of it."""

    def __init__(self, url: str, users: int, requests: int, leaving: int) -> None:
        self.url = url
        self.users, self.requests, self.leaving = users, requests, leaving
        self.statuses: Counter[int] = Counter()
        self.created: Counter[str] = Counter()
        self.errors: list[str] = []
        self.left = 0
        # The same in each run.
        self._random = random.Random(1)  # noqa: S311
        # Loading the certificates for each client takes longer than its requests.
        self._context = ssl.create_default_context()
        # A run meets no hero of the run before.
        self._run = f"{random.SystemRandom().getrandbits(32):x}"

    def path(self, number: int) -> str:
        """Return what the request asks for: each hero ten times, in any order."""
        hero = number % (TEAMS * HEROES)
        tags = "&".join(f"tags=tag-{(hero + n) % TAGS}" for n in range(3))
        return f"/heroes/team-{self._run}-{hero % TEAMS}/hero-{hero}?{tags}"

    def client(self, user: int) -> httpx.AsyncClient:
        # Three clients have the same user, and one of them writes it in capitals.
        email = f"user-{user // 3}@example.com"
        headers = {"user": email.upper() if user % 3 == 0 else email}
        # Each request may meet another worker.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=60,
            verify=self._context,
            limits=limits,
        )

    async def use(self, user: int, numbers: list[int], progress: Progress) -> None:
        """Send one user's requests, one after the other."""
        async with self.client(user) as client:
            for number in numbers:
                path = self.path(number)
                try:
                    answer = await client.put(path)
                except httpx.HTTPError as error:
                    self.errors.append(f"{path}: {error!r}")
                    continue
                self.statuses[answer.status_code] += 1
                self.created[path] += answer.status_code == httpx.codes.CREATED
                if not answer.is_success:
                    self.errors.append(f"{path}: {answer.status_code} {answer.text}")
                progress.advance(progress.task_ids[0])

    async def leave(self, number: int) -> None:
        """Send a request, and hang up while it is being answered."""
        # Spread over the first second; and only what has been sent is answered.
        await asyncio.sleep(self._random.random())
        url = httpx.URL(self.url)
        _, writer = await asyncio.open_connection(url.host, url.port)
        path = self.path(number).replace("hero-", f"left-{number}-")
        user = f"user-{number // 3}@example.com"
        request = f"PUT {path} HTTP/1.1\r\nhost: {url.host}\r\nuser: {user}\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        await asyncio.sleep(self._random.random() / 20)
        writer.close()

    async def run(self) -> None:
        numbers = list(range(self.requests))
        self._random.shuffle(numbers)
        with Progress(console=Console(stderr=True)) as progress:
            progress.add_task("requests", total=self.requests)
            async with asyncio.TaskGroup() as group:
                for user in range(self.users):
                    own = numbers[user :: self.users]
                    group.create_task(self.use(user, own, progress))
                for number in range(self.leaving):
                    group.create_task(self.leave(number))
        await self.check()

    async def check(self) -> None:
        """See that each row is there once, and nothing is held."""
        asked = {self.path(number) for number in range(self.requests)}
        wrong = [path for path in asked if self.created[path] != 1]
        self.errors += [f"{p}: created by {self.created[p]} requests" for p in wrong]
        async with self.client(0) as client:
            names: Counter[str] = Counter()
            for team in range(TEAMS):
                answer = await client.get(f"/heroes/team-{self._run}-{team}")
                names.update(hero["name"] for hero in answer.json())
            left = {name for name in names if name.startswith("left-")}
            self.left = len(left)
            expected = {path.split("/")[3].split("?")[0] for path in asked} | left
            if names != dict.fromkeys(expected, 1):
                self.errors.append(f"{len(names)} heroes are there, some twice or none")
            await self._is_idle(client)

    async def _is_idle(self, client: httpx.AsyncClient) -> None:
        """See that all workers come to rest, each of which answers now and then."""
        busy: dict[int, Any] = {}
        idle_answers = 0
        for _ in range(400):
            state = (await client.get("/state")).json()
            key = state["worker"]
            busy[key] = {n: state[n] for n in ("held", "waiting", "connections")}
            is_busy = any(any(each.values()) for each in busy.values())
            idle_answers = 0 if is_busy else idle_answers + 1
            if idle_answers == IDLE_ANSWERS:
                return
        self.errors.append(f"not idle: {busy}")

    def report(self) -> None:
        table = Table("", "count")
        for status, count in sorted(self.statuses.items()):
            table.add_row(f"status {status}", f"{count:,}")
        table.add_row("heroes created", f"{sum(self.created.values()):,}")
        table.add_row("clients that hung up", f"{self.leaving:,}")
        table.add_row("  their heroes", f"{self.left:,}")
        console = Console()
        console.print(table)
        for error in self.errors[:20]:
            console.print(error)
        console.print(f"{len(self.errors)} errors")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--leaving", type=int, default=100)
    load = Load(**vars(parser.parse_args()))
    try:
        httpx.get(f"{load.url}/state")
    except httpx.ConnectError:
        sys.exit(
            f"Nothing answers at {load.url}: python examples/fastapi_app serves it."
        )
    asyncio.run(load.run())
    load.report()
    sys.exit(1 if load.errors else 0)


if __name__ == "__main__":
    main()
