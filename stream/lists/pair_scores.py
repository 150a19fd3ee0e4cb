"""Scores of pairs from the cross-encoder: remembered, waited for only so long, or made in quiet moments.

A pair costs milliseconds of a core, so none is scored twice: what was asked is asked once, is remembered,
and an answer that came too late for its list is there for the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from stream.core.items import FloatArray
from stream.errors import ModelUnavailable
from stream.ports import CrossEncoder
from stream.telemetry.metrics import Telemetry

Pair = tuple[str, str]
"""A query, or an item's title, and an item's text."""

PAIRS_KEPT = 50_000
PAIRS_A_REQUEST = 5
"""A list's ten go in two requests, so that two instances of the model work on them at once."""
PAIRS_IN_FLIGHT = 256
"""Where so many are asked for already, more would only come too late."""
LATE_S = 1.0
"""How long an answer is waited for, also when its list went without it; the next one may want it."""
QUEUE = 2_000
BACKGROUND_PAIRS = 4
"""Pairs of items in one request: few, so that a search which comes meanwhile waits little."""
BACKGROUND_TIMEOUT_S = 5.0
QUIET_S = 0.02
"""How long no event must have been worked on before pairs of items are scored."""


class PairScores:
    """The last 50,000 scores; those of a list are all of one version of the model.

    Answers of the version before may still come when another one serves already: a list that was asked for
    by the old one is made of the old one, and one that got some of each is asked for anew.

    Args:
        timeout_s: how long a batch of lists waits for scores.
    """

    def __init__(self, cross_encoder: CrossEncoder, timeout_s: float, telemetry: Telemetry) -> None:
        self._cross_encoder = cross_encoder
        self._timeout_s = timeout_s
        self._telemetry = telemetry
        self._scores: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._version = ""
        self._told = False
        self._asked: dict[bytes, asyncio.Task[None]] = {}

    async def get(self, lists: Sequence[Sequence[Pair]]) -> list[tuple[FloatArray, str] | None]:
        """Give each list the scores of its pairs and the version of the model.

        Returns:
            Scores of shape [pairs]; None for a list of which a pair was not scored in time.
        """
        keys = [[_key(pair) for pair in pairs] for pairs in lists]
        wanted = {
            key: pair
            for pairs, of_pairs in zip(lists, keys, strict=True)
            for key, pair in zip(of_pairs, pairs, strict=True)
        }
        missing = self._missing(wanted)
        self._telemetry.count_lookups("pairs", len(wanted), len(missing))
        if missing:
            with self._telemetry.timed("cross_encode"):
                until_s = asyncio.get_running_loop().time() + self._timeout_s
                version = self._version
                await self._ask(missing, until_s)
                if version != self._version and not all(self._of(of_pairs) for of_pairs in keys):
                    await self._ask(self._missing(wanted), until_s)
        return [self._of(of_pairs) for of_pairs in keys]

    def known(self, pairs: Iterable[Pair]) -> FloatArray:
        """Give the scores of pairs as far as they are known, NaN for the others."""
        return np.array([self._scores.get(_key(pair), (np.nan,))[0] for pair in pairs], np.float32)

    def remember(self, pairs: Iterable[Pair], scores: FloatArray, version: str) -> None:
        """Take in scores; those of the version that serves are not replaced by another's."""
        if not self._told:
            self._version = version
        for pair, score in zip(pairs, scores.tolist(), strict=True):
            key = _key(pair)
            if version == self._version or key not in self._scores:
                self._scores[key] = score, version
        while len(self._scores) > PAIRS_KEPT:
            self._scores.popitem(last=False)

    def keep_only(self, version: str) -> None:
        """Be told which version of the model serves, and forget the scores of others."""
        self._version, self._told = version, True
        for key in [key for key, (_, made_by) in self._scores.items() if made_by != version]:
            del self._scores[key]

    def _missing(self, wanted: dict[bytes, Pair]) -> dict[bytes, Pair]:
        """The pairs that the version that serves has not scored."""
        return {
            key: pair
            for key, pair in wanted.items()
            if key not in self._scores or self._scores[key][1] != self._version
        }

    async def _ask(self, missing: dict[bytes, Pair], until_s: float) -> None:
        """Have pairs scored that nobody asked for yet, and wait for all of them, but not for long."""
        room = PAIRS_IN_FLIGHT - len(self._asked)
        new = [key for key in missing if key not in self._asked][: max(0, room)]
        for start in range(0, len(new), PAIRS_A_REQUEST):
            part = {key: missing[key] for key in new[start : start + PAIRS_A_REQUEST]}
            self._asked.update(dict.fromkeys(part, asyncio.ensure_future(self._request(part))))
        asked = {self._asked[key] for key in missing if key in self._asked}
        if asked:
            left_s = max(0.0, until_s - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait(asked, timeout=left_s)
            for request in done:
                request.result()

    async def _request(self, part: dict[bytes, Pair]) -> None:
        try:
            patience_s = max(LATE_S, self._timeout_s)
            scores, version = await self._cross_encoder.score(list(part.values()), patience_s)
        except ModelUnavailable as error:
            self._telemetry.model_failures.labels(error.model, error.reason).inc()
        else:
            self.remember(part.values(), scores, version)
        finally:
            for key in part:
                del self._asked[key]

    def _of(self, keys: Sequence[bytes]) -> tuple[FloatArray, str] | None:
        versions = {self._scores[key][1] if key in self._scores else None for key in keys}
        if None in versions or len(versions) > 1:
            return None
        for key in keys:
            self._scores.move_to_end(key)
        scores = np.array([self._scores[key][0] for key in keys], np.float32)
        return scores, versions.pop() or "" if versions else self._version


class BackgroundPairs:
    """Pairs of items, scored one small request at a time while no event is worked on.

    Args:
        cross_encoder: with a circuit of its own, since it has much more time than a list has.
    """

    def __init__(self, scores: PairScores, cross_encoder: CrossEncoder, telemetry: Telemetry) -> None:
        self._scores = scores
        self._cross_encoder = cross_encoder
        self._telemetry = telemetry
        self._queue: OrderedDict[Pair, None] = OrderedDict()
        self._batches = 0
        self._idle, self._busy = asyncio.Event(), asyncio.Event()
        self._idle.set()

    def add(self, pairs: Iterable[Pair]) -> None:
        """Have pairs scored some time; where too many wait, the oldest are dropped."""
        for pair in pairs:
            self._queue[pair] = None
            self._queue.move_to_end(pair)
        while len(self._queue) > QUEUE:
            self._queue.popitem(last=False)
            self._telemetry.pairs_dropped.inc()
        self._telemetry.pairs_waiting.set(len(self._queue))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no request begin while a batch of events is worked on."""
        self._batches += 1
        self._idle.clear()
        self._busy.set()
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self._busy.clear()
                self._idle.set()

    async def work_off(self) -> None:
        """Score what waits.

        Raises:
            ModelUnavailable: the pairs asked for are left out, the others go on waiting.
        """
        while self._queue:
            await self.quiet()
            count = min(BACKGROUND_PAIRS, len(self._queue))
            pairs = [self._queue.popitem(last=False)[0] for _ in range(count)]
            self._telemetry.pairs_waiting.set(len(self._queue))
            try:
                scores, version = await self._cross_encoder.score(pairs, BACKGROUND_TIMEOUT_S)
            except ModelUnavailable as error:
                self._telemetry.model_failures.labels(error.model, error.reason).inc()
                raise
            self._scores.remember(pairs, scores, version)

    async def quiet(self) -> None:
        """Wait until no batch has been worked on for a moment."""
        while True:
            await self._idle.wait()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._busy.wait()
            except TimeoutError:
                return


def pair(left: str, right: str) -> Pair:
    """Make a pair such that queries which differ only in case and spaces are one."""
    return " ".join(left.lower().split()), right


def _key(pair: Pair) -> bytes:
    """What a score depends on beside the model: both texts, and nothing else."""
    left, right = pair
    return hashlib.blake2b(f"{left}\0{right}".encode(), digest_size=16).digest()
