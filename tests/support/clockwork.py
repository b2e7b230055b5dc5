"""An event loop whose clock stands still, and calls and owners for it."""

import asyncio
from itertools import count
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from async_goc._locks.owner import Answer, Owner
from async_goc._locks.queues import Queues
from async_goc._locks.statistics import Counts


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still, and which tells futures apart by call."""

    now = 0.0
    call: "Call | None" = None

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        future = super().create_future()
        if self.call is not None:
            self.call.answer, self.call = future, None
        return future

    def tick(self) -> None:
        """Let everything that is ready run once."""
        self.call_soon(self.stop)
        self.run_forever()


class Holder(Owner):
    """An owner whose life and rank the machine decides on."""

    def __init__(self, rank: int, place: int) -> None:
        super().__init__()
        self.level = rank
        self.place = place
        self.is_well = True
        self.is_busy = False

    def __hash__(self) -> int:
        return self.place  # in sets: any, but the same each time

    def __eq__(self, other: object) -> bool:
        return self is other

    def is_alive(self) -> bool:
        return self.is_well

    def rank(self) -> int:
        return self.level

    def is_executing(self) -> bool:
        return self.is_busy

    def is_in_line(self, _: object) -> bool:
        return False


class Call:
    """An owner asks for a key once."""

    task: asyncio.Task[None]
    answer: asyncio.Future[Answer] | None = None
    order = 0
    rank = 0
    since = 0.0
    is_in_cycle = False

    def __init__(self, key: str, owner: Holder, limit: float | None) -> None:
        self.key = key
        self.owner = owner
        self.limit = limit

    @property
    def waits(self) -> bool:
        return self.answer is not None and not self.answer.done()


class Simulation(RuleBasedStateMachine):
    """Queues, and the owners and calls that they have to do with, at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.queues = Queues(self.loop, 1, Counts())
        self.calls: list[Call] = []
        self.order = count()
        self.owners: list[Holder] = []
        self.dead: list[Holder] = []
        # {key: (its dead holder, since when it is seen to have kept others waiting)}
        self.stuck: dict[str, tuple[Owner, float]] = {}
        # {key: (its holder, since when it is seen to have kept others waiting)}
        self.kept: dict[str, tuple[Any, float]] = {}
        # {holder: when it was last seen to have a scout}
        self.asked: dict[Any, float] = {}

    def holder(self, key: str) -> Any:
        return self.queues._holders.get(key)

    def scout(self, key: str) -> Any:
        line = self.queues._lines.get(key)
        return None if line is None else line.scout

    def queue(self, key: str) -> list[Call]:
        """The calls that wait for the key, the next one first."""
        waiting = [call for call in self.calls if call.key == key and call.waits]
        return sorted(waiting, key=lambda call: (-call.rank, call.order))

    def members(self, key: str, owner: Holder) -> list[Call] | None:
        """The calls in the cycle that waiting for the key would close."""
        waits = {call.owner: call for call in self.calls if call.waits}
        members = []
        while (holder := self.holder(key)) in waits:
            members.append(waits[holder])
            key = waits[holder].key
        return members if holder is owner else None

    def settle(self, *, really: bool = True) -> None:
        """Let everything run that can, if it shall."""
        while really:
            self.loop.tick()
            if not self.loop._ready:
                self.loop.tick()  # timers that are due
                really = bool(self.loop._ready)
        for call in [call for call in self.calls if call.task.done()]:
            self.calls.remove(call)
            if not call.task.cancelled():
                call.task.result()
