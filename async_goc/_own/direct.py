"""Answer a call past SQLAlchemy's execution, where that is certain to give the same.

A direct lane is a short cut. It answers what it can answer with certainty, and else
says ``None``: "ask by a session". So errors, warnings and notes come from there.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from logging import getLogger
from typing import Any, Final, Generic

from sqlalchemy import Engine, select
from sqlalchemy.orm import Mapper, Session, class_mapper

from .._databases import (
    Lane,
    NoAnswerError,
    NoLaneError,
    Rows,
    SeveredError,
    facts_of,
    fetch,
    lane_of,
)
from .._models import T
from .arrays import Arrays
from .asks import Answer, Ask, noting_cancellation, unknown_outcome
from .inserts import Inserts
from .judgement import Judge, are_apart, plain_plan
from .one_trip import Look
from .rows import Loader, Row
from .statements import Packed, Statement, are_plain, compile_
from .steps import Steps

_log: Final = getLogger("async_goc")
_NOT_PLAIN: Final = "the lookup is not by plain columns that are unique together"
_REFUSED: Final = "the driver is to prepare no statements of its own"
# Where a session keeps its kinds of calls, and how many at most.
_KEY: Final = "async_goc.direct"
_MOST_KINDS: Final = 200


class Missing(Enum):
    """What the database has answered where there is no row."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class Direct(Generic[T]):
    """The direct lane of one model and one set of lookup names, for one session."""

    def __init__(
        self, engine: Engine, loader: Loader[T], select: Statement, inserts: Inserts
    ) -> None:
        lane = lane_of(engine)
        assert lane is not None  # noqa: S101 - the judge has asked
        # As an event names it: "driver" or "cursor".
        self.lane: str = lane.name
        self._lane: Lane = lane
        # Whether its connections have turned out to be for SQLAlchemy only.
        self.is_refused = False
        self._engine = engine
        self._loader = loader
        self._select = select
        self._inserts = inserts
        self._steps: Steps | None = None
        self._arrays: Arrays | None = None
        # Whether the row of the next call is likely to be missing, and whether one
        # statement may both look for it and insert it.
        self.expects_miss = False
        self._has_one_trip = inserts.is_known_before
        if facts_of(engine.dialect).has_one_writer:
            self._has_one_trip = False
            self._steps = Steps(lane, engine, select, inserts)
        else:
            self._arrays = Arrays(lane, engine, loader, inserts)

    async def find(self, lookup: Mapping[str, Any]) -> Row | Missing | None:
        """Return the row, by one statement, or MISSING; None: it cannot be told."""
        values = self._select.pack(lookup) if are_plain(lookup.values()) else None
        if values is None:
            return None
        wire = self._select.wire
        try:
            rows = await fetch(self._lane, self._engine, wire, values)
        except (NoAnswerError, SeveredError) as error:
            self.is_refused |= isinstance(error, NoLaneError)
            return None
        if len(rows) > 1:
            return None  # A session raises it.
        return (wire, rows[0]) if rows else MISSING

    async def insert(
        self,
        lookup: Mapping[str, Any],
        defaults: Mapping[str, Any],
        *,
        lock_timeout: float | None = None,
    ) -> Row | None:
        """Insert the row, by one statement; None: it was skipped, or cannot be told.

        Raises OutcomeUnknownError where the connection broke.
        """
        if not are_plain(lookup.values()):
            return None
        [row] = self._inserts.complete([Ask(lookup, defaults)])
        if row is None:
            return None
        if self._steps is not None:
            return await self._steps.insert(row)
        prepared = self._inserts.prepare(row, lock_timeout)
        rows = await self._write(prepared) or ()
        if prepared is None or not rows:
            return None
        self.expects_miss = self._has_one_trip
        return prepared[0].wire, rows[0]

    async def find_or_insert(
        self,
        lookup: Mapping[str, Any],
        defaults: Mapping[str, Any],
        *,
        lock_timeout: float | None,
    ) -> tuple[Row | Missing | None, bool]:
        """Find or insert the row by one statement; say whether it is new.

        MISSING: it is not there for this statement, and was skipped. None: it cannot be
        told. Raises OutcomeUnknownError where the connection broke.
        """
        is_known = are_plain(lookup.values())
        [row] = self._inserts.complete([Ask(lookup, defaults)]) if is_known else [None]
        prepared = None
        if row is not None:
            prepared = self._inserts.prepare(row, lock_timeout, finds=True)
        rows = await self._write(prepared)
        if prepared is None or rows is None or len(rows) > 1:
            self.expects_miss = False
            return None, False
        if not rows:
            return MISSING, False
        self.expects_miss = is_new = rows[0][-1] is None
        return (prepared[0].wire, rows[0]), is_new

    async def _write(self, prepared: Packed | None) -> Rows | None:
        """Send what may insert a row; None: nothing has happened."""
        if prepared is None:
            return None
        statement, values = prepared
        try:
            with noting_cancellation():
                return await fetch(self._lane, self._engine, statement.wire, values)
        except NoAnswerError as error:
            self._has_one_trip &= not error.is_lasting
            return None
        except SeveredError as error:
            raise unknown_outcome(error) from error.__cause__

    async def find_or_insert_many(
        self, asks: Sequence[Ask], *, lock_timeout: float | None
    ) -> list[Answer]:
        """Answer many calls at once: the row, and whether this call has created it.

        Where the answer is None, it is to be asked for by itself; where the connection
        broke during its INSERT, it is an OutcomeUnknownError. *lock_timeout* is in
        seconds: how long an INSERT waits for the rows of rivals before it leaves all
        rows out.
        """
        many = self._steps or self._arrays
        assert many is not None  # noqa: S101 - it is one of the two
        return await many.answer(asks, lock_timeout)

    def instance(self, row: Row, *, is_created: bool) -> T:
        """Return a new detached instance of the row, which shares nothing mutable."""
        return self._loader.load(row, is_created=is_created)


