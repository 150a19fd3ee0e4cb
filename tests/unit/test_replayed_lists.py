"""A list of a replay is the one that the worker makes of the same events: items, scores, reasons, chances."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from builders import item_vector, raw_click
from shops import Shop
from small_log import hashed, read_sessions, write_log

from stream.core import signals
from stream.core.events import RecommendationList, RecommendedItem
from stream.core.explain import cause
from stream.core.items import FloatArray
from stream.core.list_log import LoggedList
from stream.core.listing import compose
from stream.core.policy import HOUR_MS, MINUTE_MS
from stream.core.ranking import FEATURES, features
from stream.core.rules.in_force import NO_RULES
from stream.evaluation.next_item import seed_of
from stream.evaluation.replay import POLICY, ListAsked, replay
from stream.evaluation.sessions import Session, texts
from stream.models.loading import load_reranker
from stream.models.repository import DEFAULT
from stream.ports import RawMessage
from stream.signals.item_signals import SignalFolder

SESSIONS, COMPARED = 120, 40
BEGIN_MS = 1_704_067_200_000
STEPS = 12


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    """Sessions that follow one another, so that both ways see the same events in the same order."""
    made = []
    for number, session in enumerate(
        read_sessions(write_log(tmp_path_factory.mktemp("log") / "l.csv", 1_500))
    ):
        start_ms = BEGIN_MS + number * HOUR_MS
        steps = tuple(
            step._replace(at_ms=start_ms + place * MINUTE_MS)
            for place, step in enumerate(session.steps[:STEPS])
        )
        guest = number % 5 == 0
        made.append(Session(f"s{number}", "" if guest else session.user_id, steps))
    return made[:SESSIONS]


class ShippedReranker:
    """The version of the reranker that is in the repository, as Triton would run it."""

    def __init__(self) -> None:
        self.network = load_reranker(DEFAULT / "reranker" / "1")

    async def score(self, rows: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
        return self.network.score(rows), "1"


class LiveShop(Shop):
    """A worker on the fakes with the shipped reranker, its clock being the events'."""

    def __init__(self, vectors: dict[str, FloatArray]) -> None:
        super().__init__(POLICY, stocked=False)
        self.reranker: ShippedReranker = ShippedReranker()  # type: ignore[assignment]
        self.start()
        self._vectors = vectors
        self._offset = 0
        self._folded = 0

    def visited(self, session: Session) -> Iterator[RecommendationList]:
        """Hand the worker each event of a session; give the list that answers it."""
        for step in session.steps:
            self.now_ms = step.at_ms
            message = raw_click(
                session.shopper,
                step.item_id,
                step.event_type,
                offset=self._offset,
                at_ms=step.at_ms,
                session_id=session.session_id,
                quantity=step.quantity,
                price=step.price,
                currency=None if step.price is None else "EUR",
            )
            self._offset += 1
            [made] = self.handle(message)
            yield made

    def end(self, session: Session) -> None:
        """Let the catalogue know the session's items and the signals what it taught."""
        for step in session.steps:
            if step.item_id not in self.catalog.items:
                vector = self._vectors.get(step.text)
                self.put(item_vector(step.item_id, step.text, vector=vector, first_seen_ms=session.minute_ms))
        new = self.publisher.signals[self._folded :]
        self._folded = len(self.publisher.signals)
        messages = [
            RawMessage(raw_click(offset=place).source, key.encode(), value)
            for place, (item_id, increment) in enumerate(new)
            for key, value in signals.encode_increments({item_id: [increment]})
        ]

        async def fold() -> None:
            await SignalFolder(self.signals, self.publisher, self.telemetry).handle(messages)
            await self.learnt.refresh()

        asyncio.run(fold())


def as_a_worker_says_it(asked: ListAsked, scores: FloatArray) -> list[RecommendedItem]:
    """The list of a replay in the words of `recommendations`."""
    context, found = asked.context, asked.candidates
    policy = msgspec.structs.replace(POLICY, list_length=20)
    made = compose(context, found, scores, policy, NO_RULES, seed_of(asked))
    return [
        RecommendedItem(
            context.items.at(int(found.slots[one.position])).item_id,
            rank,
            round(one.score, 6),
            *cause(context, found, one.position)[:2],
            round(one.propensity, 6),
            one.explored,
        )
        for rank, one in enumerate(made.chosen, start=1)
    ]


class Both(NamedTuple):
    """One list as replayed, in the words of `recommendations`, and as the worker published and logged it."""

    recommendation_id: str
    replayed: list[RecommendedItem]
    rows: FloatArray
    served: RecommendationList
    logged: LoggedList


@pytest.fixture(scope="module")
def both(sessions: Sequence[Session]) -> list[Both]:
    """Each list of the last sessions that a replay asks for."""
    vectors = hashed(texts(sessions))
    live = LiveShop(vectors)
    served = {}
    for session in sessions:
        shown: dict[str, None] = {}
        for step, made in zip(session.steps, live.visited(session), strict=True):
            shown[step.item_id] = None
            served[session.session_id, tuple(shown)] = made
        live.end(session)
    logged = {one.recommendation_id: one for one in live.publisher.list_log}
    later = {session.session_id for session in sessions[-COMPARED:]}
    found = []
    for asked in replay(sessions, vectors, lambda session: session.session_id in later):
        made = served[asked.session.session_id, asked.shown]
        rows = features(asked.context, asked.candidates)
        replayed = as_a_worker_says_it(asked, live.reranker.network.score(rows))
        found.append(Both(asked.recommendation_id, replayed, rows, made, logged[made.recommendation_id]))
    return found


def test_a_replayed_list_is_the_one_that_the_worker_makes(both: list[Both]) -> None:
    assert len(both) > 60
    assert not any(one.served.degraded for one in both)
    assert [one.replayed for one in both] == [one.served.items for one in both]
    items = [item for one in both for item in one.served.items]
    assert {item.source for item in items} >= {"covisited", "history", "similar", "trending"}
    assert any(item.explored for item in items)


def test_a_replayed_list_has_the_id_that_the_worker_gives(both: list[Both]) -> None:
    assert [one.recommendation_id for one in both] == [one.served.recommendation_id for one in both]


def test_what_a_replay_learns_from_is_what_the_worker_logs(both: list[Both]) -> None:
    for one in both:
        assert one.logged.features == list(FEATURES)
        np.testing.assert_array_equal(one.logged.table(), one.rows.astype(np.float16))
