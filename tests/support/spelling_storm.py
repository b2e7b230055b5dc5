"""Ask for the same new rows in one spelling or another, from several processes."""

import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from wide import Spelled

from async_goc import Policy, get_or_create_many

# A number's spellings as a key of each kind.
SPELLINGS: Mapping[str, Callable[[int], list[Any]]] = {
    "mail": lambda n: [f"ann{n}", f"ANN{n}", f"Ann{n}"],
    "document": lambda n: [{"n": n, "x": True}, {"x": True, "n": float(n)}],
    "pairs": lambda n: [{"n": str(n), "x": None}, {"x": None, "n": str(n)}],
    "price": lambda n: [Decimal(n), n + 0.001, Decimal(f"{n}.00")],
}


async def main(url: str, seed: int, rounds: int, keys: int) -> int:
    """Return how many rows were created; each round has new ones."""
    engine = create_async_engine(url)
    rng, created = random.Random(seed), 0  # noqa: S311
    policy = Policy(locks=None, missing_constraint="ignore")
    for number in range(rounds):
        for name, spellings in SPELLINGS.items():
            numbers = range(number * keys, (number + 1) * keys)
            rows = [{name: rng.choice(spellings(n))} for n in numbers]
            rng.shuffle(rows)
            async with AsyncSession(engine) as session, session.begin():
                result = await get_or_create_many(
                    *(session, Spelled, rows), key=name, chunk_size=1, policy=policy
                )
            created += sum(is_created for _, is_created in result)
    await engine.dispose()
    return created
