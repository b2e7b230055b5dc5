"""Remember what is listened to, until a listener comes or goes."""

from collections.abc import Iterator, Sequence
from inspect import ismemberdescriptor
from operator import attrgetter, call
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from .private import class_listeners, listeners_of_class

_OWN: Final = __name__.partition(".")[0]
_pick: Final[Any] = call


class Ears:
    """The listeners of some targets, and whether any has come or gone."""

    # Most calls only ask whether anything has changed, and there are some 40 events. So
    # what SQLAlchemy keeps them in is compared as a whole: an event that is heard of by
    # one more target has another collection there, and else a list becomes longer.

    def __init__(
        self,
        *targets: tuple[Any, tuple[str, ...]],
        of_class: tuple[Any, tuple[str, ...]] = (None, ()),
    ) -> None:
        self._targets = (*targets, of_class)
        self._dispatches: list[Any] = [dispatch for dispatch, _ in targets]
        self._pickers: list[Any] = [attrgetter(*names) for _, names in targets]
        self._seen: list[Any] = []
        self._lists: list[Any] = []
        self._lengths: list[int] = []
        self._heard: str | None = None

    def heard(self) -> str | None:
        """Return what another than this package listens to, if there is one."""
        if self.have_changed():
            name = next(self._foreign(), None)
            self._heard = None if name is None else f"there is a listener to {name}"
        return self._heard

    def have_changed(self) -> bool:
        """Whether any listener has come or gone since the last time."""
        now = [*map(_pick, self._pickers, self._dispatches)]
        if now == self._seen and [*map(len, self._lists)] == self._lengths:
            return False
        found = [each for _, each in self._listened()]
        self._lists = [each for heard in found for each in class_listeners(heard)]
        self._lengths = [*map(len, self._lists)]
        self._seen = now
        return True

    def _foreign(self) -> Iterator[str]:
        """Yield the names of the events that others than this package listen to."""
        for name, listeners in self._listened():
            if not all(map(_is_own, listeners)):
                yield name

    def _listened(self) -> Iterator[tuple[str, Any]]:
        for dispatch, names in self._targets:
            for name in names:
                yield name, getattr(dispatch, name)


class SessionEars:
    """Whether anything listens to one of some events of a session."""

    # A session makes the place for an event's listeners when it is first asked for it,
    # and a new session is asked for each event anew. Not to make it saves a call 0.5 %.
    # As long as there is no place, the session hears what its class hears.

    def __init__(self, *names: str) -> None:
        self._names = names
        self._pick: Any = attrgetter(*names)
        # By class: how to read the places, and the listeners of the class.
        self._known: WeakKeyDictionary[type[Session], tuple[Sequence[Any], list[Any]]]
        self._known = WeakKeyDictionary()

    def hear(self, session: Session) -> bool:
        """Whether anything listens."""
        dispatch: Any = session.dispatch
        known = self._known.get(type(session))
        if known is None:
            return self._hear_first(session)
        places, of_class = known
        for read in places:
            try:
                heard = read(dispatch)
            except AttributeError:
                continue
            if heard:
                return True
        return any(of_class)

    def _hear_first(self, session: Session) -> bool:
        dispatch: Any = session.dispatch
        kind: Any = dispatch.__class__
        heard = self._pick(dispatch)
        of_class = list(map(listeners_of_class, heard))
        places: list[Any] = [getattr(kind, name, None) for name in self._names]
        if None not in of_class and all(map(ismemberdescriptor, places)):
            reads = [place.__get__ for place in places]
            self._known[type(session)] = reads, of_class
        return any(heard)


def _is_own(listener: object) -> bool:
    module: str = getattr(listener, "__module__", None) or ""
    return module.partition(".")[0] == _OWN
