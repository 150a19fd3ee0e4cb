"""In-memory ports for tests, shipped so that others can test against them too.

Each keeps the promises of its protocol in `stream/ports.py` (`tests/contract/` holds it to them) and can be
told to fail: set `failure` to an exception and every call raises it until it is None again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from stream.core import attribution, codec, signals
from stream.core.attribution import KeptList
from stream.core.events import Attribution, RecommendationList
from stream.core.items import DIMENSIONS, FloatArray, IntArray
from stream.core.list_log import LoggedList
from stream.core.marks import Mark
from stream.core.release import Ledger, to_noise
from stream.core.signals import Increment
from stream.core.state import UserState, empty
from stream.errors import ModelBusy, ModelUnavailable
from stream.ports import DeadLetter, ItemVector, Place, VersionedSignals, WorkerReport


class _Failing:
    failure: Exception | None = None

    def _answer(self) -> None:
        if self.failure is not None:
            raise self.failure


class MemoryStateStore(_Failing):
    """`StateStore` in a dict of encoded states."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def load(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        """Read states."""
        self._answer()
        return {
            user_id: codec.decode(user_id, self.stored[user_id]) if user_id in self.stored else empty(user_id)
            for user_id in user_ids
        }

    async def save(self, states: Sequence[tuple[UserState, int]]) -> list[bool]:
        """Compare and set."""
        self._answer()
        saved = []
        for state, expected in states:
            stored = self.stored.get(state.user_id)
            sequence = int.from_bytes(stored[1:9], "big") if stored else 0
            done = sequence == expected
            if done:
                self.stored[state.user_id] = codec.encode(state)
            saved.append(done)
        return saved


class MemoryMarkStore(_Failing):
    """`MarkStore` in a dict.

    Args:
        version_of: the version that is stored of a shopper or an item, 0 for none; without it, nothing that
            was saved is looked at.
    """

    def __init__(self, version_of: Callable[[str], int] | None = None) -> None:
        self.stored: dict[Place, Mark] = {}
        self._version_of = version_of

    async def read(self, places: Sequence[Place]) -> dict[Place, Mark]:
        """Read marks."""
        self._answer()
        return {place: self.stored[place] for place in places if place in self.stored}

    async def swap(
        self, changes: Mapping[Place, tuple[Mark | None, Mark]], saved: Mapping[str, int] = {}
    ) -> dict[Place, Mark | None]:
        """Compare and set."""
        self._answer()
        version_of = self._version_of
        if version_of is not None and any(version_of(owner) < least for owner, least in saved.items()):
            return dict.fromkeys(changes)
        for place, (before, after) in changes.items():
            if self.stored.get(place) == before:
                self.stored[place] = after
        return {place: self.stored.get(place) for place in changes}


class MemoryKeptLists(_Failing):
    """`KeptLists` in dicts of encoded lists; nothing expires."""

    def __init__(self) -> None:
        self.made: dict[str, list[bytes]] = {}
        self.shown: dict[str, list[bytes]] = {}

    async def recall(self, user_ids: Sequence[str]) -> dict[str, tuple[KeptList, ...]]:
        """Read lists."""
        self._answer()
        return {
            user_id: attribution.merged(
                map(attribution.decode, self.made.get(user_id, ())),
                map(attribution.decode, self.shown.get(user_id, ())),
            )
            for user_id in user_ids
        }

    async def remember(self, lists: Sequence[RecommendationList]) -> None:
        """Keep lists."""
        self._answer()
        for made in lists:
            kept = self.made.setdefault(made.user_id, [])
            kept.insert(0, attribution.encode(attribution.kept_of(made)))
            del kept[attribution.MADE_KEPT :]

    async def mark(self, shown: Mapping[str, Sequence[KeptList]]) -> None:
        """Replace what was shown."""
        self._answer()
        for user_id, lists in shown.items():
            self.shown[user_id] = [attribution.encode(one) for one in lists]

    async def erase(self, user_id: str) -> bool:
        """Forget lists."""
        self._answer()
        removed = (self.made.pop(user_id, None), self.shown.pop(user_id, None))
        return any(lists is not None for lists in removed)


class MemorySignalStore(_Failing):
    """`SignalStore` in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, VersionedSignals] = {}
        self._changed: dict[str, int] = {}
        self._mark = 0

    async def load(self, item_ids: Sequence[str]) -> dict[str, VersionedSignals]:
        """Read rows."""
        self._answer()
        return {item_id: self.rows[item_id] for item_id in item_ids if item_id in self.rows}

    async def save(self, rows: Mapping[str, VersionedSignals]) -> dict[str, bool]:
        """Compare and set."""
        self._answer()
        saved = {}
        for item_id, (row, version) in rows.items():
            stored = self.rows.get(item_id)
            saved[item_id] = (stored.version if stored else 0) == version
            if saved[item_id]:
                self._mark += 1
                self.rows[item_id] = VersionedSignals(row, version + 1)
                self._changed[item_id] = self._mark
        return saved

    async def popularity(self, since: int) -> tuple[dict[str, FloatArray], int]:
        """Give what changed after the mark."""
        self._answer()
        changed = {
            item_id: signals.unpack_popularity(signals.pack_popularity(self.rows[item_id].signals))
            for item_id, mark in self._changed.items()
            if mark > since
        }
        return changed, self._mark


