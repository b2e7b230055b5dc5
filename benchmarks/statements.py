"""Count the statements of 1,000 requests at once, each for a new row of its own.

    python benchmarks/statements.py

A proxy counts what goes to the server to be executed, BEGIN and COMMIT too; a text of
several statements is one. It is an error if a creator with a batch sends more than 20.
"""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import suppress
from threading import Thread

from cases import thousand
from claims import CREATOR
from lab import console, pin, postgres, show, tables
from peers import opened, versions

MOST = 20
# PostgreSQL's messages: Execute, and Query, which is parsed and executed in one.
EXECUTED = (b"E", b"Q")
# What comes before a connection's first message asks for encryption, and gets none.
ENCRYPTION = (80877103, 80877104)


class Proxy:
    """Passes on what it counts, in a thread, as some clients block theirs."""

    def __init__(self, where: str) -> None:
        self._user, _, address = where.partition("@")
        self._host, _, self._port = address.partition(":")
        self._tasks: set[asyncio.Task[None]] = set()
        self.statements = 0

    def start(self) -> str:
        """Return where to connect to, for as long as the process lasts."""
        loop = asyncio.new_event_loop()
        Thread(target=loop.run_forever, daemon=True).start()
        starting = asyncio.start_server(self._connect, "127.0.0.1")
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        return f"{self._user}@127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connect(self, here: StreamReader, back: StreamWriter) -> None:
        there, forth = await asyncio.open_connection(self._host, self._port)
        for work in (self._ask(here, forth), _answer(there, back)):
            self._tasks.add(asyncio.create_task(work))

    async def _ask(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(IncompleteReadError):
            while True:
                message = await _rest(reader)
                writer.write(message)
                if int.from_bytes(message[4:8]) not in ENCRYPTION:
                    break
            while True:
                kind = await reader.readexactly(1)
                writer.write(kind + await _rest(reader))
                self.statements += kind in EXECUTED
        writer.close()


async def _rest(reader: StreamReader) -> bytes:
    """Return a message from its length on."""
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size) - 4)


async def _answer(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def count(where: str) -> dict[str, int | str]:
    """Return how many statements each has sent, or why none."""
    counts: dict[str, int | str] = {}
    proxy, case = Proxy(where), thousand(rounds=0)
    async with opened(proxy.start()) as (contenders, reasons):
        counts |= reasons
        for title, contender in contenders.items():
            if contender.is_reference or contender.is_for_bulk:
                continue
            # Another thousand first, for which connections and drivers get ready.
            await case.sample(contender)
            before = proxy.statements
            sample = await case.sample(contender)
            assert not sample.failed, title
            counts[title] = proxy.statements - before
    return counts


def main() -> None:
    pin()
    with postgres() as where, tables(where):
        counts = asyncio.run(count(where))
    screen = console(130)
    screen.print(versions(), "\n")
    heads = "contender|statements of 1,000 requests"
    show(screen, "1,000 keys", heads, list(counts.items()))
    sent = counts[CREATOR]
    assert isinstance(sent, int), sent
    assert sent <= MOST, f"{CREATOR} has sent {sent} statements, not at most {MOST}"


if __name__ == "__main__":
    main()
