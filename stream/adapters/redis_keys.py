"""The names of keys, on one Redis and on a cluster.

On one Redis a name is prefix, kind and owner: `sr:u:ann`. A cluster spreads keys by the hash of what stands
in braces, so there a bucket comes between: `sr:{12}:u:ann`. Which bucket is a shopper's or an item's, and
which slot is a bucket's, never changes: both are part of what is stored. Keys of one bucket lie on one
master and are lost together, which is what marks need to tell that they were.
"""

from __future__ import annotations

import zlib
from itertools import count

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

BUCKETS = 32
"""As many masters can share the keys; each batch moves a mark in every bucket, so that more cost more."""


def _numbers() -> tuple[int, ...]:
    """For each bucket the smallest number whose slot lies in its share of all slots.

    So the slots of buckets lie evenly, and masters with equal ranges of slots have equally many.
    """
    found: dict[int, int] = {}
    for number in count():
        slot = key_slot(b"%d" % number)
        found.setdefault(slot * BUCKETS // REDIS_CLUSTER_HASH_SLOTS, number)
        if len(found) == BUCKETS:
            return tuple(found[bucket] for bucket in range(BUCKETS))
    raise AssertionError("numbers do not end")


_TAGS = tuple(f"{{{number}}}:" for number in _numbers())


class Keys:
    """The names of all keys with one prefix.

    `tags` stands between prefix and name: one for each bucket, on one Redis a single "".
    """

    def __init__(self, prefix: str, clustered: bool) -> None:
        self._prefix = prefix
        self.tags = _TAGS if clustered else ("",)

    def tag(self, owner: str) -> str:
        """The bucket of a shopper or an item."""
        return self.tags[zlib.crc32(owner.encode()) % len(self.tags)]

    def of(self, kind: str, owner: str) -> str:
        """The name of a shopper's or an item's key."""
        return f"{self._prefix}{self.tag(owner)}{kind}:{owner}"

    def within(self, tag: str, name: str) -> str:
        """The name of a key that each bucket has one of."""
        return f"{self._prefix}{tag}{name}"

    def shared(self, name: str) -> str:
        """The name of a key that there is one of; all of these are in one bucket."""
        return self.within(self.tags[0], name)
