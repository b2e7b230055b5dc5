"""Remember what is listened to, until a listener comes or goes."""

from collections.abc import Iterator
from operator import attrgetter, call
from typing import Any, Final

from .private import class_listeners

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


def _is_own(listener: object) -> bool:
    module: str = getattr(listener, "__module__", None) or ""
    return module.partition(".")[0] == _OWN