class MemoryReleaseLedger(_Failing):
    """`ReleaseLedger` in an attribute."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.version = 0

    async def read(self) -> tuple[Ledger, int]:
        """Read it."""
        self._answer()
        return self.ledger, self.version

    async def write(self, ledger: Ledger, version: int) -> bool:
        """Compare and set."""
        self._answer()
        if version != self.version:
            return False
        self.ledger, self.version = ledger, version + 1
        return True


class ExactCounts:
    """`Noise` of none: counts above the threshold as they are, for what a test says that it tells."""

    deviation = 0.0

    def __init__(self, epsilon: float = 1.0, delta: float = 1e-6, threshold: int = 0) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.item_threshold = self.pair_threshold = threshold

    def release(self, counts: Mapping[str, int], catalogue: Collection[str]) -> dict[str, int]:
        """Leave out low counts, and items that are not in the catalogue."""
        items, pairs = to_noise(counts, catalogue)
        every = {**dict(zip(catalogue, items, strict=True)), **pairs}
        return {key: count for key, count in every.items() if count > self.pair_threshold}


class HashEncoder(_Failing):
    """`Encoder` that adds up a random direction for each word, so that shared words are near.

    Another version turns all vectors alike: near stays near, and two versions have nothing in common.
    """

    def __init__(self, version: str = "1", *others: str) -> None:
        self.version = version
        self.versions = {version, *others}
        self.calls: list[list[str]] = []

    async def encode(
        self, texts: Sequence[str], timeout_s: float, version: str = ""
    ) -> tuple[FloatArray, str]:
        """Encode texts."""
        self._answer()
        version = version or self.version
        if version not in self.versions:
            raise ModelUnavailable("encoder", "error", f"there is no version {version}")
        self.calls.append(list(texts))
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or [""]:
                seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
                vectors[row] += np.random.default_rng(seed).standard_normal(DIMENSIONS, np.float32)
            vectors[row] /= np.linalg.norm(vectors[row])
        return np.roll(vectors, int(version) - 1, axis=1), version


class FirstFeatureReranker(_Failing):
    """`Reranker` that scores a candidate by its first feature."""

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.calls = 0

    async def score(self, features: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
        """Score a list."""
        self._answer()
        self.calls += 1
        await asyncio.sleep(0)
        return np.nan_to_num(features[:, 0].astype(np.float32)), self.version


class SharedWordsCrossEncoder(_Failing):
    """`CrossEncoder` that gives the share of the left words that the right text has.

    Set `hangs` and no call is answered within its time.
    """

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.hangs = False
        self.calls: list[list[tuple[str, str]]] = []

    async def score(self, pairs: Sequence[tuple[str, str]], timeout_s: float) -> tuple[FloatArray, str]:
        """Score pairs."""
        self._answer()
        self.calls.append(list(pairs))
        await asyncio.sleep(timeout_s if self.hangs else 0)
        if self.hangs:
            raise ModelUnavailable("cross_encoder", "deadline", f"no answer in {timeout_s * 1000:.0f} ms")
        shares = []
        for left, right in pairs:
            asked = set(left.lower().split())
            shares.append(len(asked & set(right.lower().split())) / max(1, len(asked)))
        return np.array(shares, np.float32), self.version


class MemoryWorkerReports(_Failing):
    """`WorkerReports` in a dict; nobody dies."""

    def __init__(self) -> None:
        self._reports: dict[str, WorkerReport] = {}

    async def report(self, report: WorkerReport) -> None:
        """Keep a report."""
        self._answer()
        self._reports[report.worker] = report

    async def living(self) -> list[WorkerReport]:
        """Give all reports."""
        self._answer()
        return [self._reports[worker] for worker in sorted(self._reports)]


class MemoryModelLocks(_Failing):
    """`ModelLocks` in a dict that several of them may share.

    Args:
        held_by: who does what, by model.
    """

    def __init__(self, held_by: dict[str, str] | None = None, owner: str = "somebody") -> None:
        self._held_by = {} if held_by is None else held_by
        self._owner = owner

    @asynccontextmanager
    async def held(self, model: str, doing: str) -> AsyncIterator[None]:
        """Hold a lock."""
        self._answer()
        if model in self._held_by:
            raise ModelBusy(f"the versions of {model} are being changed: {self._held_by[model]}")
        self._held_by[model] = f"{doing}, by {self._owner}"
        try:
            yield
        finally:
            del self._held_by[model]


class MemoryPublisher(_Failing):
    """`Publisher` that keeps what it was given, in order."""

    def __init__(self) -> None:
        self.lists: list[RecommendationList] = []
        self.signals: list[tuple[str, Increment]] = []
        self.attributions: list[Attribution] = []
        self.list_log: list[LoggedList] = []
        self.vectors: list[tuple[str, ItemVector | None]] = []
        self.dead_letters: list[DeadLetter] = []

    async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
        """Keep lists."""
        self._answer()
        self.lists.extend(lists)

    async def publish_signals(self, increments: Mapping[str, Sequence[Increment]]) -> None:
        """Keep increments."""
        self._answer()
        self.signals.extend((item_id, one) for item_id, several in increments.items() for one in several)

    async def publish_attributions(self, told: Sequence[Attribution]) -> None:
        """Keep attributions."""
        self._answer()
        self.attributions.extend(told)

    async def publish_list_log(self, logged: Sequence[LoggedList]) -> None:
        """Keep what lists were ranked by."""
        self._answer()
        self.list_log.extend(logged)

    async def publish_vectors(self, vectors: Sequence[ItemVector], removed: Sequence[str]) -> None:
        """Keep encoded items and removals."""
        self._answer()
        self.vectors.extend((made.item.item_id, made) for made in vectors)
        self.vectors.extend((item_id, None) for item_id in removed)

    async def publish_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        self._answer()
        self.dead_letters.extend(letters)


class ExactIndex:
    """`NearestIndex` that compares with every vector."""

    def __init__(self) -> None:
        self._vectors = np.zeros((64, DIMENSIONS), np.float32)
        self._known = np.zeros(64, np.bool_)
        self._used = 0

    def put(self, slot: int, vector: FloatArray) -> None:
        """Add or replace a vector."""
        while slot >= len(self._known):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
        self._vectors[slot], self._known[slot] = vector, True
        self._used = max(self._used, slot + 1)

    def load(self, slots: IntArray, vectors: FloatArray) -> None:
        """Add vectors."""
        for slot, vector in zip(slots.tolist(), vectors, strict=True):
            self.put(slot, vector)

    def remove(self, slot: int) -> None:
        """Forget a slot."""
        if slot < len(self._known):
            self._known[slot] = False

    def search(self, vectors: FloatArray, limit: int) -> list[tuple[IntArray, FloatArray]]:
        """Compare with all; of equals the lower slot comes first."""
        cosines = np.atleast_2d(vectors) @ self._vectors[: self._used].T
        slots = np.flatnonzero(self._known[: self._used]).astype(np.int32)
        limit = min(limit, len(slots))
        return [self._best(row[slots], slots, limit) for row in cosines] if len(vectors) else []

    @staticmethod
    def _best(cosines: FloatArray, slots: IntArray, limit: int) -> tuple[IntArray, FloatArray]:
        if limit < len(cosines):
            near = np.flatnonzero(cosines >= -np.partition(-cosines, limit)[limit])
            cosines, slots = cosines[near], slots[near]
        best = np.argsort(-cosines, kind="stable")[:limit]
        return slots[best], cosines[best]


class WordIndex:
    """`TextIndex` that counts shared words; what is added counts after `commit`."""

    def __init__(self) -> None:
        self._pending: dict[str, frozenset[str] | None] = {}
        self._words: dict[str, frozenset[str]] = {}

    def add(self, item_id: str, title: str, description: str, brand: str, category: str) -> None:
        """Add or replace an item's words."""
        self._pending[item_id] = frozenset(f"{title} {description} {brand} {category}".lower().split())

    def remove(self, item_id: str) -> None:
        """Forget an item."""
        self._pending[item_id] = None

    def commit(self) -> None:
        """Make changes count."""
        for item_id, words in self._pending.items():
            if words is None:
                self._words.pop(item_id, None)
            else:
                self._words[item_id] = words
        self._pending.clear()

    def search(self, query: str, limit: int) -> list[tuple[str, float]]:
        """Rank by shared words."""
        asked = set(query.lower().split())
        found = [(item_id, float(len(asked & words))) for item_id, words in self._words.items()]
        return sorted((hit for hit in found if hit[1]), key=lambda hit: (-hit[1], hit[0]))[:limit]
