"""Ask as a user of Django does: ``aget_or_create``, which runs in a thread.

Django commits each statement by itself in asynchronous code, and has no transactions
there; its SAVEPOINT becomes the transaction of a miss. In bulk, the loop is within a
synchronous function.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.db import close_old_connections, connections, models, transaction

from . import POOL, Call, Contender, Place


class _Django(Contender):
    database: str

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._tags = _model(place.where).objects.using(self.database)

    async def __aexit__(self, *_: object) -> None:
        await sync_to_async(_disconnect)(self.database)

    def transaction(self) -> AbstractAsyncContextManager[Call]:
        raise NotImplementedError("Django has no transactions in asynchronous code")

    async def bulk(self, names: Sequence[str]) -> int:
        return int(await sync_to_async(self._loop)(names))

    def _loop(self, names: Sequence[str]) -> int:
        with transaction.atomic(using=self.database):
            created = [self._tags.get_or_create(name=name)[1] for name in names]
        return sum(created)


class AsgiRequest(_Django):
    """As in Django's ASGI handler: a thread, and a pooled connection, per request."""

    database = "default"
    remark = "autocommit; a thread per request"

    async def request(self, name: str) -> bool:
        async with ThreadSensitiveContext():
            try:
                _, created = await self._tags.aget_or_create(name=name)
            finally:
                await sync_to_async(close_old_connections)()
        return bool(created)


class OneThread(_Django):
    """As in a program of one's own: one thread and connection, call after call."""

    database = "alone"
    remark = "autocommit; one thread, one connection, no pool"

    async def request(self, name: str) -> bool:
        _, created = await self._tags.aget_or_create(name=name)
        return bool(created)


class Atomic(_Django):
    """As Django advises where a transaction is needed: in a synchronous function."""

    database = "alone"
    remark = "a transaction; one thread, one connection, no pool"

    async def request(self, name: str) -> bool:
        return bool(await self.bulk([name]))


@cache
def _model(where: str) -> Any:
    """Set Django up, which works once in a process, and before there are models."""
    user, _, address = where.partition("@")
    host, _, port = address.partition(":")
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": user,
        "HOST": host,
        "PORT": port,
    }
    # Django has prepared statements off; the others prepare at the first use.
    prepared = {"server_side_binding": True, "prepare_threshold": 0}
    pool = {"min_size": POOL, "max_size": POOL}
    settings.configure(
        DATABASES={
            "default": {**database, "OPTIONS": {**prepared, "pool": pool}},
            "alone": {**database, "OPTIONS": prepared, "CONN_MAX_AGE": None},
        }
    )
    django.setup()

    class Tag(models.Model):  # noqa: DJ008 - nobody prints it
        id = models.BigAutoField(primary_key=True)
        name = models.TextField(unique=True)
        uses = models.IntegerField(default=0)

        class Meta:
            app_label = "benchmarks"
            db_table = "benchmark_tag"

    return Tag


def _disconnect(database: str) -> None:
    connection = connections[database]
    connection.close()
    connection.close_pool()
