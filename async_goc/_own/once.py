"""Evaluate the caller's functions once, however often the transaction is run."""

from collections.abc import Callable
from typing import Any

from .._new_row import called, is_mapping

# A default that is a function would be called again in each transaction that a call
# needs. So get_or_create() looks first with functions in their place that say only that
# there is no row, and then calls the caller's, between two transactions. An update
# calls them under its lock, by functions that remember their results. Anything that is
# no legal default is left as it is, and refused by the verb.


class MissError(Exception):
    """There is no row, and so the functions have to be called."""


def unevaluated(defaults: Any) -> Any:
    """Return the defaults, with functions that raise MissError in place of theirs."""
    if callable(defaults):
        return _raise_miss
    if not is_mapping(defaults):
        return defaults
    return {n: _raise_miss if callable(v) else v for n, v in defaults.items()}


def _raise_miss() -> Any:
    raise MissError


async def evaluated(defaults: Any) -> Any:
    """Return the defaults, with the result of each function in its place."""
    if callable(defaults):
        defaults = await called(defaults)
    if not is_mapping(defaults):
        return defaults
    return {
        name: await _result_of(value) if callable(value) else value
        for name, value in defaults.items()
    }


async def _result_of(function: Callable[[], Any]) -> Any:
    result = await called(function)
    # A function that a function returns is a value, and none to be called as well.
    return (lambda: result) if callable(result) else result


def once(defaults: Any) -> Any:
    """Return the defaults, with functions that remember their results."""
    if callable(defaults):
        return _remembering(defaults)
    if not is_mapping(defaults) or not any(map(callable, defaults.values())):
        return defaults
    return {n: _remembering(v) if callable(v) else v for n, v in defaults.items()}


def _remembering(function: Callable[[], Any]) -> Callable[[], Any]:
    results: list[Any] = []

    async def remember() -> Any:
        if not results:
            # The mapping that it returns may have functions, too.
            results.append(once(await called(function)))
        return results[0]

    return remember
