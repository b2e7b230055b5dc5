"""Check the arguments of a bulk call, before any SQL."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import class_mapper
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call
from .._databases import types_of
from .._lookup import (
    Lookup,
    Uncollected,
    check_options,
    parents_of,
    refuse_autocommit,
    require_cover,
)
from .._models import SQL
from .._new_row import Defaults, NewValues, takes_argument
from .answers import Answers
from .ledger import Ledger, ledger_of, picked
from .names import changed_names, check_names, infer_key
from .order import ranks
from .rows import Columns, Places, Shape, Values

# A row may be a value of the key, where that is one name.
Rows = Iterable[Values] | Iterable[Any]
Progress = Callable[[int, int | None], None]

# Enough to make round trips a small part of the whole; the arrays of one statement
# stay below a megabyte or two.
_CHUNK: Final = 10_000


class BulkArguments(NamedTuple):
    """What the caller of a bulk verb passed, as its docstring describes it."""

    rows: Rows
    key: str | Sequence[str] | None
    update: Sequence[str] | None
    defaults: Defaults | None
    options: Sequence[ORMOption]
    chunk_size: int | None
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Input:
    """The input of a bulk call, checked; what every step of the call needs."""

    call: Call
    shape: Shape
    answers: Answers
    # Of the first row; the others have its names.
    lookup: Lookup[Any]
    options: tuple[ORMOption, ...]
    # What fills the names that a new row lacks.
    defaults: NewValues
    # The names whose values an existing row gets.
    changes: frozenset[str]
    ledger: Ledger
    # All of its rows.
    chunks: Sequence[Places]

    def alike(self, places: Places) -> list[tuple[Lookup[Any], Places]]:
        """Return what rows are looked up by, and the places of those."""
        if self.ledger.nulls is not None:
            return [(self.lookup, places)]
        values = picked(self.ledger.values, places)
        groups = self.shape.alike(values, self.shape.given(values))
        return [(lookup, picked(places, indexes)) for lookup, indexes in groups]


async def check_input(
    call: Call, args: BulkArguments, answers: Answers
) -> Input | None:
    """Check the arguments, and flush pending parents for their keys; None: no rows."""
    size = _CHUNK if args.chunk_size is None else args.chunk_size
    if size < 1:
        msg = f"chunk_size is {size}; it counts keys, so give at least 1"
        raise ValueError(msg)
    options = check_options(call.model, args.options)
    mappings = _as_mappings(args.rows, args.key)
    call.rows = len(mappings)
    if not mappings:
        return None
    given = (call, args, mappings, options, size)
    return await Uncollected(_check(*given, answers=answers))


async def _check(
    call: Call,
    args: BulkArguments,
    mappings: Sequence[Values],
    options: tuple[ORMOption, ...],
    size: int,
    *,
    answers: Answers,
) -> Input:
    _, key, update, defaults, *_ = args
    mapper = class_mapper(call.model)
    names = (key,) if isinstance(key, str) else tuple(key or ())
    named = check_names(mapper, mappings, names)
    session = call.session.sync_session
    refuse_autocommit(session, session.get_bind(mapper))
    shape = Shape(mapper, names or infer_key(mapper, named))
    _check_presence(shape, mappings, named)
    given = shape.given(mappings)
    has_pending = _check_keys(call.session, shape, mappings, given)
    lookups = [lookup for lookup, _ in shape.alike(mappings, given)]
    lookups[0].lock_timeout = call.policy.lock_timeout
    for lookup in lookups:
        require_cover(call, lookup)
    takes = partial(takes_argument, None, mapper)
    new_values = NewValues(lookups[0], defaults, takes=takes, may_contradict=True)
    changes = changed_names(shape, named, update)
    if has_pending:
        await call.session.flush()
    columns = shape.columns(given)
    order = await ranks(call.session, shape, columns)
    ledger = ledger_of(mappings, columns, order)
    places = ledger.order
    chunks = [places[start : start + size] for start in range(0, len(places), size)]
    others = (options, new_values, changes, ledger, chunks)
    return Input(call, shape, answers, lookups[0], *others)


def _as_mappings(rows: Rows, key: str | Sequence[str] | None) -> list[Values]:
    """Return the rows as mappings; where the key is one name, a value stands for it."""
    if isinstance(rows, str | bytes | Mapping):
        kind = cast("Any", rows).__class__.__name__
        msg = f"rows is of type {kind}; give a list, or any other iterable, of rows"
        raise TypeError(msg)
    given: list[Any] = list(rows)
    # There are many rows and few types, so that types are what is asked.
    kinds = set[Any](map(type, given))
    values = {kind for kind in kinds if not issubclass(kind, Mapping)}
    if not values:
        return given
    names = [key] if isinstance(key, str) else list(key or ())
    if len(names) != 1:
        index, row = next((i, r) for i, r in enumerate(given) if type(r) in values)
        msg = (
            f"row {index} is of type {type(row).__name__}; give mappings of attribute "
            "names to values, or name the one key that the values are for"
        )
        raise TypeError(msg)
    return [{names[0]: row} if type(row) in values else row for row in given]


def _check_presence(
    shape: Shape, rows: Sequence[Values], named: Iterable[Sequence[str]]
) -> None:
    """Refuse rows without a key."""
    for name in shape.names:
        if not all(name in names for names in named):
            index = next(i for i, row in enumerate(rows) if name not in tuple(row))
            raise _no_key(shape, index, "no", name)


def _check_keys(
    session: AsyncSession, shape: Shape, rows: Sequence[Values], given: Columns
) -> bool:
    """Refuse SQL as a key; say whether a parent has to be flushed for its key."""
    for name, values in zip(shape.names, given, strict=True):
        if any(issubclass(kind, SQL) for kind in types_of(values)):
            index = next(i for i, value in enumerate(values) if isinstance(value, SQL))
            raise _no_key(shape, index, "an SQL expression as", name)
    plan = shape.lookup(rows[0]).plan
    parents: list[Any] = [
        parent
        for row in (rows if plan.parents else ())
        for parent in parents_of(session, plan, row)
    ]
    return any(inspect(parent).pending for parent in parents)


def _no_key(shape: Shape, index: int, what: str, name: str) -> ValueError:
    return ValueError(
        f"row {index} of {shape.mapper.class_.__name__} has {what} {name!r}, which is "
        "part of the key; give each row a value for it"
    )
