"""What observers see."""

import pickle
from asyncio import CancelledError
from typing import Any

import pytest
from models import Tag
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import (
    DEFAULT_POLICY,
    Event,
    Outcome,
    Policy,
    Stats,
    exceptions,
    get_or_create,
)


async def test_one_event_per_call(session: AsyncSession) -> None:
    """Each call is reported once, with its outcome; a failed one, too."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    for _ in range(2):
        await get_or_create(session, Tag, name="red", policy=policy)
    with pytest.raises(exceptions.UnknownFieldError) as raised:
        await get_or_create(session, Tag, nmae="red", policy=policy)
    assert [(e.verb, e.model, e.outcome, e.attempts, e.error) for e in events] == [
        ("get_or_create", Tag, Outcome.CREATED, 1, None),
        ("get_or_create", Tag, Outcome.HIT, 0, None),
        ("get_or_create", Tag, Outcome.FAILED, 0, raised.value),
    ]
    assert all(event.elapsed > 0 for event in events)
    assert all(event.lane is None for event in events)


async def test_a_call_that_has_not_begun_is_not_reported(
    session: AsyncSession,
) -> None:
    """A session of the wrong type is refused, and the observer does not hear of it."""
    events: list[Event] = []
    wrong: Any = session.sync_session
    with pytest.raises(TypeError, match="AsyncSession"):
        await get_or_create(wrong, Tag, name="a", policy=Policy(observer=events.append))
    assert events == []


def test_without_a_loop_of_asyncio() -> None:
    """Under trio, or without any event loop, the error says what is missing."""
    call = get_or_create(AsyncSession(), Tag, name="a")
    with pytest.raises(RuntimeError, match="needs asyncio"):
        call.send(None)


@pytest.mark.parametrize("ending", ["hit", "error"])
async def test_observers_that_raise(
    session: AsyncSession, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    """An observer's exception is logged, and the call ends as it would without it."""

    def observer(_: Event) -> None:
        msg = "no more events"
        raise LookupError(msg)

    policy = Policy(observer=observer)
    if ending == "hit":
        for created in (True, False):
            result = await get_or_create(session, Tag, name="red", policy=policy)
            assert result[1] is created
    else:
        with pytest.raises(exceptions.UnknownFieldError):
            await get_or_create(session, Tag, nmae="red", policy=policy)
    for record in caplog.records:
        assert (record.name, record.levelname) == ("async_goc", "ERROR")
        assert "the observer of get_or_create(Tag) raised" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is LookupError
    assert len(caplog.records) == (2 if ending == "hit" else 1)


@pytest.mark.parametrize("kind", [CancelledError, KeyboardInterrupt, SystemExit])
async def test_observers_that_end_the_task(
    session: AsyncSession, kind: type[BaseException]
) -> None:
    """A cancellation, and what ends the program, is never swallowed."""

    def observer(_: Event) -> None:
        raise kind

    async def call() -> None:
        with pytest.raises(kind):
            await get_or_create(
                session, Tag, name="red", policy=Policy(observer=observer)
            )

    await call()
    _, created = await get_or_create(session, Tag, name="red")
    assert not created


async def test_stats(session: AsyncSession) -> None:
    """Stats counts per model and outcome, and over all models."""
    stats = Stats()
    for name in ("red", "red", "blue"):
        await get_or_create(session, Tag, name=name, policy=Policy(observer=stats))
    assert stats.counts == {(Tag, Outcome.CREATED): 2, (Tag, Outcome.HIT): 1}
    assert (stats["created"], stats[Outcome.HIT], stats["failed"]) == (2, 1, 0)


def test_policy_is_a_value() -> None:
    """Policies compare and hash by their fields, and refuse what makes no sense."""
    assert Policy() == DEFAULT_POLICY
    assert hash(Policy(attempts=2)) == hash(Policy(attempts=2))
    with pytest.raises(ValueError, match="'warn', 'error' or 'ignore'"):
        Policy(missing_constraint="no")


@pytest.mark.parametrize(
    "error",
    [
        exceptions.UnknownFieldError(Tag, ["nmae"], ["name"]),
        exceptions.UnknownFieldError(Tag, ["zzz"]),
        exceptions.UnknownFieldError(Tag, ["zzz", "metadata"], ["zz"]),
        exceptions.ContradictionError(Tag, "name", "a", "b"),
        exceptions.MissingConstraintError(Tag, ["colour"]),
        exceptions.MissingConstraintWarning(Tag, []),
        exceptions.SnapshotConflictError(Tag, ["name"], "tag_name_key"),
        exceptions.ContentionError(Tag, ["name"], 3, "tag_name_key"),
        exceptions.ContentionError(Tag, ["name"], 4, has_vanished=True),
        exceptions.OutcomeUnknownError("COMMIT"),
        exceptions.OutcomeUnknownError("COMMIT", 3, is_partial=True),
        exceptions.SqliteTransactionWarning("a", "b"),
    ],
    ids=repr,
)
def test_errors_survive_pickling(error: Exception) -> None:
    """Errors carry their data, and travel between processes."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert ";" in str(error)  # what happened; what to do
