"""One row that is asked for: by which lookup, and by which ways."""

from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Mapping,
    Sequence,
)
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, Generic

from .._call import Outcome
from .._models import Criterion, T
from .._new_row import is_mapping
from .._turns import PLAIN
from .direct import Direct, Kind, kind_of
from .once import MissError, evaluated, unevaluated
from .own_call import OwnCall

_NOTHING: Final[Mapping[str, Any]] = {}
_NO_NAMES: Final[frozenset[str]] = frozenset()
# Whether functions of the caller's may be running: the calls that they make in turn may
# wait for no other call, because that one may wait for the call that is around them.
_is_inside: ContextVar[bool] = ContextVar("async_goc_is_inside", default=False)


class Wanted(Generic[T]):
    """One row that a call asks for."""

    # What a session is asked with, where there is more than a lookup and defaults.
    criteria: Sequence[Criterion] = ()
    how: Mapping[str, Any] = _NOTHING
    # What equal calls have in common; None: the call is on its own.
    key: Hashable = None
    # What calls have in common that a batch can gather, if this may be one of them.
    kind: Kind[T] | None = None
    _direct: Direct[T] | None = None
    _is_judged = False

    def __init__(
        self,
        call: OwnCall[T],
        lookup: Mapping[str, Any],
        defaults: Any,
        in_session: "Callable[[Wanted[T], Any], Awaitable[tuple[T, bool]]]",
    ) -> None:
        self.call, self.lookup = call, lookup
        self._defaults: Any = _NOTHING if defaults is None else defaults
        self._in_session = in_session

    def share(self) -> None:
        """Let calls be equal by their lookups, and take a direct lane."""
        call, lookup = self.call, self.lookup
        self.kind = self._kind()
        # Python and all databases agree on which of these are equal.
        if not _is_inside.get() and PLAIN.issuperset(map(type, lookup.values())):
            items = lookup.items() if len(lookup) == 1 else sorted(lookup.items())
            self.key = (call.model, call.policy.namespace, *items)

    @property
    def direct(self) -> Direct[T] | None:
        """The direct lane to the row, if there is one: as of when it is first asked."""
        if not self._is_judged:
            self._is_judged = True
            self._direct = None if self.kind is None else self.kind.direct()
        return self._direct

    @property
    def plain_defaults(self) -> Mapping[str, Any] | None:
        """The defaults, unless there are functions to call first."""
        defaults = self._defaults
        if defaults is not _NOTHING and (
            not is_mapping(defaults) or any(map(callable, defaults.values()))
        ):
            return None
        found: Mapping[str, Any] = defaults
        return found

    def _kind(self) -> Kind[T] | None:
        """Return the kind of the call, if the defaults are legal as far as is known."""
        call, defaults, others = self.call, self._defaults, _NO_NAMES
        if call.policy.advisory_lock:
            return None
        # In whatever order names are given, they are the same.
        names = tuple(self.lookup)
        if len(names) > 1:
            names = tuple(sorted(names))
        if defaults is not _NOTHING and not callable(defaults):
            if not is_mapping(defaults):
                return None  # A session says what is wrong.
            others = frozenset(defaults)
        return kind_of(call.probe, call.model, names, others)

    async def evaluate(self) -> Direct[T] | None:
        """Call the functions; return the direct lane to insert what they give."""
        if self.plain_defaults is not None:
            return self.direct
        with _inside():
            self._defaults = await evaluated(self._defaults)
        # Only now is it known which names one function for all of them gives.
        kind = self._kind()
        return None if kind is None else kind.direct()

    async def in_session(self) -> tuple[T, bool]:
        """Ask in a session, but call the functions with none at hand."""
        # They may be slow, and may need a connection themselves.
        looking = unevaluated(self._defaults)
        with _inside():
            try:
                return await self._in_session(self, looking)
            except MissError:
                await self.evaluate()
            return await self._in_session(self, self._defaults)

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
