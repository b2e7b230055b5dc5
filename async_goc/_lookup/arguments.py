"""Refuse arguments that could not identify a row, before any SQL."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session, selectinload
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.selectable import ForUpdateArg, ForUpdateParameter

from .._databases import facts_of, isolation_level_of
from .._models import SQL, level_on_connect, remembered
from .plan import Plan


def check_lookup(
    model: type[object], criteria: Sequence[Any], values: Mapping[str, Any]
) -> None:
    """Refuse an empty lookup, and criteria that are not SQL."""
    if not criteria and not values:
        msg = (
            f"no lookup for {model.__name__}, which would match any row; "
            "give keywords or criteria that identify one"
        )
        raise ValueError(msg)
    for criterion in criteria:
        if isinstance(criterion, Mapping):
            msg = (
                f"a mapping is no criterion for {model.__name__}; did you mean "
                "defaults=? Criteria are SQL expressions, as in Model.name == 'x'"
            )
            raise TypeError(msg)
        if not isinstance(criterion, SQL):
            msg = (
                f"a criterion is of type {type(criterion).__name__}, and no SQL "
                "expression; compare a mapped attribute, as in Model.name == 'x' or "
                "Model.name.is_(None)"
            )
            raise TypeError(msg)


def check_options(model: type[object], options: Any) -> tuple[ORMOption, ...]:
    """Return the loader options; refuse anything else, such as a value to look up."""
    checked: tuple[Any, ...] = tuple(options)
    if all(isinstance(option, ORMOption) for option in checked):
        return checked
    msg = (
        "options has something else than loader options; give a sequence of those. To "
        f"look up a column of that name, give {model.__name__}.options == value as a "
        "positional criterion"
    )
    raise TypeError(msg)


def parents_of(
    session: AsyncSession, plan: Plan[Any], values: Mapping[str, Any]
) -> Iterator[object]:
    """Yield the instances among *values*; refuse those that have no key to compare."""
    for field in plan.parents:
        parent = values[field.name]
        if parent is None:
            continue
        where = f"{plan.model.__name__}.{field.name}"
        wanted: Any = field.parent
        if not isinstance(parent, wanted.class_):
            kinds = wanted.class_.__name__, type(parent).__name__
            msg = f"{where} takes a {kinds[0]}, and got a {kinds[1]}; pass the former"
            raise TypeError(msg)
        if parent not in session:
            msg = (
                f"the {type(parent).__name__} given for {where} is not in this session "
                "and has no row to look up by; session.add() or merge() it first"
            )
            raise ValueError(msg)
        yield parent


def add_lock(
    statement: Select[Any], mapper: Mapper[Any], how: ForUpdateParameter
) -> Select[Any]:
    """Add FOR UPDATE; refuse SKIP LOCKED, which makes a locked row look missing."""
    flags = _flags_of(how)
    if flags.get("skip_locked"):
        msg = (
            "with_for_update has skip_locked, which makes a locked row look missing; "
            "leave it out, or use nowait"
        )
        raise ValueError(msg)
    return statement.with_for_update(**flags).options(*_loading_beside(mapper))


def has_nowait(how: ForUpdateParameter) -> bool:
    """Whether the database is not to wait for the lock at all."""
    return bool(_flags_of(how).get("nowait"))


def _flags_of(how: ForUpdateParameter) -> Mapping[str, Any]:
    if isinstance(how, ForUpdateArg):
        names = ("nowait", "read", "of", "skip_locked", "key_share")
        return {name: getattr(how, name) for name in names}
    return how if isinstance(how, Mapping) else {}


@remembered
def _loading_beside(mapper: Mapper[Any]) -> Sequence[ORMOption]:
    """Return options for relationships that are loaded by a subquery."""
    # It repeats the statement, lock and all, and PostgreSQL refuses a DISTINCT there.
    relationships = (r for r in mapper.relationships if r.lazy == "subquery")
    return [selectinload(getattr(mapper.class_, r.key)) for r in relationships]


def is_in_autocommit(session: Session, bind: Engine | Connection) -> bool:
    """Whether each statement commits itself."""
    level = isolation_level_of(session, bind) or level_on_connect(bind.dialect)
    return level is not None and level.upper() == "AUTOCOMMIT"


def locks_by_reading(session: Session, bind: Engine | Connection) -> bool:
    """Whether each SELECT locks what it reads, gaps included."""
    if not facts_of(bind.dialect).has_locking_reads:
        return False
    level = isolation_level_of(session, bind) or level_on_connect(bind.dialect)
    # The server's own is known as soon as the engine has connected.
    level = level or getattr(bind.dialect, "default_isolation_level", None)
    return level is not None and level.upper() == "SERIALIZABLE"


def refuse_autocommit(session: Session, bind: Engine | Connection) -> None:
    """Refuse a session without transactions, where the database needs one."""
    refuses = facts_of(bind.dialect).refuses_autocommit
    if refuses and is_in_autocommit(session, bind):
        msg = (
            "the session is in AUTOCOMMIT, where there is no transaction to undo a "
            "failed INSERT in, and no lock lasts; give it an engine or a connection of "
            "another isolation_level, such as "
            "engine.execution_options(isolation_level='READ COMMITTED')"
        )
        raise ValueError(msg)
