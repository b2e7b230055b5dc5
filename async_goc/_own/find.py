"""The loop of a creator: join an equal call, or look, insert, and look once more."""

import asyncio
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from .._call import Outcome
from .._models import T
from .asks import Ask
from .batch import Queue
from .direct import MISSING, Direct, Missing
from .flights import Answer, Flight, Signal, answer_of
from .rows import Row
from .under_way import UnderWay
from .wanted import Wanted

R = TypeVar("R")

# The direct lane asks past SQLAlchemy, and answers what is certain. A call for which it
# does not know an answer, for whatever reason, is done once more in a session, which
# tells the truth in all cases: so all ways have one meaning, and one set of errors.


async def find_or_create(wanted: Wanted[T]) -> tuple[T, bool]:
    """Return the row, detached and readable, and whether this call has created it."""
    call, here, is_in_batches = wanted.call, wanted.call.under_way, True
    while wanted.key is not None:
        queue = here.queue_for(wanted.kind, call.policy)
        flight = here.flights.get(wanted.key)
        if flight is not None:
            ending = answer_of(await call.wait(flight.join()))
        elif queue is None or not is_in_batches or not queue.is_open():
            return await _lead(wanted, here, queue)
        else:
            waiting = _wait_for_batch(wanted, here, queue)
            ending = answer_of(await call.wait(waiting))
        # What a batch has answered was judged there.
        is_judged = flight is None or wanted.direct is not None
        if isinstance(ending, tuple) and is_judged:
            return wanted.answered(*ending)
        if ending is Signal.LEAVE_BATCH:
            is_in_batches = False
        elif ending is not Signal.START_OVER:
            break
    return await _ask(wanted, Flight(here.flights, None))


async def _lead(
    wanted: Wanted[T], here: UnderWay, queue: Queue | None
) -> tuple[T, bool]:
    """Ask, and share the answer with equal calls that come in the meantime."""
    flight = Flight(here.flights, wanted.key)
    if wanted.direct is None:
        queue = None
    if queue is not None:
        queue.alone += 1
    # If this call fails, the others find out at once, each by itself: they may have
    # other defaults, and no time to fail one after the other.
    ending, end = Signal.GO_ALONE, flight.end
    try:
        result = await _ask(wanted, flight)
        if wanted.direct is not None:
            ending = Signal.START_OVER
    except asyncio.CancelledError:
        ending = Signal.START_OVER
        raise
    except GeneratorExit:
        # The garbage collector closes a call in any thread.
        ending, end = Signal.START_OVER, partial(here.home.run, flight.end)
        raise
    else:
        return result
    finally:
        if queue is not None:
            queue.alone -= 1
        end(ending)


async def _wait_for_batch(
    wanted: Wanted[T], here: UnderWay, queue: Queue
) -> Answer | Signal | Exception:
    flight = Flight(here.flights, wanted.key)
    future = flight.join()
    try:
        # What is still to be worked out can only be found.
        context = copy_context() if queue.needs_contexts else None
        ask = Ask(wanted.lookup, wanted.plain_defaults, context)
        await queue.put((ask, flight))
    except BaseException:
        here.home.run(flight.end, Signal.START_OVER)
        raise
    return await future


async def _ask(wanted: Wanted[T], flight: Flight) -> tuple[T, bool]:
    """Ask by the direct lane, and in a session if that does not know the answer."""
    call, direct = wanted.call, wanted.direct
    if direct is None:
        return await wanted.in_session()
    flight.depart(is_only_call=call.under_way.calls == 1)
    if direct.expects_miss and wanted.plain_defaults is not None:
        row, outcome = await _find_or_insert(wanted, direct, flight)
    else:
        row, outcome = await direct.find(wanted.lookup), Outcome.HIT
    if row is MISSING and outcome is Outcome.HIT:
        # No connection is kept in the meantime.
        direct = await wanted.evaluate()
        defaults = wanted.plain_defaults
        if direct is None or defaults is None:
            return await wanted.in_session()
        flight.depart()
        call.attempts, limit = 1, call.limit
        row = await direct.insert(wanted.lookup, defaults, lock_timeout=limit)
        outcome = Outcome.CREATED
        if row is None:
            flight.depart()
            row, outcome = await direct.find(wanted.lookup), Outcome.LOST_RACE
    if row is None or row is MISSING:
        return await wanted.in_session()
    if flight.waiting:
        flight.land(direct, row, outcome, is_leaders=True)
    return wanted.answered(direct, row, outcome)


async def _find_or_insert(
    wanted: Wanted[T], direct: Direct[T], flight: Flight
) -> tuple[Row | Missing | None, Outcome]:
    """Ask by one statement; where that does not tell, look once more."""
    call, defaults = wanted.call, wanted.plain_defaults or {}
    call.attempts, limit = 1, call.limit
    row, is_new = await direct.find_or_insert(
        wanted.lookup, defaults, lock_timeout=limit
    )
    if is_new:
        return row, Outcome.CREATED
    if row is MISSING:
        flight.depart()
        return await direct.find(wanted.lookup), Outcome.LOST_RACE
    call.attempts = 0
    if row is None:
        flight.depart()
        row = await direct.find(wanted.lookup)
        if row is MISSING:
            row = None  # Another INSERT would be refused, or wait, as well.
    return row, Outcome.HIT
