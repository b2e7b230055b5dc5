"""Compare SQL by its text, whether it was given as one or comes from the database."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import CompileError

# An index is declared as SQLAlchemy expressions or as text, or it is reflected: as the
# database spells it, which adds parentheses and casts. A lookup says the same in
# SQLAlchemy's own spelling. So both become lists of tokens in which no spelling is
# left, and conditions are split where AND joins them. Where two texts that mean the
# same stay different, the index does not count, which costs a warning. No two that mean
# different things may become equal.

_Tokens = tuple[str, ...]

_TOKEN: Final = re.compile(
    r"""'(?:[^']|'')*' | "[^"]*" | `[^`]*` | :: | [<>!=|]+ | [\w.$]+ | \S""", re.VERBOSE
)
# A name that needs no quotes.
_QUOTED: Final = re.compile(r"""["`]([a-z_][a-z0-9_$]*)["`]""")
# What may follow the first word of a type: "timestamp (3) without time zone".
_OF_A_TYPE: Final = frozenset(
    {"varying", "precision", "with", "without", "time", "zone"}
)
# Words after which parentheses only group; any other word is a function, or an operator
# that takes a list.
_BEFORE_GROUPS: Final = frozenset({"and", "or", "not", "when", "then", "else"})
# What parentheses around a comparison may stand between, and what it cannot contain.
_JOINTS: Final = frozenset({"(", ")", "and", "or"})
_JOINING: Final = frozenset({"and", "or", ","})
_ORDERS: Final = (("asc",), ("desc",), ("nulls", "first"), ("nulls", "last"))
_BOOLEANS: Final = {"false": "0", "true": "1"}


def sql_text(
    element: sa.ColumnElement[Any] | sa.TextClause | str, dialect: sa.Dialect | None
) -> str | None:
    """Render *element* as in an index definition; ``None``: it has no text."""
    if isinstance(element, str):
        element = sa.literal_column(element)
    # An index definition names no tables, and holds its values, not parameters.
    how = {"literal_binds": True, "include_table": False}
    try:
        return str(element.compile(dialect=dialect, compile_kwargs=how))
    except CompileError:  # A value without a literal form matches nothing.
        return None


def term_of(text: str | None) -> str | None:
    """Return what an index is on, in the spelling of all."""
    if text is None:
        return None
    tokens = _ungrouped(_tokens(text))
    for order in (*_ORDERS, *_ORDERS):  # DESC NULLS LAST
        if tokens[-len(order) :] == order:
            tokens = tokens[: -len(order)]
    return " ".join(_ungrouped(tokens))


def conditions_of(text: str | None) -> Sequence[str | None]:
    """Return the conditions that AND joins, in the spelling of all."""
    return [None] if text is None else [*map(_condition, _split(_tokens(text)))]


def _tokens(text: str) -> _Tokens:
    """Return the tokens without casts, and names without the quotes they can miss."""
    found: list[str] = []
    words = _TOKEN.findall(text)
    place = 0
    while place < len(words):
        if words[place] == "::":
            place = _after_type(words, place + 1)
            continue
        word = words[place]
        if word[0] != "'":
            word = _QUOTED.sub(r"\1", word) if word[0] in '"`' else word.lower()
        found.append("<>" if word == "!=" else word)
        place += 1
    return _simplified(tuple(found))


def _after_type(words: Sequence[str], place: int) -> int:
    """Return the place after a type's name."""
    place += 2 if words[place].endswith(".") else 1  # a schema's name
    while place < len(words):
        if words[place] in "([":
            place += _length(words[place:])
        elif words[place].lower() in _OF_A_TYPE:
            place += 1
        else:
            break
    return place


def _simplified(tokens: _Tokens) -> _Tokens:
    """Drop the parentheses that change nothing."""
    found: list[str] = []
    opened: list[int] = []
    for word, following in zip(tokens, (*tokens[1:], ")"), strict=True):
        if word == "(":
            opened.append(len(found))
        elif word == ")" and opened:
            start = opened.pop()
            before, inside = found[start - 1] if start else "(", found[start + 1 :]
            is_single = len(inside) == 1 and not _is_called(before)
            # Any comparison binds more tightly than AND and OR do.
            is_term = {before, following} <= _JOINTS and _JOINING.isdisjoint(inside)
            if is_single or is_term:
                found[start:] = inside
                continue
        found.append(word)
    return tuple(found)


def _is_called(word: str) -> bool:
    """Whether parentheses that follow the word are a function's, or hold a list."""
    return re.match(r'[\w"`]', word) is not None and word not in _BEFORE_GROUPS


def _length(tokens: Sequence[str]) -> int:
    """Return how many tokens the parentheses at the beginning take up."""
    depth = 0
    for number, token in enumerate(tokens, 1):
        depth += (token in {"(", "["}) - (token in {")", "]"})
        if depth == 0:
            return number
    return len(tokens)


def _ungrouped(tokens: _Tokens) -> _Tokens:
    while tokens[:1] == ("(",) and _length(tokens) == len(tokens):
        tokens = tokens[1:-1]
    return tokens


def _split(tokens: _Tokens) -> Iterator[_Tokens]:
    """Yield what AND joins."""
    tokens = _ungrouped(tokens)
    places: list[int] = []
    place = 0
    while place < len(tokens):
        if tokens[place] in {"or", "between", "case"}:
            yield tokens
            return
        if tokens[place] == "and":
            places.append(place)
        place += _length(tokens[place:]) if tokens[place] == "(" else 1
    if not places:
        yield tokens
        return
    for start, end in zip(
        [0, *(p + 1 for p in places)], [*places, len(tokens)], strict=True
    ):
        yield from _split(tokens[start:end])


def _condition(tokens: _Tokens) -> str:
    """Return the text, in which a boolean has one way to be false, or true."""
    match tokens:
        case (name,):
            tokens = (name, "=", "1")
        case ("not", name):
            tokens = (name, "=", "0")
        case (name, "=" | "is", value):
            tokens = (
                name,
                "is" if value == "null" else "=",
                _BOOLEANS.get(value, value),
            )
        case _:
            pass
    return " ".join(tokens)