def kind_of(
    session: Session,
    model: type[T],
    names: tuple[str, ...],
    default_names: frozenset[str] | None,
) -> "Kind[T]":
    """Return the kind; the session is like those to be asked, and never connects."""
    kinds: dict[Any, Kind[T]] | None = session.info.get(_KEY)
    if kinds is None:
        kinds = session.info[_KEY] = {}
    key = (model, names, default_names)
    found = kinds.get(key)
    if found is None:
        while len(kinds) >= _MOST_KINDS:
            kinds.pop(next(iter(kinds)), None)
        found = kinds[key] = Kind(session, model, names, default_names)
    return found


class Kind(Generic[T]):
    """Calls of one session with the same names, and what is known of them."""

    # Whether functions of the model's make something of a new row.
    calls_functions = True

    def __init__(
        self,
        session: Session,
        model: type[T],
        names: tuple[str, ...],
        default_names: Collection[str] | None,
    ) -> None:
        self._names = names
        self._default_names = default_names
        self._session = session
        self._mapper: Mapper[T] = class_mapper(model)
        self._judge = Judge(session, self._mapper)
        self._direct: Direct[T] | None = None
        self._noted: str | None = None

    def direct(self) -> Direct[T] | None:
        """Return the direct lane, as of now; None: ask by a session."""
        obstacle = self._judge.obstacle()
        if obstacle is None:
            found = self._direct = self._direct or self._make()
            if found is not None and not found.is_refused:
                return found
            obstacle = _NOT_PLAIN if found is None else _REFUSED
        if obstacle != self._noted:
            self._noted = obstacle
            text = "%s is asked for by a session: %s"
            _log.debug(text, self._mapper.class_.__name__, obstacle)
        return None

    def _make(self) -> Direct[T] | None:
        plan = plain_plan(self._mapper, self._names)
        if plan is None or not are_apart(plan, self._default_names or ()):
            return None
        dialect = self._judge.engine.dialect
        loader = Loader(self._mapper, dialect)
        where: Any = plan.statement.whereclause
        values = {parameter: name for parameter, name, _ in plan.binds}
        found = compile_(select(*loader.columns).where(where), dialect, values)
        if found is None:
            return None
        look = Look(loader.columns, where, values)
        about = (self._session, self._mapper, self._names, self._default_names)
        inserts = Inserts(*about, look)
        self.calls_functions = not inserts.is_known_before
        return Direct(self._judge.engine, loader, found, inserts)
