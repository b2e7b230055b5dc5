"""Give each session one object per unique key, without asking the database twice."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from inspect import iscoroutine
from typing import Any, Self

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call, Outcome, Policy
from .._lookup import Lookup, bind, check_options, require_cover
from .._loop import find_or_create
from .._models import Criterion, default_field, differs
from .._new_row import Defaults, Factory, NewRow, all_unknown, called, is_mapping
from ..exceptions import ContradictionError, UnknownFieldError
from .key import exact, key_of, no_coroutine
from .memory import Known, known_by, remember

Criteria = Criterion | Sequence[Criterion]


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
        policy: Policy | None = None,
        **lookup: Any,
    ) -> Self:
        """Return the row's object, created if there is none.

        As :func:`get_or_create`; but the second call for a key in a session costs no
        SQL, as long as the object is in the session, loaded, and still has that key.
        A rollback, of a SAVEPOINT too, a commit that expires, and a connection that is
        lost, end that; so do deleting, expunging or expiring the object, closing the
        session, and all that changes the key, or may change it in the next flush. The
        arguments are checked all the same. The session does not keep the object alive.

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
            TypeError: :meth:`unique_hash` returned something without a hash, or it or
                :meth:`unique_filter` is a coroutine function.
            Exception: What these two raise, and what :func:`get_or_create` raises.
        """
        with Call("as_unique", session, cls, policy) as call:
            if options != ():
                options = check_options(cls, options)
            key = key_of(call, lookup, has_factory=factory is not None)
            known = None if key is None or options else known_by(call, key)
            found: Self | None = known.believed(call) if known is not None else None
            try:
                if known is not None and found is not None:
                    _check(call, known, lookup, defaults, factory)
                    call.outcome = Outcome.CACHED
                    return found
                call.claim_session()
                wanted: Lookup[Self] = _bind(call, lookup, options)
                new_row: NewRow[Self] = _new_row(wanted, lookup, defaults, factory)
            except UnknownFieldError as error:
                raise all_unknown(error, factory, defaults) from None
            require_cover(call, wanted)
            instance, _ = await find_or_create(call, wanted, new_row)
            if key is not None:
                remember(call, key, wanted, instance)
            return instance

    @classmethod
    def unique_hash(cls, **lookup: Any) -> Hashable:
        """Return what is equal for equal lookups; ``None``: ask the database each time.

        Override it together with :meth:`unique_filter`, where different values may
        stand for one row: names in any case, say. All that the filter depends on
        belongs in the result, which has to have a hash. As it is, values that could be
        told apart are not equal (``1`` and ``True``), and those without a hash make it
        ``None``.
        """
        try:
            return frozenset((name, exact(value)) for name, value in lookup.items())
        except Exception:  # noqa: BLE001 - a value may raise anything from __hash__
            return None

    @classmethod
    def unique_filter(cls, **lookup: Any) -> Criteria:
        """Return the criteria that find the row; as it is, the lookup itself."""
        raise NotImplementedError


def _bind(
    call: Call, lookup: Mapping[str, Any], options: Sequence[ORMOption] = ()
) -> Lookup[Any]:
    cls: Any = call.model
    how: Any = {"options": options, "lock_timeout": call.policy.lock_timeout}
    if not _is_overridden(cls):
        return bind(call.session, cls, (), lookup, **how)
    found: Any = cls.unique_filter(**lookup)
    if iscoroutine(found):
        found.close()
        raise TypeError(no_coroutine(cls, "unique_filter"))
    criteria: Criteria = found
    several = criteria if isinstance(criteria, Sequence) else (criteria,)
    return bind(call.session, cls, several, {}, **how)


def _is_overridden(cls: type[UniqueMixin]) -> bool:
    functions = [getattr(c.unique_filter, "__func__", c) for c in (cls, UniqueMixin)]
    return functions[0] is not functions[1]


def _new_row(
    wanted: Lookup[Any],
    lookup: Mapping[str, Any],
    defaults: Defaults | None,
    factory: Factory[Any] | None,
) -> NewRow[Any]:
    if wanted.values is not lookup:
        defaults = _with_lookup(wanted, lookup, defaults)
    return NewRow(wanted, defaults, factory)


def _check(
    call: Call,
    known: Known,
    lookup: Mapping[str, Any],
    defaults: Defaults | None,
    factory: Factory[Any] | None,
) -> None:
    """Check what comes with a lookup that has itself been checked before."""
    must_cover = call.policy.missing_constraint == "error" and not known.is_covered
    is_legal = factory is None or callable(factory)
    # To bind the lookup anew takes longer than all the rest of a hit.
    if is_legal and not must_cover and _are_unrelated(known, lookup, defaults):
        return
    wanted: Lookup[Any] = _bind(call, lookup)
    _new_row(wanted, lookup, defaults, factory)
    if must_cover:
        require_cover(call, wanted)
        known.is_covered = True


def _are_unrelated(known: Known, lookup: Mapping[str, Any], defaults: Any) -> bool:
    """Whether the defaults are legal, and cannot contradict the lookup."""
    if not is_mapping(defaults):
        # What a function returns is checked after a miss.
        return defaults is None or callable(defaults)
    is_known = known.unrelated.issuperset(defaults)
    return is_known and lookup.keys().isdisjoint(defaults)


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

    def combined(given: Any) -> Any:
        if not is_mapping(given):
            return given  # It will be refused.
        # The keys are names, or mapped attributes.
        by_name = {getattr(key, "key", key): value for key, value in given.items()}
        for name in values.keys() & by_name.keys():
            if differs(values[name], by_name[name]):
                names = (mapper.class_, name)
                raise ContradictionError(*names, values[name], by_name[name])
        rest = {name: values[name] for name in values.keys() - by_name.keys()}
        return {**rest, **given}

    if defaults is None or not callable(defaults):
        result: Defaults = combined({} if defaults is None else defaults)
        return result
    function: Callable[[], Any] = defaults

    async def lazily() -> Any:
        return combined(await called(function))

    return lazily


def _is_read_only(mapper: Mapper[Any], name: str) -> bool:
    is_mapped = name in mapper.all_orm_descriptors
    return is_mapped and default_field(mapper, name) is None
