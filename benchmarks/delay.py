"""Stand between clients and a server on this machine, and add a round trip's time.

It runs in a process of its own, so that it shares no event loop with what is measured:

    python benchmarks/delay.py 5432
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Seconds on the way there and back. Each timer fires about half a millisecond late, so
# that a round trip takes 5 ms more; the report says how many it was.
THERE, BACK = 0.002, 0.002


async def forward(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float
) -> None:
    """Pass on each chunk, so much later; chunks do not wait for each other."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while chunk := await source.read(65536):
            loop.call_later(delay, target.write, chunk)
    loop.call_later(delay, target.close)


async def serve(upstream: int) -> None:
    """Serve on a free port, which is printed, until killed."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(forward(reader, back, THERE), forward(there, writer, BACK))

    server = await asyncio.start_server(meet, "127.0.0.1", 0, backlog=500)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextmanager
def delayed(where: str) -> Iterator[str]:
    """Yield ``user@host:port`` of the same server, 5 ms away."""
    head, _, port = where.rpartition(":")
    command = [sys.executable, __file__, port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield f"{head}:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
