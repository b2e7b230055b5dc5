"""Hold what is claimed against what has been measured."""

from dataclasses import dataclass

from race import Lane, Lanes

SAVEPOINT, NATIVE = "async_goc, savepoint", "async_goc, native"
RECIPE = "savepoint by hand"
DJANGO = ("Django, ASGI request", "Django, one thread", "Django, atomic")


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

    def line(self, results: dict[str, Lanes]) -> str:
        ratio = self.ratio(results)
        verdict = "unknown" if ratio is None else "yes" if ratio <= self.bound else "no"
        shown = "-" if ratio is None else f"{ratio:.3g}"
        what = f"{self.case}: {self.ours} / {self.other}"
        return f"{verdict:8}{shown:>6} <= {self.bound:.3g}  {what}"


CLAIMS = [
    Claim("hit in tx", SAVEPOINT, "select().filter_by() by hand", 0.60),
    Claim("hit in tx", SAVEPOINT, "prebuilt select by hand", 1.10),
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
    Claim("bulk", SAVEPOINT, "asyncpg", 3.00),
    Claim("bulk", SAVEPOINT, "async_goc, in a loop", 1 / 30),
]
