"""Values become something that can be hashed and compared."""

from types import MappingProxyType
from typing import Any

from hypothesis import given, strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from async_goc._turns.freeze import frozen

SQLITE = create_async_engine("sqlite+aiosqlite:///none")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.binary().map(bytearray)
    | st.builds(object),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers())
    ),
)


@given(VALUES)
def test_frozen(value: Any) -> None:
    """A frozen value is hashable, equal to itself, and does not change with it."""
    before = frozen(value)
    hash(before)
    assert before == frozen(value)
    if isinstance(value, list | dict | set | bytearray):
        was = frozen(value)
        value.clear()
        assert before == was


@given(st.dictionaries(st.text(), st.lists(st.integers())))
def test_equal_values_freeze_alike(value: dict[str, Any]) -> None:
    """The order of a mapping does not count, nor does the kind of a sequence."""
    other = {k: tuple(v) for k, v in reversed(value.items())}
    assert frozen(value) == frozen(MappingProxyType(other))
