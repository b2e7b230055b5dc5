"""Give each session one object per unique key, without asking the database twice."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Self
from weakref import ref

from sqlalchemy import Column, SelectBase, TextClause, event, inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause

from ._call import DEFAULT_POLICY, Call, Outcome, Policy
from ._lookup import Lookup, bind, require_cover
from ._loop import find_or_create
from ._models import Criterion, conjuncts, default_field, differs, readable
from ._new_row import Defaults, Factory, NewRow, all_unknown, called
from .exceptions import ContradictionError, UnknownFieldError

_KEY: Final = "async_goc.unique"
_MISSING: Final = object()

Criteria = Criterion | Sequence[Criterion]


class _Known(NamedTuple):
    """An instance that was found, or created, under a key."""

    instance: ref[Any]
    # What it had then in the columns that the lookup asked about, by attribute name.
    values: Mapping[str, Any]
    columns: frozenset[Column[Any]]


class UniqueMixin:
    """A mapped class whose objects are unique in each session.

    Example:
        >>> class Tag(UniqueMixin, Base):
        ...     __tablename__ = "tag"
        ...     id: Mapped[int] = mapped_column(primary_key=True)
        ...     name: Mapped[str] = mapped_column(unique=True)
        >>> tag = await Tag.as_unique(session, name="python")
    """

    @classmethod
    async def as_unique(
        cls,
        session: AsyncSession | async_scoped_session[AsyncSession],
        /,
        *,
        defaults: Defaults | None = None,
        factory: Factory[Any] | None = None,
        options: Sequence[ORMOption] = (),
        policy: Policy = DEFAULT_POLICY,
        **lookup: Any,
    ) -> Self:
        """Return the row's object, created if there is none.

        As :func:`get_or_create`; but the second call for a key in a session costs no
        SQL, as long as the object is in the session, loaded, and still has that key.
        A rollback, of a SAVEPOINT too, and a commit that expires, end that; so do
        deleting, expunging or expiring the object, closing the session, and changing
        the key. The session does not keep the object alive.

        Args:
            session: The session.
            defaults: As for :func:`get_or_create`.
            factory: As for :func:`get_or_create`.
            options: As for :func:`get_or_create`. With any, the database is asked.
            policy: As for :func:`get_or_create`.
            **lookup: As for :func:`get_or_create`; or what :meth:`unique_filter`
                takes.

        Returns:
            The object, all of its columns loaded.

        Raises:
            Exception: What :func:`get_or_create` raises.
        """
        with Call("as_unique", session, cls, policy) as call:
            sync_session = call.session.sync_session
            key = _key(cls, lookup)
            known: Self | None = _known(sync_session, key)
            if known is not None and not options:
                call.outcome = Outcome.CACHED
                return known
            call.claim_session()
            criteria: tuple[Criterion, ...] = ()
            values = lookup
            if _is_overridden(cls):
                found = cls.unique_filter(**lookup)
                criteria = tuple(found) if isinstance(found, Sequence) else (found,)
                values = {}
            try:
                wanted = bind(call.session, cls, criteria, values, options=options)
                if criteria:
                    defaults = _with_lookup(wanted, lookup, defaults)
                new_row = NewRow(wanted, defaults, factory)
            except UnknownFieldError as error:
                raise all_unknown(error, factory, defaults) from None
            require_cover(call, wanted)
            instance, _ = await find_or_create(call, wanted, new_row)
            _remember(sync_session, key, wanted, instance)
            return instance

    @classmethod
    def unique_hash(cls, **lookup: Any) -> Hashable:
        """Return what is equal for equal keys; where it is not hashable, none is kept.

        Override it together with :meth:`unique_filter`, where different values may
        stand for one row: names in any case, say.
        """
        # An instance's state, which does not keep it alive.
        states = {n: inspect(v, raiseerr=False) for n, v in lookup.items()}
        return frozenset((n, states[n] or value) for n, value in lookup.items())

    @classmethod
    def unique_filter(cls, **lookup: Any) -> Criteria:
        """Return the criteria that find the row; as it is, the lookup itself."""
        raise NotImplementedError


def _is_overridden(cls: type[UniqueMixin]) -> bool:
    functions = [getattr(c.unique_filter, "__func__", c) for c in (cls, UniqueMixin)]
    return functions[0] is not functions[1]


def _key(cls: type[UniqueMixin], lookup: Mapping[str, Any]) -> Hashable:
    """Return the cache's key; ``None``: the values have no hash."""
    try:
        key = (cls, cls.unique_hash(**lookup))
        hash(key)
    except TypeError:
        return None
    return key


