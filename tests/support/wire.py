"""Count round trips, as the network sees them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Wire:
    """A TCP proxy.

    Attributes:
        trips: How often the client has spoken after the server had, or first.
    """

    def __init__(self) -> None:
        self.trips = 0
        self._is_clients_turn = True

    async def forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_clients: bool,
    ) -> None:
        while data := await reader.read(1 << 16):
            if is_clients and self._is_clients_turn:
                self.trips += 1
            self._is_clients_turn = not is_clients
            writer.write(data)
        writer.close()


@asynccontextmanager
async def wire(host: str, port: int) -> AsyncIterator[tuple[Wire, int]]:
    """Forward to a server, for one connection at a time; yield the port to use."""
    counter = Wire()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        there, forth = await asyncio.open_connection(host, port)
        for pair in ((here, forth, True), (there, back, False)):
            work = counter.forward(*pair[:2], is_clients=pair[2])
            tasks.add(asyncio.create_task(work))

    server = await asyncio.start_server(serve, "127.0.0.1")
    yield counter, server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.gather(*tasks)
