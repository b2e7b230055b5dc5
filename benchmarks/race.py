"""Time contenders side by side: all in each round, each round in another order."""

import gc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from statistics import median

from contenders import Contender

WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """What a contender did in one round: µs per call, and how many calls raised."""

    micros: float
    created: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed.

    Attributes:
        run: Times one contender, with these names.
        names: Makes so many of them.
        created: Says how many of so many names have to be created.
        size: How many names there are in a sample.
        loop_size: The same for those who need a loop where others do not.
        has_references: Those that cannot create take part.
    """

    title: str
    about: str
    run: Callable[[Contender, list[str]], Awaitable[Sample]]
    names: Callable[[int], list[str]]
    created: Callable[[int], int]
    rounds: int
    size: int
    loop_size: int | None = None
    has_references: bool = False

    async def sample(self, contender: Contender) -> Sample:
        size = self.size
        if self.loop_size is not None and not contender.has_bulk:
            size = self.loop_size
        names = self.names(size)
        gc.collect()
        sample = await self.run(contender, names)
        expected = self.created(size)
        if not sample.failed and sample.created != expected:
            msg = f"{sample.created} created, not {expected}"
            raise AssertionError(msg)
        return sample


@dataclass(slots=True)
class Lane:
    """A contender's samples in one case, or why there are none."""

    samples: list[Sample] = field(default_factory=list)
    reason: str = ""

    @property
    def micros(self) -> float:
        return median(sample.micros for sample in self.samples)

    @property
    def failed(self) -> float:
        return median(sample.failed for sample in self.samples)

    def ratio(self, other: "Lane") -> float | None:
        """Return the median of the rounds' ratios; both have run in each round."""
        if not (self.samples and other.samples):
            return None
        pairs = zip(self.samples, other.samples, strict=True)
        return median(own.micros / others.micros for own, others in pairs)


Lanes = dict[str, Lane]


async def race(case: Case, contenders: Mapping[str, Contender]) -> Lanes:
    """Run one case; who fails in it, other than in a storm, is out of it."""
    chance = Random(case.title)  # noqa: S311
    lanes = {
        title: Lane()
        for title, contender in contenders.items()
        if (case.has_references or not contender.is_reference)
        and (case.loop_size is not None or not contender.is_for_bulk)
    }
    for number in range(WARM_UP + case.rounds):
        order = [title for title, lane in lanes.items() if not lane.reason]
        chance.shuffle(order)
        for title in order:
            try:
                sample = await case.sample(contenders[title])
            except Exception as error:  # noqa: BLE001 - any reason is one
                lanes[title] = Lane(reason=why(error))
            else:
                if number >= WARM_UP:
                    lanes[title].samples.append(sample)
    return lanes


def why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
