"""What the registry costs a call that nobody else competes with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from statistics import median, quantiles
from time import perf_counter

from lab import Action, NoLock, Ours, Tag, Way, connected, interleave
from load import request
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from async_goc._call.events import Call
from async_goc._call.session import alone
from async_goc._lookup.lookup import bind
from async_goc._turns.ownership import _on_commit, _on_end
from async_goc._turns.turn import Turn

_names = count()
_WAY = Ours()


async def calls(where: str, rounds: int = 600) -> list[tuple[str, ...]]:
    """Calls, and whole requests, with the registry and without."""
    async with connected(where, 2) as engine:
        sessions = async_sessionmaker(engine)
        alone, ours, unknown = NoLock(), Ours(), Ours(known_keys=0)

        def new(way: Way) -> Action:
            return lambda: request(way, sessions, f"cost {next(_names)}")

        def old(way: Way) -> Action:
            return lambda: request(way, sessions, "existing")

        async with sessions() as session:
            found = await NoLock().ask(session, "existing")
            inside = await interleave(
                {
                    way.title: partial(way.ask, session, "existing")
                    for way in (alone, ours)
                },
                2 * rounds,
                warmup=100,
            )
            del found
        hits = await interleave(
            {"no lock": old(alone), "known": old(ours), "unknown": old(unknown)},
            rounds,
            warmup=50,
        )
        misses = await interleave(
            {"no lock": new(alone), "ours": new(ours)}, rounds, warmup=50
        )
    return [
        _ratio("hit, transaction open", inside, "ours"),
        _ratio("request, hit, key known", hits, "known"),
        _ratio("request, hit, key not known", hits, "unknown"),
        _ratio("request, miss", misses, "ours"),
    ]


def _ratio(title: str, taken: dict[str, list[float]], name: str) -> tuple[str, ...]:
    alone, ours = median(taken["no lock"]) * 1e3, median(taken[name]) * 1e3
    pairs = zip(taken[name], taken["no lock"], strict=True)
    paired = median(a - b for a, b in pairs) * 1e3
    ratio = f"{ours / alone:.3f}"
    return title, f"{alone:,.0f}", f"{ours:,.0f}", ratio, f"{paired:+.0f}"


@dataclass(frozen=True, slots=True)
class Path:
    """One way through a turn: what there is before it, and how it ends."""

    title: str
    is_connected: bool
    is_known: bool
    is_created: bool


PATHS = (
    Path("hit, transaction open", True, False, False),  # noqa: FBT003
    Path("hit, no connection yet, key known", False, True, False),  # noqa: FBT003
    Path("hit, no connection yet, key not known", False, False, False),  # noqa: FBT003
    Path("created, transaction open", True, False, True),  # noqa: FBT003
    Path("created, no connection yet", False, False, True),  # noqa: FBT003
)

HITS = {path.is_connected: path for path in PATHS if not path.is_created}


async def turns(where: str, rounds: int = 500) -> list[tuple[str, ...]]:
    """The registry's own work for a whole turn, beside calls in the same rounds.

    Right after a call that has waited for the database, the processor has forgotten the
    code; so the same work is also timed after four turns like it, as a loop would.
    """
    async with connected(where, 2) as engine:
        taken: dict[str, list[float]] = {path.title: [] for path in PATHS}
        looped: dict[str, list[float]] = {path.title: [] for path in PATHS}
        calls: dict[str, list[float]] = {path.title: [] for path in PATHS}
        for _ in range(rounds):
            for path in PATHS:
                first, *_, last = [await _turn(engine, path) for _ in range(5)]
                taken[path.title].append(first)
                looped[path.title].append(last)
                calls[path.title].append(await _call(engine, path))
    rows: list[tuple[str, ...]] = []
    for path in PATHS:
        hit = _undisturbed(calls[HITS[path.is_connected].title])
        itself = _undisturbed(calls[path.title])
        row = [path.title]
        for costs in (looped, taken):
            cost = _undisturbed(costs[path.title])
            row += [f"{cost:.1f}", f"{cost / hit:.1%}", f"{cost / itself:.1%}"]
        rows.append(tuple(row))
    return rows


def _undisturbed(values: list[float]) -> float:
    """Return the first decile: a call waits, and neighbours prolong that the most."""
    return quantiles(values[50:], n=10)[0]


async def _call(engine: AsyncEngine, path: Path) -> float:
    """Return the microseconds that the call takes by itself, with its BEGIN."""
    name = f"call {next(_names)}" if path.is_created else "existing"
    async with AsyncSession(engine) as session:
        if path.is_connected:
            await session.connection()
        started = perf_counter()
        await NoLock().ask(session, name)
        return (perf_counter() - started) * 1e6


@asynccontextmanager
async def _used(session: AsyncSession) -> AsyncIterator[None]:
    """Be inside of a call."""
    with alone(session):
        yield


async def _turn(engine: AsyncEngine, path: Path) -> float:
    """Take one turn as ``get_or_create`` does, without its SQL; in microseconds."""
    name = "turn" if path.is_known else f"turn {next(_names)}"
    async with AsyncSession(engine) as session, _used(session):
        if path.is_connected:
            await session.connection()
        lookup = bind(session, Tag, (), {"name": name})
        call = Call("get_or_create", Tag, "savepoint", None)
        started = perf_counter()
        turn = Turn(session, lookup, _WAY.policy, call).__enter__()
        await turn.reserve()
        spent = perf_counter() - started
        await session.connection()
        started = perf_counter()
        if path.is_created:
            await turn.queue()
            turn.created()
        else:
            turn.hit()
        turn.__exit__(None, None, None)
        spent += perf_counter() - started
        assert _WAY.held() == path.is_created
        sync, root = session.sync_session, session.sync_session.get_transaction()
        assert root is not None
        started = perf_counter()
        _on_commit(sync)
        _on_end(sync, root)
        spent += perf_counter() - started
        assert _WAY.held() == 0
    return spent * 1e6
