"""Take a bulk call through its input, and through all of its chunks."""

from collections import Counter
from collections.abc import Callable, Sized
from contextlib import AsyncExitStack
from typing import Any

from .._call import Call, Outcome
from .._lookup import Uncollected
from .answers import INSTANCES, Answers
from .input import BulkArguments, Input, check_input
from .ledger import Ledger, picked
from .loop import Bulk
from .rows import Places

Tell = Callable[[Places], None]


async def find_or_create(
    call: Call, args: BulkArguments, answers: Answers = INSTANCES
) -> list[tuple[Any, bool]]:
    """Return an answer for each row of the input, and whether this call created it."""
    call.rows = 0  # As long as they have not been read.
    call.claim_session()
    wanted = await check_input(call, args, answers)
    if wanted is None:
        call.outcome = Outcome.HIT
        return []
    treating = _treat(call, wanted, _teller(args, wanted.ledger.asked))
    # What the caller's functions make may be garbage.
    has_functions = wanted.defaults.is_lazy
    return await (treating if has_functions else Uncollected(treating))


async def _treat(call: Call, wanted: Input, tell: Tell) -> list[tuple[Any, bool]]:
    async with AsyncExitStack() as stack:
        bulk = Bulk(wanted, stack)
        await _find_or_create_all(bulk, wanted, tell)
    call.created = len(wanted.ledger.created)
    if call.created:
        call.outcome = Outcome.CREATED
    elif bulk.has_lost:
        call.outcome = Outcome.LOST_RACE
    else:
        call.outcome = Outcome.UPDATED if wanted.changes else Outcome.HIT
    return _results(wanted.ledger)


async def _find_or_create_all(bulk: Bulk, wanted: Input, tell: Tell) -> None:
    """Create what is missing in all of the chunks; only then lock what is there."""
    for chunk in wanted.chunks:
        await bulk.find_or_create(chunk)
        if not wanted.changes:
            tell(chunk)
    # Inserting while holding row locks can deadlock with another call, so nothing is
    # locked until every chunk is inserted.
    for chunk in wanted.chunks if wanted.changes else ():
        there = [place for place in chunk if place not in wanted.ledger.created]
        if there:
            await bulk.update(there, wanted.changes)
        tell(chunk)


def _teller(args: BulkArguments, asked: Places) -> Tell:
    """Return what tells the caller of each chunk that is done."""
    progress, rows = args.progress, args.rows
    counts = Counter[int](asked if progress is not None else ())
    total = len(asked) if isinstance(rows, Sized) else None
    done = 0

    def tell(chunk: Places) -> None:
        nonlocal done
        if progress is not None:
            done += sum(counts[place] for place in chunk)
            progress(done, total)

    return tell


def _results(ledger: Ledger) -> list[tuple[Any, bool]]:
    created = [False] * len(ledger.asked)
    # Of the mappings with one key, only the first has created the row.
    for place in ledger.created:
        created[place] = True
    return list(zip(picked(ledger.answers, ledger.asked), created, strict=True))
