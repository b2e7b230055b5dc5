"""Compile a statement once, with what its values go through on their way."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.engine import Dialect

from .._databases import Wire
from .._models import SQL, has_statement_names

Process = Callable[[Any], Any]


class Statement:
    """A statement's text, and what turns a call's values into its parameters."""

    __slots__ = ("_constants", "_order", "wire")

    def __init__(
        self, compiled: Any, dialect: Dialect, values: Mapping[str, str]
    ) -> None:
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        names: Sequence[str] = compiled.positiontup or tuple(binds)
        # (name, what processes its value), in the order of the parameters.
        self._order: list[tuple[str, Process | None]] = [
            (values.get(name, name), _processor(binds[name].type, dialect))
            for name in names
        ]
        # The values that the statement itself has.
        self._constants: Mapping[str, Any] = {
            name: compiled.params[name] for name in names if not binds[name].required
        }
        is_named = compiled.positiontup is None
        self.wire = Wire(
            compiled.string, names if is_named else None, has_statement_names
        )

    def pack(self, values: Mapping[str, Any]) -> list[Any] | None:
        """Return the parameters; None: a value is not as the statement wants it."""
        if self._constants:
            values = {**self._constants, **values}
        try:
            return [
                values[name] if process is None else process(values[name])
                for name, process in self._order
            ]
        except Exception:  # noqa: BLE001 - a type of the caller's may raise anything
            return None  # A session raises it.


Packed = tuple[Statement, list[Any]]


def packed(statement: Statement | None, values: Mapping[str, Any]) -> Packed | None:
    """Return the statement and its parameters, if it can have those values."""
    parameters = None if statement is None else statement.pack(values)
    return None if statement is None or parameters is None else (statement, parameters)


# What is plain, as most values are; more types are asked for one by one.
PLAIN: Final = frozenset({str, int, bool})


def are_plain(values: Collection[object]) -> bool:
    """Whether all are values, and neither NULL, SQL, functions nor instances."""
    return PLAIN.issuperset(map(type, values)) or not any(map(_is_special, values))


def _is_special(value: object) -> bool:
    kind: type[object] = type(value)
    if value is None or callable(value) or hasattr(kind, "__mapper__"):
        return True
    return hasattr(kind, "__clause_element__") or issubclass(kind, SQL)


def compile_(
    statement: Any,
    dialect: Dialect,
    values: Mapping[str, str] = MappingProxyType({}),
    keys: Sequence[str] | None = None,
) -> Statement | None:
    """Compile a statement; *values* says what the values of parameters are called.

    ``None``: it takes more than one text with parameters to execute it.
    """
    compiled: Any = statement.compile(dialect=dialect, column_keys=keys)
    is_more = (
        compiled.literal_execute_params
        or compiled.post_compile_params
        or compiled.escaped_bind_names
        or compiled.insert_prefetch
    )
    return None if is_more else Statement(compiled, dialect, values)


def result_processors(
    columns: Sequence[Any], types: Sequence[Any], dialect: Dialect
) -> Iterator[tuple[int, Process]]:
    """Yield the place of each column whose values are processed, and by what."""
    # (A number may come after the columns.)
    for place, (column, kind) in enumerate(zip(columns, types, strict=False)):
        process: Any = column.type.dialect_impl(dialect).result_processor(dialect, kind)
        if process is not None:
            yield place, process


def _processor(type_: Any, dialect: Dialect) -> Process | None:
    process: Process | None = type_.dialect_impl(dialect).bind_processor(dialect)
    return process