def _with_lookup(
    wanted: Lookup[Any], lookup: Mapping[str, Any], defaults: Defaults | None
) -> Defaults:
    """Add what the caller looks up to the defaults, unless the criteria give it."""
    mapper = wanted.plan.mapper
    fed = wanted.fed_values(is_flushed=False)
    values = {
        name: value
        for name, value in lookup.items()
        # What cannot be set, a hybrid say, only finds the row.
        if name not in fed and not _is_read_only(mapper, name)
    }

    def combined(given: Mapping[Any, Any]) -> Mapping[Any, Any]:
        for name in values.keys() & given.keys():
            if differs(values[name], given[name]):
                names = (mapper.class_, name)
                raise ContradictionError(*names, values[name], given[name])
        return {**values, **given}

    if defaults is None or not callable(defaults):
        return combined(defaults or {})
    function: Callable[[], Any] = defaults

    async def lazily() -> Mapping[Any, Any]:
        return combined(await called(function))

    return lazily


def _is_read_only(mapper: Mapper[Any], name: str) -> bool:
    is_mapped = name in mapper.all_orm_descriptors
    return is_mapped and default_field(mapper, name) is None


def _known(session: Session, key: Hashable) -> Any:
    """Return the instance, if the session would still find it under the key."""
    known: _Known | None = session.info.get(_KEY, {}).get(key)
    instance = None if known is None else known.instance()
    if known is None or instance is None or instance not in session:
        return None
    state: Any = inspect(instance)
    if not state.persistent or instance in session.deleted:
        return None
    # The caller is to read all of them. (What was never set reads as None.)
    unloaded = readable(state.mapper) - state.dict.keys()
    if not unloaded.isdisjoint(state.expired_attributes | state.callables.keys()):
        return None
    if any(state.dict.get(n, _MISSING) != v for n, v in known.values.items()):
        return None
    # A parent, or a parent's collection, may change foreign keys in the next flush.
    has_parents = any(column.foreign_keys for column in known.columns)
    if has_parents and (session.new or session.dirty or session.deleted):
        return None
    return instance


def _remember(
    session: Session, key: Hashable, wanted: Lookup[Any], instance: object
) -> None:
    state: Any = inspect(instance)
    columns = _columns(wanted)
    names = {state.mapper.get_property_by_column(c).key for c in columns or ()}
    if key is None or columns is None or not names <= state.dict.keys():
        return
    values = {name: state.dict[name] for name in names}
    if not all(isinstance(value, Hashable) for value in values.values()):
        return  # It may change in place.
    cache: dict[Hashable, _Known] = session.info.setdefault(_KEY, {})

    def forget(_: ref[Any]) -> None:
        cache.pop(key, None)  # A reference that has been replaced does not call this.

    cache[key] = _Known(ref(instance, forget), values, columns)


def _columns(wanted: Lookup[Any]) -> frozenset[Column[Any]] | None:
    """Return the columns that the lookup asks about; ``None``: not only the model's."""
    mapper: Mapper[Any] = wanted.plan.mapper
    criteria = conjuncts(wanted.statement.whereclause)
    found: set[Any] = set()
    for element in chain.from_iterable(map(visitors.iterate, criteria)):
        if isinstance(element, Column):
            found.add(element)
        elif isinstance(element, TextClause | SelectBase | ColumnClause):
            return None
    is_own = all(map(mapper.columns.contains_column, found))
    return frozenset(found) if is_own else None


@event.listens_for(Session, "after_soft_rollback")
def _on_rollback(session: Session, _: object) -> None:
    # What was found inside a SAVEPOINT may have gone with it, and is not expired.
    session.info.pop(_KEY, None)
