"""What the engine needs from the outside, as protocols.

Each has a real adapter in `stream/adapters/` and a fake in `stream/fakes.py`; `tests/contract/` runs one
suite on both. Every method that does I/O may raise a subclass of `stream.errors.Unavailable`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import msgspec

from stream.core.attribution import KeptList
from stream.core.events import Attribution, RecommendationList, Source
from stream.core.items import FloatArray, IntArray, Item
from stream.core.list_log import LoggedList
from stream.core.marks import Mark
from stream.core.release import Ledger
from stream.core.signals import Increment, ItemSignals
from stream.core.state import UserState

Headers = tuple[tuple[str, bytes], ...]
Place = tuple[str, int]
"""A topic and a number of a partition."""


class RawMessage(NamedTuple):
    """A message as it lay in its topic."""

    source: Source
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class DeadLetter(NamedTuple):
    """A message that can never be used, and why."""

    message: RawMessage
    code: str
    reason: str


class ItemVector(NamedTuple):
    """One product with its vector, as it travels on `item-vectors`.

    `vectors` are by the version of the encoder that made them, of shape [384] and L2-normalised: none while
    the encoder is away, two while one version takes over from another. `source` is the message of `items`
    that it came from.
    """

    item: Item
    vectors: Mapping[str, FloatArray]
    source: Source


class VersionedSignals(NamedTuple):
    """An item's signals with the version that a save must find unchanged; 0: not stored yet."""

    signals: ItemSignals
    version: int


class WorkerReport(msgspec.Struct, frozen=True):
    """What one worker tells of the versions it uses.

    `serving` is by model. Of the encoder it is the version whose vectors make this worker's lists, which
    lags behind the record until the other version's are all there; `missing` is how many of its `items`
    each kept version has not encoded, and `at_ms` which record it goes by.
    """

    worker: str
    serving: dict[str, str]
    at_ms: dict[str, int]
    items: int
    missing: dict[str, int]


class WorkerReports(Protocol):
    """What the workers that live tell of themselves."""

    async def report(self, report: WorkerReport) -> None:
        """Leave word; it is forgotten within seconds where it is not renewed."""

    async def living(self) -> list[WorkerReport]:
        """The newest word of every worker that lives, by name."""


class ModelLocks(Protocol):
    """One at a time changes which versions of a model serve; different models do not wait for each other."""

    def held(self, model: str, doing: str) -> AbstractAsyncContextManager[None]:
        """Let nobody else change the versions of a model while the block runs.

        Args:
            doing: what is done, for the others to read.

        Raises:
            ModelBusy: somebody else does it; says who, what and since when.
            StateUnavailable: nothing can be locked now, or, in the block, the lock was lost.
        """


