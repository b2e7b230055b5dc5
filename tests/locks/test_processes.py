"""A registry belongs to one process, and a policy goes anywhere."""

import asyncio
import copy
import pickle
from dataclasses import asdict, replace

import pytest
from children import figures, in_child, registries
from owners import Holder

from async_goc import DEFAULT_POLICY, KeyedLocks, Policy, Stats
from async_goc._locks.registry import _start_in_child


def test_forked_child_begins_anew() -> None:
    """A child finds every registry empty and free, whatever its parent was doing.

    Fails without `_start_in_child`.
    """
    locks = KeyedLocks()

    async def fork() -> object:
        assert locks.queues().take("k", Holder())
        # As another thread has it that meets a new loop.
        with locks._guard:
            return in_child("fork", figures, locks)

    assert asyncio.run(fork()) == (0, 0, 0, True)
    assert locks.statistics().acquired == 1
    # What the child has done first.
    _start_in_child()
    assert locks.statistics().acquired == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_policies_in_a_child(method: str) -> None:
    """A child's policies have the child's registries: the default one, or a new one."""
    own = Policy(locks=KeyedLocks(known_keys=7))
    assert own.locks is not None

    async def take() -> None:
        assert own.locks is not None
        assert own.locks.queues().take("k", Holder())
        arguments = (DEFAULT_POLICY, replace(own, attempts=5))
        found = in_child(method, registries, *arguments)
        assert found == (True, False, 7, (0, 0, 0, True))

    asyncio.run(take())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_policies_are_pickled(protocol: int) -> None:
    """Every field comes back, and the default registry is the process's own."""
    stats = Stats()
    policy = Policy(attempts=7, namespace=("tenant", 7), observer=stats)
    found: Policy = pickle.loads(pickle.dumps(policy, protocol))  # noqa: S301
    assert isinstance(found.observer, Stats)
    assert replace(found, observer=stats) == policy
    assert found.locks is DEFAULT_POLICY.locks
    none = pickle.loads(pickle.dumps(Policy(locks=None), protocol))  # noqa: S301
    assert none == Policy(locks=None)
    first, second = pickle.loads(  # noqa: S301
        pickle.dumps([Policy(locks=KeyedLocks(7))] * 2, protocol)
    )
    assert first.locks is second.locks
    assert first.locks not in {None, DEFAULT_POLICY.locks}


def test_copies_share_the_registry() -> None:
    """A copy of a policy queues where the policy does, and so does one by fields."""
    for policy in (Policy(), Policy(locks=KeyedLocks())):
        copies = (copy.copy(policy), copy.deepcopy(policy), Policy(**asdict(policy)))
        assert all(other == policy for other in copies)
        assert all(other.locks is policy.locks for other in copies)
        assert copy.copy(policy.locks) is policy.locks
