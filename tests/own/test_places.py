"""The places of a flight: which calls its answer serves, without any database."""

import asyncio
from typing import Any

import pytest

from async_goc import Outcome
from async_goc._own.flights import Answer, Flight, Flights, Signal

NOBODY: Any = None
CREATED: Answer = NOBODY, "row", Outcome.CREATED
WAITED: Answer = NOBODY, "row", Outcome.WAITED_HIT
KEY = "key"


def land(flight: Flight, *, is_leaders: bool = False) -> None:
    flight.land(NOBODY, "row", Outcome.CREATED, is_leaders=is_leaders)


async def turn() -> None:
    await asyncio.sleep(0)


async def test_a_place_taken_later_is_not_served() -> None:
    """The answer is for those that joined before their task could know better.

    Those of the turn in which the statement was sent are among them.
    Fails without `_close` in `depart`.
    """
    flight = Flight({}, KEY)
    before = flight.join()
    flight.depart()
    same_turn = flight.join()
    await turn()
    later = flight.join()
    land(flight)
    assert [each.result() for each in (before, same_turn, later)] == [
        CREATED,
        WAITED,
        Signal.START_OVER,
    ]


async def test_an_error_is_for_those_that_were_to_be_served() -> None:
    """What came later has no part in it: it was not sent, nor has it waited so long.

    Fails without `served` in `Flight.fail`.
    """
    flight, error = Flight({}, KEY), TimeoutError()
    before = flight.join()
    flight.depart()
    same_turn = flight.join()
    await turn()
    later, cancelled = flight.join(), flight.join()
    cancelled.cancel()
    flight.fail(error)
    results = [each.result() for each in (before, same_turn, later)]
    assert results == [error, error, Signal.START_OVER]


@pytest.mark.parametrize("turns", [0, 1])
async def test_the_next_statement_serves_all_that_came_before_it(turns: int) -> None:
    """A SELECT that finds nothing is followed by an INSERT, whose answer is newer.

    A driver may have the answer within the turn in which it has sent the statement.
    Fails without `served` in `depart`.
    """
    flight = Flight({}, KEY)
    flight.depart()
    await turn()
    between = flight.join()
    flight.depart()
    later = []
    for _ in range(turns):
        await turn()
        later.append(flight.join())
    land(flight)
    assert between.result() == CREATED
    assert [each.result() for each in later] == [Signal.START_OVER] * turns


async def test_a_call_that_is_alone_serves_those_that_have_joined() -> None:
    """It spares a turn of the loop: whatever joins afterwards starts over.

    Fails without `is_only_call` in `Flight.depart`.
    """
    flight = Flight({}, KEY)
    before = flight.join()
    flight.depart(is_only_call=True)
    same_turn = flight.join()
    land(flight)
    assert before.result() is not Signal.START_OVER
    assert same_turn.result() is Signal.START_OVER


async def test_nothing_was_sent() -> None:
    """A flight that never departs has no answer for anybody."""
    flight = Flight({}, KEY)
    future = flight.join()
    land(flight)
    assert future.result() is Signal.START_OVER


@pytest.mark.parametrize("is_leaders", [False, True])
async def test_one_live_call_has_created_the_row(is_leaders: bool) -> None:
    """Calls that were cancelled create nothing: the first that still waits has.

    Or its leader, who does not wait, has: then all others get the row of the leader.
    Fails without `done` in `Flight.land`, and without `is_leaders` in `Flight.land`.
    """
    flight = Flight({}, KEY)
    futures = [flight.join() for _ in range(5)]
    flight.depart()
    futures[0].cancel()
    await turn()
    futures[1].cancel()
    assert not flight.is_deserted()
    land(flight, is_leaders=is_leaders)
    first = WAITED if is_leaders else CREATED
    assert [each.result() for each in futures[2:]] == [first, WAITED, WAITED]
    assert all(each.cancelled() for each in futures[:2])
    assert flight.is_deserted()


async def test_a_flight_that_has_ended_makes_room_for_the_next() -> None:
    """A second ending changes nothing: neither for its own calls, nor for a successor.

    Fails without `get` in `Flight.end`, and without `done` in `Flight.end`.
    """
    flights: Flights = {}
    first = Flight(flights, KEY)
    future = first.join()
    first.end(Signal.GO_ALONE)
    assert not flights
    second = Flight(flights, KEY)
    first.end(Signal.START_OVER)
    land(first)
    assert future.result() is Signal.GO_ALONE
    assert flights == {KEY: second}


async def test_a_flight_without_a_key_is_joined_by_nobody() -> None:
    """A call that is on its own is not found by others."""
    flights: Flights = {}
    Flight(flights, None).depart()
    assert not flights


async def test_an_error_finds_a_call_cancelled() -> None:
    """It is told to the other calls.

    Fails without `done` in `Flight.fail`.
    """
    flight = Flight({}, KEY)
    gone, there = flight.join(), flight.join()
    flight.depart()
    gone.cancel()
    error = ValueError()
    flight.fail(error)
    assert gone.cancelled()
    assert there.result() is error
