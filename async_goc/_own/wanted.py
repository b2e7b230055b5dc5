"""One row that is asked for: by which lookup, and by which ways."""

from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, Generic

from .._call import Outcome
from .._models import T
from .._new_row import is_mapping
from .._turns import PLAIN
from .direct import Direct, direct_for
from .once import MissError, evaluated, unevaluated
from .own_call import OwnCall

_NO_DEFAULTS: Final[Mapping[str, Any]] = {}
_NO_NAMES: Final[frozenset[str]] = frozenset()
# Whether functions of the caller's may be running: the calls that they make in turn may
# wait for no other call, because that one may wait for the call that is around them.
_is_inside: ContextVar[bool] = ContextVar("async_goc_is_inside", default=False)


class Wanted(Generic[T]):
    """One row that a call asks for."""

    def __init__(
        self,
        call: OwnCall[T],
        lookup: Mapping[str, Any],
        defaults: Any,
        in_session: Callable[[Any], Awaitable[tuple[T, bool]]],
    ) -> None:
        self.call, self.lookup = call, lookup
        self._defaults: Any = _NO_DEFAULTS if defaults is None else defaults
        self._in_session = in_session
        # What equal calls have in common; None: the call is on its own.
        self.key: Hashable = None
        # The direct lane to the row, if there is one.
        self.direct: Direct[T] | None = None

    def share(self) -> None:
        """Let calls be equal by their lookups, and look for the direct lane."""
        call, lookup = self.call, self.lookup
        self.direct = self._direct()
        # Python and all databases agree on which of these are equal.
        if not _is_inside.get() and PLAIN.issuperset(map(type, lookup.values())):
            self.key = (call.model, call.policy.namespace, *sorted(lookup.items()))

    @property
    def plain_defaults(self) -> Mapping[str, Any] | None:
        """The defaults, unless there are functions to call first."""
        defaults = self._defaults
        if defaults is not _NO_DEFAULTS and (
            not is_mapping(defaults) or any(map(callable, defaults.values()))
        ):
            return None
        found: Mapping[str, Any] = defaults
        return found

    def _direct(self) -> Direct[T] | None:
        """Return the direct lane, if the defaults are legal as far as is known."""
        call, defaults, others = self.call, self._defaults, _NO_NAMES
        if call.policy.advisory_lock:
            return None
        # In whatever order names are given, they are the same.
        names = tuple(self.lookup)
        if len(names) > 1:
            names = tuple(sorted(names))
        if defaults is not _NO_DEFAULTS and not callable(defaults):
            if not is_mapping(defaults):
                return None  # A session says what is wrong.
            others = frozenset(defaults)
        return direct_for(call.probe, call.model, names, others)

    async def evaluate(self) -> Direct[T] | None:
        """Call the functions; return the direct lane to insert what they give."""
        if self.plain_defaults is not None:
            return self.direct
        with _inside():
            self._defaults = await evaluated(self._defaults)
        # Only now is it known which names one function for all of them gives.
        return self._direct()

    async def in_session(self) -> tuple[T, bool]:
        """Ask in a session, but call the functions with none at hand."""
        # They may be slow, and may need a connection themselves.
        looking = unevaluated(self._defaults)
        with _inside():
            try:
                return await self._in_session(looking)
            except MissError:
                await self.evaluate()
            return await self._in_session(self._defaults)

    def answered(self, direct: Direct[T], row: Any, outcome: Outcome) -> tuple[T, bool]:
        """Return the row that was found or inserted by the direct lane."""
        call, is_created = self.call, outcome is Outcome.CREATED
        call.lane, call.outcome = direct.lane, outcome
        if is_created:
            call.attempts, call.strategy = 1, "native"
        return direct.instance(row, is_created=is_created), is_created


@contextmanager
def _inside() -> Generator[None]:
    token = _is_inside.set(True)
    try:
        yield
    finally:
        with suppress(ValueError):  # The garbage collector has a context of its own.
            _is_inside.reset(token)
