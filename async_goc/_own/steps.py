"""Find or insert many rows of SQLite: one by one, but in one hop to its thread."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine

from .._databases import (
    Lane,
    NoAnswerError,
    SeveredError,
    Step,
    look_in_steps,
    write_in_steps,
)
from .asks import Answer, Ask, Values
from .inserts import Inserts
from .rows import Row
from .statements import Statement, are_plain

# The rows are committed, or soon will be, so most of a batch is found without the one
# writer's lock. What is missing is looked for once more by whoever has the lock, and
# then nobody else can insert it. Equal keys are one row because the database says so:
# the first of them inserts it, and the others find it.


class Steps:
    """Answers many calls with one set of lookup names."""

    def __init__(
        self, lane: Lane, engine: Engine, select: Statement, inserts: Inserts
    ) -> None:
        self._lane = lane
        self._engine = engine
        self._select = select
        self._inserts = inserts

    async def insert(self, values: Values) -> Row | None:
        """Insert a row."""
        prepared = self._inserts.prepare(values, None)
        if prepared is None:
            return None
        statement, packed = prepared
        step = Step(None, (), statement.wire, packed)
        await self._write([step])
        return _row(step)

    async def answer(self, asks: Sequence[Ask], _: float | None) -> list[Answer]:
        """Find or insert what the calls ask for."""
        steps: dict[int, Step] = {}
        for place, ask in enumerate(asks):
            is_known = are_plain(ask.lookup.values())
            key = self._select.pack(ask.lookup) if is_known else None
            if key is not None:
                steps[place] = Step(self._select.wire, key)
        try:
            await look_in_steps(self._lane, self._engine, [*steps.values()])
        except (NoAnswerError, SeveredError):
            return [None] * len(asks)
        await self._write(self._prepared(asks, steps))
        found: list[Answer] = [None] * len(asks)
        for place, step in steps.items():
            row = _row(step)
            found[place] = None if row is None else (row, step.is_created)
        return found

    def _prepared(self, asks: Sequence[Ask], steps: Mapping[int, Step]) -> list[Step]:
        """Return the steps to write; those that only look come after the others."""
        missing = [
            place
            for place, step in steps.items()
            if step.row is None and not step.is_ambiguous
        ]
        inserting = [place for place in missing if asks[place].defaults is not None]
        filled = self._inserts.complete([asks[place] for place in inserting])
        able: list[Step] = []
        for place, values in zip(inserting, filled, strict=True):
            prepared = None if values is None else self._inserts.prepare(values, None)
            if prepared is not None:
                statement, packed = prepared
                steps[place].insert, steps[place].values = statement.wire, packed
                able.append(steps[place])
        others = [steps[place] for place in missing if steps[place].insert is None]
        return [*able, *others] if able else []

    async def _write(self, steps: Sequence[Step]) -> None:
        try:
            if steps:
                await write_in_steps(self._engine, steps)
        except NoAnswerError:
            for step in steps:
                step.row = None


def _row(step: Step) -> Row | None:
    wire = step.insert if step.is_created else step.select
    return None if step.row is None or wire is None else (wire, step.row)
