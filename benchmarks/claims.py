"""Hold what is claimed against what has been measured: in time, or in instructions."""

from dataclasses import dataclass

from race import Lane, Lanes

SAVEPOINT, NATIVE = "async_goc, savepoint", "async_goc, native"
CREATOR = "GetOrCreator, batch"
# As instructions.py calls them.
OURS, NO_LOCKS = "async_goc", "async_goc, locks=None"
NOTHING_KNOWN = "async_goc, key not known"
PREBUILT, FILTER_BY = "prebuilt select by hand", "select().filter_by() by hand"
RECIPE = "savepoint by hand"
TORTOISE, YARA = "Tortoise ORM", "yara-orm"
DJANGO = ("Django, ASGI request", "Django, one thread", "Django, atomic")

YES, NO = "yes", "no"


@dataclass(frozen=True, slots=True)
class Claim:
    """In *case*, *ours* takes at most *bound* times what *other* takes."""

    case: str
    ours: str
    other: str
    bound: float

    def ratio(self, results: dict[str, Lanes]) -> float | None:
        lanes = results.get(self.case, {})
        return lanes.get(self.ours, Lane()).ratio(lanes.get(self.other, Lane()))

    def line(self, ratio: float | None) -> str:
        verdict = "unknown" if ratio is None else YES if ratio <= self.bound else NO
        shown = "-" if ratio is None else f"{ratio:.3g}"
        what = f"{self.case}: {self.ours} / {self.other}"
        return f"{verdict:8}{shown:>6} <= {self.bound:.3g}  {what}"


CLAIMS = [
    Claim("hit in tx", SAVEPOINT, FILTER_BY, 0.60),
    Claim("hit in tx", SAVEPOINT, PREBUILT, 1.10),
    Claim("miss in tx", SAVEPOINT, RECIPE, 1.00),
    Claim("miss in tx", NATIVE, RECIPE, 0.40),
    Claim("miss in tx", NATIVE, "ON CONFLICT by hand", 1.10),
    Claim("cold storm", SAVEPOINT, RECIPE, 0.60),
    *(Claim("cold storm", SAVEPOINT, django, 1.00) for django in DJANGO),
    Claim("hit", SAVEPOINT, RECIPE, 0.75),
    Claim("hot storm", SAVEPOINT, RECIPE, 0.80),
    *(
        Claim(case, ours, other, 1.00)
        for case, ours in (("hit", SAVEPOINT), ("miss", SAVEPOINT), ("miss", NATIVE))
        for other in (*DJANGO, "advanced-alchemy")
    ),
    Claim("bulk", SAVEPOINT, "asyncpg", 2.60),
    Claim("bulk", "async_goc, keys alone", "asyncpg", 1.50),
    Claim("bulk", SAVEPOINT, "async_goc, in a loop", 1 / 30),
    Claim("hit", CREATOR, TORTOISE, 0.55),
    Claim("hit", CREATOR, "asyncpg", 0.50),
    Claim("hit", CREATOR, YARA, 0.80),
    Claim("miss", CREATOR, TORTOISE, 0.40),
    Claim("miss", CREATOR, YARA, 0.60),
    # Not held to yara-orm, most of whose calls raise there.
    Claim("cold storm", CREATOR, TORTOISE, 0.12),
    Claim("hot storm", CREATOR, TORTOISE, 0.17),
    Claim("hot storm", CREATOR, YARA, 0.40),
    Claim("spread", CREATOR, TORTOISE, 0.20),
    Claim("spread", CREATOR, YARA, 0.40),
    Claim("1,000 keys", CREATOR, TORTOISE, 1 / 12),
    Claim("1,000 keys", CREATOR, YARA, 1 / 6),
]

# By instructions.py, which fails if one does not hold.
COUNTED = [
    Claim("hit in tx", OURS, PREBUILT, 1.03),
    Claim("hit in tx", OURS, FILTER_BY, 0.61),
    Claim("hit", OURS, PREBUILT, 1.04),
    Claim("hit", OURS, FILTER_BY, 0.82),
    # The queue is 3 % of a hit.
    Claim("hit in tx", OURS, NO_LOCKS, 1.03),
    Claim("hit in tx", NOTHING_KNOWN, NO_LOCKS, 1.03),
    Claim("hit", OURS, NO_LOCKS, 1.03),
    Claim("hit", NOTHING_KNOWN, NO_LOCKS, 1.03),
    Claim("savepoint miss in tx", OURS, RECIPE, 0.92),
    Claim("savepoint miss", OURS, RECIPE, 1.00),
    Claim("native miss in tx", NATIVE, RECIPE, 0.46),
    Claim("native miss", NATIVE, RECIPE, 0.60),
]
