"""Who changes which versions of a model serve, in Redis: one at a time, from whatever machine.

Keys, after the prefix: `lock:MODEL`, which says who holds it since when, and is gone 60 seconds after its
holder last renewed it. The client library's lock compares the whole value before it renews or releases.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec
from redis.asyncio.lock import Lock
from redis.exceptions import LockError

from stream.adapters.redis_client import FAILURES, Client, keys_for, words_of
from stream.errors import ModelBusy, StateUnavailable

LIVES_S = 60.0
RENEW_S = 10.0
CLEANING_S = 30.0
"""Who cannot renew a lock stops so long before it is gone, in order to put the old version in force again."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock; `token` tells two apart who say the same of themselves."""

    owner: str
    doing: str
    since: datetime
    token: str


class RedisModelLocks:
    """`ModelLocks` in Redis.

    Args:
        key_prefix: begins every key, so that several shops can share a server.
        owner: who asks, for people: a user, a machine and a process.
    """

    def __init__(self, client: Client, key_prefix: str, owner: str) -> None:
        self._client = client
        self._keys = keys_for(client, key_prefix)
        self._owner = owner

    @asynccontextmanager
    async def held(self, model: str, doing: str) -> AsyncIterator[None]:
        """Hold the lock of a model while the block runs; see `stream.ports.ModelLocks`."""
        since = datetime.now(UTC).replace(microsecond=0)
        holder = Holder(self._owner, doing, since, uuid.uuid4().hex)
        key = self._keys.shared(f"lock:{model}")
        lock = self._client.lock(key, timeout=LIVES_S, thread_local=False)
        try:
            if not await lock.acquire(blocking=False, token=msgspec.json.encode(holder)):
                raise ModelBusy(_busy(model, await self._client.get(key)))
        except FAILURES as error:
            raise StateUnavailable(
                f"Redis did not lock the versions of {model}: {words_of(error)}"
            ) from error
        loop = asyncio.get_running_loop()
        renewing = None
        try:
            async with asyncio.timeout(LIVES_S - CLEANING_S) as until:
                renewing = asyncio.ensure_future(_renew(lock, until, loop))
                yield
        except TimeoutError:
            if not until.expired():
                raise
            raise StateUnavailable(
                f"the lock on the versions of {model} could not be renewed in Redis, so this was given up"
            ) from None
        finally:
            if renewing is not None:
                renewing.cancel()
            with suppress(*FAILURES):  # where it is not ours any more, or Redis is away, it goes by itself
                await lock.release()


async def _renew(lock: Lock, until: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
    """Renew a lock again and again, and put off the time by which the work under it has to end."""
    while True:
        await asyncio.sleep(RENEW_S)
        asked_s = loop.time()
        try:
            await lock.reacquire()
        except LockError:
            until.reschedule(asked_s)
            return
        except FAILURES:
            continue  # tried again, until the time is over
        until.reschedule(asked_s + LIVES_S - CLEANING_S)


def _busy(model: str, value: bytes | str | None) -> str:
    if value is None:
        return f"the versions of {model} were being changed by someone who is done just now: try again"
    try:
        holder = msgspec.json.decode(value, type=Holder)
    except msgspec.DecodeError:
        return f"the versions of {model} are being changed by someone else: try again later"
    return (
        f"the versions of {model} are being changed: {holder.doing}, by {holder.owner}, since "
        f"{holder.since:%Y-%m-%d %H:%M:%S} UTC. Wait until that is done; if it was killed, the lock is gone "
        f"{LIVES_S:.0f} s later"
    )
