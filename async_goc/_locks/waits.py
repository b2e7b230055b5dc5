"""Follow what waits for what."""

from collections.abc import Collection, Hashable, Mapping

from .line import Waiter
from .owner import Owner

# A cycle of waits can only be closed by a new waiter: a key passes to an owner that has
# stopped waiting, or is not waiting. So one walk from the key's holder, before waiting,
# finds every cycle. All of its members then go on without the key, because only the
# database can tell a deadlock, and end it.


def follow(
    holders: Mapping[Hashable, Owner], key: Hashable, ends: Collection[Owner] = ()
) -> tuple[Owner, list[Waiter]]:
    """Walk from the holder of *key* to what it waits for, and on from there.

    Return the first owner of *ends*, or else the one that does not wait, and the
    waiters on the way to it.
    """
    holder, members = holders[key], list[Waiter]()
    while holder not in ends:
        waiter = holder.waits
        if waiter is None or not waiter.is_live:
            break
        members.append(waiter)
        holder = holders[waiter.key]
    return holder, members
