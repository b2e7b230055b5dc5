"""Prepare INSERTs of rows that a plain statement makes as a flush would."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Enum, and_, bindparam, select
from sqlalchemy.orm import Mapper, Session

from .._databases import Source, bounded_wait, milliseconds
from .._insert import (
    constructed,
    filled_by,
    heard_events,
    insert_from_table,
    is_called,
    obstacle_to_many,
    returning_insert,
    sent_columns,
)
from .._models import SQL, Ears, columns_of, default_field, readable
from .._new_row import has_constructor
from .asks import Ask, Values
from .one_trip import Look, either, found_among, found_one, is_not, is_not_among
from .statements import PLAIN, Packed, Statement, compile_, packed

# How many lists of columns the rows of one lookup fill, for most lookups.
_MOST_STATEMENTS: Final = 50
_WAIT: Final = "async_goc_wait"


class Inserts:
    """The INSERTs of rows with one set of lookup names, for one session."""

    def __init__(
        self,
        session: Session,
        mapper: Mapper[Any],
        names: tuple[str, ...],
        default_names: Collection[str] | None,
        look: Look,
    ) -> None:
        self._session = session
        self._mapper = mapper
        self.names = names
        self._look = look
        self._dialect = session.get_bind(mapper).dialect
        self._is_possible = default_names is not None and (
            # A default could contradict the lookup, or be none of a column.
            not set(names).intersection(default_names)
            and all(map(self._is_settable, (*names, *default_names)))
        )
        self._given: Values = dict.fromkeys((*names, *(default_names or ())))
        # What keeps any row from being inserted here, as long as no listener comes.
        self._obstacle: str | None = None
        of_session, *events = heard_events(session, mapper)
        self._ears = Ears(*events, of_class=of_session)
        self._is_constructed = has_constructor(mapper)
        self._sort_columns()
        # What a column takes of a text may be more than what can be loaded again.
        self._members: dict[str, Collection[str]] = {
            n: c.type.enums
            for n, c in columns_of(mapper).items()
            if isinstance(c.type, Enum)
        }
        self._statements: dict[Any, Any] = {}

    def _sort_columns(self) -> None:
        """Tell apart what is sent for all rows, for each, and for some of them."""
        sent, others = sent_columns(self._mapper, self.names)
        called = {n for n in sent if is_called(columns_of(self._mapper)[n].default)}
        can_vary = sent.keys() if self._is_constructed else self._given.keys() | called
        # What is the same in all rows: NULL, or a plain default.
        self._constants: Values = {
            name: None if make is None else make()
            for name, make in sent.items()
            if name not in can_vary
        }
        # The other columns that are always sent, and what makes their defaults.
        self._sent = tuple(name for name in sent if name in can_vary)
        self._makers = {n: m for n in self._sent if (m := sent[n]) is not None}
        if not self._is_constructed:
            others = {n: others[n] for n in others if n in self._given}
        self._others = others
        # Whether a row is known before anything of the model's is called.
        is_called_first = self._is_constructed or not called.isdisjoint(self._makers)
        self.is_known_before = self._is_possible and not is_called_first

    def complete(self, asks: Sequence[Ask]) -> list[Values | None]:
        """Return what each row gets; None: a plain statement cannot insert that."""
        if not self._is_possible or self._has_obstacle():
            return [None] * len(asks)
        rows = [{**a.lookup, **a.defaults} if a.defaults else a.lookup for a in asks]
        known: list[Values | None] = [*rows]
        if not self._are_plain(rows):
            known = [row if self._are_plain([row]) else None for row in rows]
        if self._makers or self._is_constructed:
            pairs = zip(known, asks, strict=True)
            known = [None if r is None else self._completed(r, a) for r, a in pairs]
        return known

    def _has_obstacle(self) -> bool:
        if self._ears.have_changed():
            rows = [self._given]
            self._obstacle = obstacle_to_many(self._session, self._mapper, rows, ())
        return self._obstacle is not None

    def _completed(self, row: Values, ask: Ask) -> Values | None:
        try:
            if ask.context is None:
                return self._filled(row)
            return ask.context.run(self._filled, row)
        except Exception:  # noqa: BLE001 - functions of the model's may raise anything
            return None  # A session raises it.

    def _are_plain(self, rows: Sequence[Values]) -> bool:
        for name, members in self._members.items():
            column = [row.get(name) for row in rows]
            if any(isinstance(v, str) and v not in members for v in column):
                return False
        values = [value for row in rows for value in row.values()]
        return PLAIN.issuperset(map(type, values)) or not any(
            isinstance(v, SQL) or callable(v) for v in values
        )

    def _filled(self, row: Values) -> Values | None:
        if self._is_constructed:
            [row], obstacle = constructed(self._mapper, [row])
            if obstacle is not None:
                return None
        made = {n: make() for n, make in self._makers.items() if row.get(n) is None}
        return {**row, **made}

    def names_of(self, row: Values) -> tuple[str, ...]:
        """Return the columns that are sent for the row."""
        if not self._others:
            return self._sent
        return (*self._sent, *filled_by(row, self._others))

    def prepare(
        self, row: Values, lock_timeout: float | None, *, finds: bool = False
    ) -> Packed | None:
        """Return the INSERT and its parameters, if there is one for that row.

        With *finds*, it returns the row if it is there; its last column is NULL if not.
        """
        names, is_bounded = self.names_of(row), lock_timeout is not None
        key = ("one", names, is_bounded, finds)
        statement: Statement | None = self._known(key, self._compile, *key[1:])
        values = {**self._constants, **dict.fromkeys(names), **row}
        if lock_timeout is not None:
            values[_WAIT] = milliseconds(lock_timeout)
        return packed(statement, values)

    def prepare_many(
        self, rows: Sequence[Values], lock_timeout: float | None, *, finds: bool = False
    ) -> Packed | None:
        """Return the INSERT of rows that fill the same columns, and its parameters.

        With *finds*, it returns those that are there first, with their numbers.
        """
        names, is_bounded = self.names_of(rows[0]), lock_timeout is not None
        key = ("many", names, is_bounded, finds)
        source, statement = self._known(key, self._compile_many, *key[1:])
        if source is None:
            return None
        columns = [[row.get(name) for row in rows] for name in names]
        values = source.pack(columns, self._dialect)
        if values is not None:
            values |= {_new(name): value for name, value in self._constants.items()}
        if values is not None and lock_timeout is not None:
            values[_WAIT] = milliseconds(lock_timeout)
        return None if values is None else packed(statement, values)

    def _known(self, key: Any, make: Any, *args: Any) -> Any:
        if key not in self._statements:
            if len(self._statements) >= _MOST_STATEMENTS:
                self._statements.clear()
            self._statements[key] = make(*args)
        return self._statements[key]

    def _is_settable(self, name: str) -> bool:
        field = default_field(self._mapper, name)
        # What is deferred is not returned, and the object would lack what it was given.
        is_loaded = name in columns_of(self._mapper) and name in readable(self._mapper)
        return field is not None and is_loaded

    def _compile(
        self,
        names: tuple[str, ...],
        is_bounded: bool,  # noqa: FBT001
        finds: bool,  # noqa: FBT001
    ) -> Statement | None:
        columns = {n: columns_of(self._mapper)[n] for n in (*self._constants, *names)}
        inserting = returning_insert(self._mapper, self._dialect)
        if not (is_bounded or finds):
            keys = {column.key: name for name, column in columns.items()}
            return compile_(inserting, self._dialect, keys, list(keys))
        row = [bindparam(_new(n), type_=c.type) for n, c in columns.items()]
        rows: Any = select(*row)
        if is_bounded:
            rows = rows.select_from(bounded_wait(bindparam(_WAIT)))
        found = found_one(self._look)
        if finds:
            rows = rows.where(is_not(found))
        inserting = inserting.from_select(list(columns.values()), rows)
        values = {_WAIT: _WAIT, **self._look.values, **{_new(n): n for n in columns}}
        statement = either(found, inserting) if finds else inserting
        return compile_(statement, self._dialect, values)

    def _compile_many(
        self,
        names: tuple[str, ...],
        is_bounded: bool,  # noqa: FBT001
        finds: bool,  # noqa: FBT001
    ) -> tuple[Any, Statement | None]:
        found: Any = None

        def narrow(source: Source, rows: Any) -> Any:
            nonlocal found
            if is_bounded:
                rows = rows.select_from(bounded_wait(bindparam(_WAIT)))
            if finds:
                where = self.equalities(dict(zip(names, source.columns, strict=True)))
                found = found_among(self._look.columns, source, where)
                rows = rows.where(is_not_among(found, source))
            return rows

        mapper, dialect = self._mapper, self._dialect
        types = {name: columns_of(mapper)[name].type for name in self._constants}
        constants = {n: bindparam(_new(n), type_=type_) for n, type_ in types.items()}
        source, inserting = insert_from_table(mapper, dialect, names, constants, narrow)
        if source is None:
            return None, None
        statement = inserting if found is None else either(found, inserting)
        return source, compile_(statement, dialect, {_WAIT: _WAIT})

    def equalities(self, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """Return whether a row of the table is the one of these columns."""
        class_ = self._mapper.class_
        return and_(*(getattr(class_, name) == columns[name] for name in self.names))


def _new(name: str) -> str:
    """Return what the parameter with the new row's value is called."""
    return f"new_{name}"
