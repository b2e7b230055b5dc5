"""Find the transactions that a test has left open."""

from typing import Any

from .._locks import held_keys
from .._turns import Key, models_of, names_of


def assert_nothing_held() -> None:
    """Fail if a key is held: a transaction has been left open, or a call still runs.

    A call that creates a row holds the row's key until its transaction ends, and others
    that want the row wait for that. All registries and all event loops of the process
    count, but for loops that are closed. A session that only reads holds no key.

    Raises:
        AssertionError: A key is held; it names each one's model (or the table, if only
            that is known) and columns, and how long it has been held. It shows no
            values.
    """
    __tracebackhide__ = True
    held = held_keys()
    if held:
        # The longest first: the others may wait for its end.
        held.sort(key=lambda each: -each[1])
        listed = ", ".join(_told(key, seconds) for key, seconds in held)
        are = "key is" if len(held) == 1 else "keys are"
        msg = (
            f"{len(held)} {are} held: {listed}. Commit, roll back or close the session "
            "that has created the row, and await each call, before the test ends"
        )
        raise AssertionError(msg)


def _told(held: Any, seconds: float) -> str:
    """Say what is held, without the values, which may be secret."""
    key: Key = held
    model = " or ".join(models_of(key)) or f"the table {key[0].table}"
    return f"{model} ({names_of(key)}) for {seconds:.3g} s"