class StateStore(Protocol):
    """Shoppers' states, by user id; the mark of an erasure outlives all else of a shopper who was erased."""

    async def load(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        """Read states in one round trip; a shopper who is not stored has an empty state."""

    async def save(self, states: Sequence[tuple[UserState, int]]) -> list[bool]:
        """Compare and set, in one round trip.

        Args:
            states: each with the sequence that must be stored now (0: none is).

        Returns:
            For each, whether it was saved; of several who expect the same sequence exactly one saves.
        """


class Holes(Protocol):
    """The offsets of partitions that are known to hold no message."""

    def begin(self, place: Place) -> None:
        """Take note of them from now on; what was known is forgotten, since offsets may have begun anew."""

    def behind(self, place: Place, offset: int) -> Sequence[range]:
        """Those that end behind an offset; the others may be forgotten."""


class MarkStore(Protocol):
    """How far what was read of each partition is saved, beside the states, for one consumer group."""

    async def read(self, places: Sequence[Place]) -> dict[Place, Mark]:
        """Read marks in one round trip; partitions without one are left out."""

    async def swap(
        self, changes: Mapping[Place, tuple[Mark | None, Mark]], saved: Mapping[str, int] = {}
    ) -> dict[Place, Mark | None]:
        """Compare and set, in one round trip.

        Args:
            changes: by partition the mark that must be stored now (None: none is), and the new one.
            saved: by shopper or item the version that is stored at least. Looked at in the same moment: where
                one is older or missing, Redis has forgotten it, and no mark is set.

        Returns:
            By partition what is stored afterwards: the new mark where it was set, None where what was saved
            is forgotten.
        """


class KeptLists(Protocol):
    """The lists of each shopper that what they do next may be joined to."""

    async def recall(self, user_ids: Sequence[str]) -> dict[str, tuple[KeptList, ...]]:
        """Read the kept lists of shoppers, each once, in one round trip; of some there are none."""

    async def remember(self, lists: Sequence[RecommendationList]) -> None:
        """Keep lists that were just made: of each shopper the newest few, until they expire."""

    async def mark(self, shown: Mapping[str, Sequence[KeptList]]) -> None:
        """Replace the lists of shoppers that are known to have been shown."""

    async def erase(self, user_id: str) -> bool:
        """Forget a shopper's lists; False where there were none."""


class SignalStore(Protocol):
    """What is learnt about items, by item id."""

    async def load(self, item_ids: Sequence[str]) -> dict[str, VersionedSignals]:
        """Read signals in one round trip; items without any are left out."""

    async def save(self, rows: Mapping[str, VersionedSignals]) -> dict[str, bool]:
        """Compare and set on the version.

        Args:
            rows: new signals by item id, each with the version that must be stored now.

        Returns:
            By item id, whether it was saved.
        """

    async def popularity(self, since: int) -> tuple[dict[str, FloatArray], int]:
        """Follow how popular items are.

        Args:
            since: 0, or the mark that the call before returned.

        Returns:
            What changed since: popularity [half-lives], log2, by item id; and the next mark.
        """


class Noise(Protocol):
    """What makes counts of shoppers differentially private.

    `epsilon` and `delta` are what one `release` may tell of a shopper whose absence lowers some counts by 1;
    `deviation` is the noise's standard deviation. Counts of items and of pairs that are not above
    `item_threshold` and `pair_threshold` with it are left out: the one to keep out what is mostly noise, the
    other because already that there is a pair may tell of a shopper.
    """

    epsilon: float
    delta: float
    deviation: float
    item_threshold: int
    pair_threshold: int

    def release(self, counts: Mapping[str, int], catalogue: Collection[str]) -> dict[str, int]:
        """Add noise to counts and leave out low ones; every call costs its epsilon and delta anew.

        Args:
            counts: see `stream.core.release.Counts.bounded`.
            catalogue: all items that may be told of, each once, those that nobody touched as well. Nothing
                that shoppers do may decide it.
        """


class ReleaseLedger(Protocol):
    """What was released, and what that cost."""

    async def read(self) -> tuple[Ledger, int]:
        """Read the ledger and its version; 0 where there is none yet."""

    async def write(self, ledger: Ledger, version: int) -> bool:
        """Replace the ledger where its version is still the one that was read; say whether it was."""


class Encoder(Protocol):
    """Texts to vectors."""

    async def encode(
        self, texts: Sequence[str], timeout_s: float, version: str = ""
    ) -> tuple[FloatArray, str]:
        """Encode texts.

        Args:
            version: of the model; "" for the one that it would choose itself.

        Returns:
            Vectors of shape [len(texts), 384], L2-normalised, and the version of the model.

        Raises:
            ModelUnavailable: no answer within `timeout_s`, or an error.
        """


class Reranker(Protocol):
    """Feature rows of candidates to scores."""

    async def score(self, features: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
        """Score candidates, of one list or of several one after the other.

        A score depends on its own row and on nothing else: what a candidate is beside the others of its list
        is in its features.

        Args:
            features: shape [candidates, features].
            timeout_s: the deadline; a later answer is not waited for.

        Returns:
            Scores of shape [candidates], higher is better, and the version of the model.

        Raises:
            ModelUnavailable: no answer in time, or an error.
        """


class CrossEncoder(Protocol):
    """Pairs of texts to how well the right one answers the left one."""

    async def score(self, pairs: Sequence[tuple[str, str]], timeout_s: float) -> tuple[FloatArray, str]:
        """Score pairs of a query, or an item's title, and an item's text.

        Returns:
            Scores of shape [len(pairs)], 0 (nothing to do with it) to 1, and the version of the model.

        Raises:
            ModelUnavailable: no answer within `timeout_s`, or an error.
        """


class Publisher(Protocol):
    """What is written to topics. A method returns when the broker has acknowledged all it was given."""

    async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
        """Publish lists to `recommendations`, keyed by user."""

    async def publish_signals(self, increments: Mapping[str, Sequence[Increment]]) -> None:
        """Publish increments to `item-signals`, each in the partition that its item's id gives."""

    async def publish_attributions(self, told: Sequence[Attribution]) -> None:
        """Publish what came of lists to `attributions`, keyed by user."""

    async def publish_list_log(self, logged: Sequence[LoggedList]) -> None:
        """Publish what lists were ranked by to `list-log`, keyed by user."""

    async def publish_vectors(self, vectors: Sequence[ItemVector], removed: Sequence[str]) -> None:
        """Publish encoded items, and removals, to `item-vectors`, keyed by item."""

    async def publish_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Publish to `dead-letters`: the original key and bytes, the reason in the headers."""


class NearestIndex(Protocol):
    """The slots whose vectors are nearest by cosine. Local and synchronous."""

    def put(self, slot: int, vector: FloatArray) -> None:
        """Add or replace the vector [384] of a slot."""

    def load(self, slots: IntArray, vectors: FloatArray) -> None:
        """Add the vectors [n, 384] of slots [n] that are not there yet, in any thread but one at a time."""

    def remove(self, slot: int) -> None:
        """Forget a slot; nothing happens where it is unknown."""

    def search(self, vectors: FloatArray, limit: int) -> list[tuple[IntArray, FloatArray]]:
        """For each row of `vectors` [n, 384]: up to `limit` slots and about their cosines, nearest first."""


class TextIndex(Protocol):
    """The items that match a query's words. Local and synchronous."""

    def add(self, item_id: str, title: str, description: str, brand: str, category: str) -> None:
        """Add or replace an item's text; found after the next `commit`."""

    def remove(self, item_id: str) -> None:
        """Forget an item; nothing happens where it is unknown."""

    def commit(self) -> None:
        """Make what was added and removed count."""

    def search(self, query: str, limit: int) -> list[tuple[str, float]]:
        """Up to `limit` item ids with their BM25 scores, best first."""
