"""A network that breaks, or is slow, at a given word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


class Network:
    """A TCP proxy to a PostgreSQL.

    Attributes:
        cuts: How often it still breaks the connection that sends *word*.
        is_late: Whether the server gets the word, and only its answer is lost.
        slow: A word that takes *delay* seconds.
    """

    word = b"COMMIT"

    def __init__(self) -> None:
        self.cuts = 0
        self.is_late = False
        self.slow = b""
        self.delay = 0.3
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(
        self,
        address: tuple[str, int],
        here: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        there, forth = await asyncio.open_connection(*address)
        self.writers.append(forth)
        answers = asyncio.create_task(_forward(there, back))
        try:
            is_cut = await self._send(here, forth)
            await _end(answers)
            if is_cut and self.is_late:
                await there.read(1)
        finally:
            answers.cancel()
            back.close()
            forth.close()

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        while data := await reader.read(1 << 16):
            if self.slow and self.slow in data:
                await asyncio.sleep(self.delay)
            is_cut = self.cuts > 0 and self.word in data
            self.cuts -= is_cut
            if self.is_late or not is_cut:
                writer.write(data)
            if is_cut:
                return True
        return False


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def through_network(url: str) -> AsyncIterator[tuple[Network, AsyncEngine]]:
    """An engine whose connections pass through the network."""
    server, network = make_url(url), Network()
    assert server.host is not None
    assert server.port is not None
    address = (server.host, server.port)
    tasks: set[asyncio.Task[None]] = set()

    def serve(here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        network.writers.append(back)
        tasks.add(asyncio.create_task(network.serve(address, here, back)))

    proxy = await asyncio.start_server(serve, "127.0.0.1")
    port = proxy.sockets[0].getsockname()[1]
    engine = create_async_engine(server.set(port=port))
    yield network, engine
    await engine.dispose()
    proxy.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in network.writers:
        writer.close()
    closed = (writer.wait_closed() for writer in network.writers)
    await asyncio.gather(*closed, return_exceptions=True)
