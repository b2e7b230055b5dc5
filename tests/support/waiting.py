"""Wait for states instead of for time; count what reaches the database."""

import asyncio
from collections import Counter
from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine


class Clock:
    """A loop's clock that stands still, until a test moves it on."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def until(condition: Callable[[], object], limit: float = 10) -> None:
    """Let the other tasks run until *condition* holds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def sent(engine: AsyncEngine) -> Counter[str]:
    """Statements from now on by their first word, and errors by their class."""
    counts: Counter[str] = Counter()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        counts[statement.split(maxsplit=1)[0]] += 1

    def note_error(context: ExceptionContext) -> None:
        counts[type(context.sqlalchemy_exception).__name__] += 1

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    event.listen(engine.sync_engine, "handle_error", note_error)
    return counts
