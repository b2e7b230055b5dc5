"""Find or insert many rows by arrays: one SELECT, and one INSERT of what is missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Engine, select

from .._databases import (
    Lane,
    NoAnswerError,
    SeveredError,
    Source,
    Wire,
    comparable,
    facts_of,
    fetch,
)
from .._many import are_mixed_up
from .._models import columns_of
from .asks import (
    Answer,
    Ask,
    Sought,
    answers,
    halves,
    lose,
    noting_cancellation,
    only_find,
    unknown_outcome,
)
from .inserts import Inserts
from .rows import Loader, Row
from .statements import Statement, are_plain, compile_

# What a statement is about is told by the rows' numbers, and never by comparing values.
# An INSERT returns its rows in the order in which they were sent; where some are
# missing, the SELECT is asked once more which of them are there.
#
# A statement that fails because of one row is sent again for each half of the rows, so
# that the one row fails alone, after a few statements.


class Arrays:
    """Answers many calls with one set of lookup names."""

    def __init__(
        self, lane: Lane, engine: Engine, loader: Loader[Any], inserts: Inserts
    ) -> None:
        self._lane = lane
        self._engine = engine
        self._loader = loader
        self._inserts = inserts
        self._names = inserts.names
        columns = columns_of(loader.mapper)
        self._types = [columns[name].type for name in self._names]
        self._places = [loader.names.index(name) for name in self._names]
        self._source, self._select = self._compile()
        # Whether most rows of the next batch are likely to be missing, and whether one
        # statement may both look for them and insert them.
        self._expects_misses = False
        self._has_one_trip = inserts.is_known_before

    async def answer(
        self, asks: Sequence[Ask], lock_timeout: float | None
    ) -> list[Answer]:
        """Find or insert what the calls ask for, each row once."""
        sought = rest = self._distinct(asks)
        if self._expects_misses:
            rest = await self._find_or_insert(sought, lock_timeout)
        if rest:
            await self._look(rest)
        missing = [each for each in rest if each.is_missing]
        skipped: list[Sought] = []
        for alike in self._fill(missing):
            skipped += await self._insert(alike, lock_timeout)
        if skipped:
            await self._look(skipped)
        made = sum(each.is_created for each in sought)
        self._expects_misses = self._has_one_trip and made > len(sought) / 2
        return answers(len(asks), sought)

    def _fill(self, sought: Sequence[Sought]) -> Iterator[list[Sought]]:
        """Work out what rows get; yield together those that fill the same columns."""
        asked = [each.ask for each in sought if each.ask is not None]
        filled = self._inserts.complete(asked)
        for each, values in zip(sought, filled, strict=True):
            each.values = values
        known = [each for each in sought if each.values is not None]
        for _, alike in groupby(known, self._columns_of):
            yield [*alike]

    def _columns_of(self, sought: Sought) -> tuple[str, ...]:
        return self._inserts.names_of(sought.values or {})

    def _distinct(self, asks: Sequence[Ask]) -> list[Sought]:
        """Return what is asked for, in the order of the keys; nothing: unknown."""
        columns = [[ask.lookup[name] for ask in asks] for name in self._names]
        keys = [*zip(*columns, strict=True)]
        places = [*range(len(keys))]
        if not all(map(are_plain, columns)):
            places = [place for place in places if are_plain(keys[place])]
        ranks = self._ranks([keys[place] for place in places])
        if ranks is None:
            # Some may be of a type that the column does not have.
            kinds = {place: tuple(map(type, keys[place])) for place in places}
            [(most, _)] = Counter(kinds.values()).most_common(1)
            places = [place for place in places if kinds[place] == most]
            ranks = self._ranks([keys[place] for place in places])
        found: dict[Any, Sought] = {}
        for rank, place in zip(ranks or (), places if ranks else (), strict=True):
            sought = found.get(rank)
            if sought is None:
                sought = found[rank] = Sought(keys[place])
            sought.add(place, asks[place])
        return [found[rank] for rank in sorted(found)]

    def _ranks(self, keys: Sequence[tuple[Any, ...]]) -> Sequence[Any] | None:
        """Return a rank for each key, the same for equal ones; None: unknown."""
        columns: list[Any] = [
            comparable(column, type_, self._engine.dialect)
            for column, type_ in zip(zip(*keys, strict=True), self._types, strict=False)
        ]
        is_unknown = any(column is None for column in columns)
        return None if is_unknown else [*zip(*columns, strict=True)]

    async def _look(self, sought: Sequence[Sought]) -> None:
        """Give each its row, if the database has it."""
        columns = [*map(list, zip(*[each.key for each in sought], strict=True))]
        prepared = self._prepare(columns)
        if prepared is None:
            lose(sought)
            return
        wire, packed = prepared
        try:
            rows = await fetch(self._lane, self._engine, wire, packed)
        except NoAnswerError as error:
            for half in halves(sought, error):
                await self._look(half)
        except SeveredError as error:
            lose(sought, error)
        else:
            for row in rows:
                number: int = row[-1]
                self._found(sought[number], (wire, row))

    def _found(self, sought: Sought, row: Row) -> None:
        if sought.row is not None:
            # The database lacks the constraint. A session raises what that means.
            sought.is_lost = True
        sought.row = row
        if sought.made is not None:
            key = self._loader.key_of(row)
            sought.is_created = key in sought.made
            # What Python takes for two rows may be one, as the database compares them.
            sought.made.discard(key)

    def _prepare(self, columns: list[list[Any]]) -> tuple[Wire, list[Any]] | None:
        if self._source is None or self._select is None:
            return None
        values = self._source.pack(columns, self._engine.dialect)
        packed = None if values is None else self._select.pack(values)
        return None if packed is None else (self._select.wire, packed)

    async def _find_or_insert(
        self, sought: Sequence[Sought], lock_timeout: float | None
    ) -> list[Sought]:
        """Look and insert in one go; return those of which nothing is known yet."""
        for alike in self._fill([each for each in sought if each.is_missing]):
            rows: Sequence[Row] | None = None
            try:
                rows = await self._send(alike, lock_timeout, finds=True)
            except NoAnswerError as error:
                if error.is_passing:  # An INSERT would wait for a rival as long again.
                    only_find(alike)
            made: list[Row] = []
            for row in rows or ():
                number: int | None = row[1][-1]
                if number is None:
                    made.append(row)
                else:
                    self._found(alike[number], row)
            if rows is not None:
                self._assign([each for each in alike if each.row is None], made)
        return [each for each in sought if each.row is None and each.error is None]

    async def _insert(
        self, sought: Sequence[Sought], lock_timeout: float | None
    ) -> Sequence[Sought]:
        """Insert rows that fill the same columns; return those to look for again."""
        try:
            rows = await self._send(sought, lock_timeout, finds=False)
        except NoAnswerError as error:
            again: list[Sought] = []
            for half in halves(sought, error):
                again += await self._insert(half, lock_timeout)
            return again
        if rows is None:
            lose(sought)
            return ()
        return self._assign(sought, rows)

    async def _send(
        self, sought: Sequence[Sought], lock_timeout: float | None, *, finds: bool
    ) -> Sequence[Row] | None:
        """Send the rows, and return what comes back, if anything does."""
        filled: Any = [each.values for each in sought]
        prepared = self._inserts.prepare_many(filled, lock_timeout, finds=finds)
        if prepared is None:
            return None
        wire, values = prepared[0].wire, prepared[1]
        try:
            with noting_cancellation():
                rows = await fetch(self._lane, self._engine, wire, values)
        except NoAnswerError as error:
            self._has_one_trip &= not error.is_lasting
            raise
        except SeveredError as error:
            for each in sought:
                each.error = unknown_outcome(error)
            return None
        return [(wire, row) for row in rows]

    def _assign(
        self, sought: Sequence[Sought], rows: Sequence[Row]
    ) -> Sequence[Sought]:
        sent = [*map(list, zip(*[each.key for each in sought], strict=True))]
        keys = self._loader.columns_at(self._places, rows)
        if len(rows) == len(sought) and not are_mixed_up(sent, keys):
            for each, row in zip(sought, rows, strict=True):
                each.row, each.is_created = row, True
            return ()
        # Which of them have come is told by the SELECT.
        made = {*map(self._loader.key_of, rows)}
        for each in sought:
            each.made = made
        return sought

    def _compile(self) -> tuple[Source | None, Statement | None]:
        dialect = self._engine.dialect
        source = facts_of(dialect).table_of(dialect, self._types)
        if source is None:
            return None, None
        pairs = zip(self._names, source.columns, strict=True)
        are_equal = self._inserts.equalities(dict(pairs))
        selected = select(*self._loader.columns, source.number)
        joined = selected.join(source.table, are_equal)
        return source, compile_(joined, dialect)
