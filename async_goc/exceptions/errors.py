"""What a call raises that is not the database's own error."""

from collections.abc import Sequence

from .documented import Documented

# Each class hands all its data to `super().__init__` and builds its text in `_message`.
# Pickle calls the class with `args` again, so a finished text in there would become the
# first parameter of the copy.


class AsyncGocError(Documented):
    """Base class of this library's errors, and of no others."""


class UnknownFieldError(AsyncGocError, ValueError):
    """The lookup or the defaults name something that the model cannot take.

    Attributes:
        model: The mapped class.
        fields: All of the names, in the order in which they were given.
        matches: Names that may have been meant, the closest first.
    """

    def __init__(
        self, model: type[object], fields: Sequence[str], matches: Sequence[str] = ()
    ) -> None:
        self.model = model
        self.fields: tuple[str, ...] = tuple(fields)
        self.matches: tuple[str, ...] = tuple(matches)
        super().__init__(model, self.fields, self.matches)

    def _message(self) -> str:
        there = {name for kind in self.model.__mro__ for name in vars(kind)}
        missing = [repr(name) for name in self.fields if name not in there]
        model, clauses = self.model.__name__, list[str]()
        if missing:
            hint = (
                f"did you mean {' or '.join(map(repr, self.matches))}?"
                if self.matches
                else "use the names of mapped attributes"
            )
            clauses.append(f"{model} has no attribute {' or '.join(missing)}; {hint}")
        clauses += [
            f"{model}.{name} takes no value here; leave it out"
            for name in self.fields
            if name in there
        ]
        return ". ".join(clauses)


class ContradictionError(AsyncGocError, ValueError):
    """A value for the new row contradicts what the lookup asks for.

    Attributes:
        model: The mapped class.
        field: The name whose value contradicts the lookup.
        wanted: The value in the lookup, or the criterion.
        given: The value that contradicts it.
        is_hidden: Whether the message leaves the values out, because the engine has
            ``hide_parameters``.
    """

    def __init__(
        self,
        model: type[object],
        field: str,
        wanted: object,
        given: object,
        is_hidden: bool = False,  # noqa: FBT001, FBT002 - pickle knows positions only
    ) -> None:
        self.model = model
        self.field = field
        self.wanted = wanted
        self.given = given
        self.is_hidden: bool = is_hidden
        super().__init__(model, field, wanted, given, is_hidden)

    def hide(self) -> None:
        """Leave the values out of the message."""
        self.is_hidden = True
        super().__init__(*self.args[:-1], self.is_hidden)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _message(self) -> str:
        values = (
            "another value in a new row than the lookup asks for (both hidden)"
            if self.is_hidden
            else f"{self.given!r} in a new row, but the lookup asks for {self.wanted!r}"
        )
        return (
            f"{self.model.__name__}.{self.field} would be {values}; the next call "
            "would not find that row, so give one of the two"
        )


class MissingConstraint(Documented):
    """What the error and the warning about a missing constraint have in common."""

    def __init__(self, model: type[object], lookup: Sequence[str]) -> None:
        self.model = model
        self.lookup: tuple[str, ...] = tuple(lookup)
        super().__init__(model, self.lookup)

    def _message(self) -> str:
        return (
            f"no unique constraint of {self.model.__name__} covers the lookup by "
            f"{', '.join(self.lookup) or 'criteria'}, so nothing stops two "
            "transactions from each inserting the row (NULLs never conflict); add a "
            "unique constraint on these columns, to the table as well as to the model, "
            "or pass policy=Policy(missing_constraint='ignore')"
        )


class MissingConstraintError(MissingConstraint, AsyncGocError):
    """No unique constraint covers the lookup, and the policy asks for one.

    Attributes:
        model: The mapped class.
        lookup: The names looked up.
    """


class SnapshotConflictError(AsyncGocError):
    """The rival's row exists, but this transaction's snapshot cannot see it.

    This happens on PostgreSQL, and on MariaDB since 11.6, from REPEATABLE READ upwards.
    No statement of this transaction can see the row, but a new transaction can.

    Attributes:
        model: The mapped class.
        lookup: The names looked up.
        constraint: The violated constraint's name, if the database gave one.
    """

    def __init__(
        self, model: type[object], lookup: Sequence[str], constraint: str | None = None
    ) -> None:
        self.model = model
        self.lookup: tuple[str, ...] = tuple(lookup)
        self.constraint = constraint
        super().__init__(model, self.lookup, constraint)

    def _message(self) -> str:
        return (
            f"a rival's {self.model.__name__} is committed but invisible to this "
            "transaction's snapshot; roll back and run the whole transaction again, "
            "or use READ COMMITTED"
        )


class ContentionError(AsyncGocError):
    """A row was in the way of each attempt, and never to be seen, or to be kept.

    If no attempt has found the row, the cause is the database's last error.

    Attributes:
        model: The mapped class.
        lookup: The names looked up.
        attempts: How many attempts were made, as ``Policy.attempts`` counts.
        constraint: The violated constraint's name; on SQLite, its columns.
        has_vanished: Whether each attempt has found a row, which was deleted before
            the call had read or changed it. Then no constraint was violated.
    """

    def __init__(
        self,
        model: type[object],
        lookup: Sequence[str],
        attempts: int,
        constraint: str | None = None,
        has_vanished: bool = False,  # noqa: FBT001, FBT002 - pickle knows positions only
    ) -> None:
        self.model = model
        self.lookup: tuple[str, ...] = tuple(lookup)
        self.attempts = attempts
        self.constraint = constraint
        self.has_vanished: bool = has_vanished
        super().__init__(model, self.lookup, attempts, constraint, has_vanished)

    def _message(self) -> str:
        if self.has_vanished:
            return (
                f"{self.model.__name__} was found in each of {self.attempts} attempts, "
                "and deleted before the call had done with it; see what deletes these "
                "rows, or raise Policy.attempts"
            )
        return (
            f"{self.model.__name__} was neither found nor created: in {self.attempts} "
            f"attempts, a row was in the way (by {self.constraint or 'a constraint'}) "
            "that the lookup did not find; if rivals delete it again and again, see "
            "what deletes these rows, or raise Policy.attempts; if this lookup cannot "
            "see it, look up by the value as it is stored, which the column's type or "
            "a trigger may change, and see whether row level security hides it"
        )


class OutcomeUnknownError(AsyncGocError):
    """A transaction was to be committed, and whether it was is not known.

    Most often the connection ended before the answer came, to a COMMIT or to an INSERT
    that commits by itself. The cause is the database's error.

    Attributes:
        what: The statement that was sent.
        attempts: How often the transaction was run, the last time included.
        is_partial: Whether the session had several connections, of which at least one
            has committed and another has not.
    """

    def __init__(
        self,
        what: str,
        attempts: int = 1,
        is_partial: bool = False,  # noqa: FBT001, FBT002 - pickle knows positions only
    ) -> None:
        self.what = what
        self.attempts = attempts
        self.is_partial: bool = is_partial
        super().__init__(what, attempts, is_partial)

    def _message(self) -> str:
        happened = (
            f"{self.what} succeeded on one connection of the session and failed on "
            "another"
            if self.is_partial
            else f"{self.what} was sent, and the connection ended before the database "
            "had said whether it took effect"
        )
        return (
            f"{happened} (attempt {self.attempts}); look which of the changes are "
            "there, or run it again where that does no harm, as "
            "run_in_transaction(..., is_idempotent=True) does by itself"
        )
