"""The bounds of docs/limits.md that no other test reaches."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from builders import NOW_MS, click, direction, item_vector, raw_click, raw_item, raw_removal, search, source
from shops import Shop

from stream.adapters.kafka_follower import TopicFollower
from stream.adapters.kafka_sender import MAX_IN_FLIGHT, Sender
from stream.adapters.lexical_index import MAX_DESCRIPTION_CHARS, MAX_QUERY_WORDS, LexicalIndex
from stream.agents import BatchAgent
from stream.catalog import product_fit
from stream.catalog.product_fit import FitReader
from stream.catalog.view import CatalogView
from stream.catalog.writer import CatalogWriter
from stream.config import Config
from stream.core import codec, items
from stream.core.events import MAX_ITEMS_PER_EVENT, decode_click, decode_item, decode_search
from stream.core.items import Item, ItemTable
from stream.core.policy import DEFAULT_POLICY
from stream.core.rules.reading import MAX_RULES, read_json
from stream.core.signals import REACH, encode_increments
from stream.core.state import UserState, apply, empty
from stream.errors import InvalidMessage, InvalidRule, ModelUnavailable, StateUnavailable
from stream.fakes import ExactIndex, HashEncoder, MemoryPublisher, MemorySignalStore, WordIndex
from stream.lists import list_log, query_vectors
from stream.lists.query_vectors import QueryVectors
from stream.ports import RawMessage
from stream.signals import item_signals, learnt
from stream.signals.learnt import LearntItems
from stream.telemetry.metrics import Telemetry


def _turns(count: int = 300) -> Any:
    """Let everything that can go on go on."""

    async def turn() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    return turn()


def test_an_agent_takes_no_more_than_two_batches_ahead_of_the_one_it_works_on() -> None:
    taken: list[int] = []
    gate = asyncio.Event()

    class Flood:
        enable_acks = True

        async def events(self) -> Any:
            for offset in range(1_000_000):
                taken.append(offset)
                lies = {"topic": "clicks", "partition": 0, "offset": offset, "timestamp": 1.0}
                value = raw_click(offset=offset).value
                yield SimpleNamespace(message=SimpleNamespace(**lies, key=b"ann", value=value, headers=[]))

    async def handle(_: Sequence[RawMessage]) -> None:
        await gate.wait()

    async def scenario() -> None:
        agent = BatchAgent("events", handle, MemoryPublisher(), Telemetry(), 8)
        consuming = asyncio.ensure_future(agent._consume(Flood()))  # type: ignore[arg-type]
        await _turns()
        consuming.cancel()

    asyncio.run(scenario())
    assert len(taken) == 8 + 2 * 8 + 1  # in work, in the queue, and the one that waits for room


def test_only_so_many_vectors_of_queries_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_vectors, "QUERIES_KEPT", 3)
    encoder = HashEncoder()
    vectors = QueryVectors(encoder, 1.0, Telemetry())
    for query in ("a", "b", "c", "a", "d", "a", "b"):
        asyncio.run(vectors.get([query], "1"))
    assert encoder.calls == [["a"], ["b"], ["c"], ["d"], ["b"]]
    assert len(vectors._vectors) == 3


def test_only_so_many_rows_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnt, "ROWS_KEPT", 3)
    known = LearntItems(MemorySignalStore(), ItemTable(4), lambda: 0.0, 1, Telemetry())
    for number in range(10):
        asyncio.run(known.rows([f"item-{number}"]))
    assert list(known._rows) == ["item-7", "item-8", "item-9"]


def test_popularity_of_the_newest_unknown_items_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learnt, "UNKNOWN_KEPT", 5)
    shop = Shop()
    first = next(iter(shop.catalog.items)).item_id
    shop.handle(raw_click("ann", first, offset=0))
    for number in range(40):
        shop.handle(raw_click(f"user-{number}", f"forged-{number}", offset=number + 1))
        shop.learn()
        shop.publisher.signals.clear()
    known = shop.learnt._known
    assert len(known) <= len(shop.catalog.items) + 2 * 5
    assert "forged-39" in known
    assert "forged-0" not in known
    assert first in known


def test_only_so_many_lists_wait_to_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_log, "WAITING", 2)
    shop = Shop()
    shop.publisher.failure = StateUnavailable("away")
    for offset in range(5):
        with pytest.raises(StateUnavailable):
            shop.handle(raw_click(f"user-{offset}", offset=offset))
        shop.now_ms += 1
    assert len(shop.worker._list_log._waiting) == 2


class _Refusing(HashEncoder):
    async def encode(self, texts: Sequence[str], timeout_s: float, version: str = "") -> Any:
        raise ModelUnavailable("encoder", "refused", "never")


def _writer(encoder: HashEncoder) -> tuple[CatalogWriter, CatalogView, MemoryPublisher]:
    publisher, telemetry = MemoryPublisher(), Telemetry()
    view = CatalogView(ExactIndex, WordIndex(), telemetry)
    return CatalogWriter(view, encoder, publisher, telemetry, lambda _: True), view, publisher


def test_what_words_match_is_remembered_of_so_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.catalog.view.MATCHING_KEPT", 2)
    view = CatalogView(ExactIndex, WordIndex(), Telemetry())
    view.apply([("mug", item_vector("mug", title="red mug"))])
    for query in ("mug", "red", "mug", "blue"):
        view.matching(query, 5)
    assert list(view._matching) == [("mug", 5), ("blue", 5)]


def test_what_is_near_is_remembered_of_so_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.catalog.view.MATCHING_KEPT", 2)
    view = CatalogView(ExactIndex, WordIndex(), Telemetry())
    for query in (1, 2, 1, 3):
        view.near_query(view.space, direction(query), 5)
    assert list(view._near) == [(direction(query).tobytes(), 5) for query in (1, 3)]


def test_only_so_many_refused_texts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.catalog.writer.REFUSED_KEPT", 3)
    writer, _, _ = _writer(_Refusing())
    asyncio.run(writer.handle([raw_item(f"item-{number}", offset=number) for number in range(10)]))
    assert [item_id for _, item_id in writer._refused] == ["item-7", "item-8", "item-9"]


def test_only_so_many_products_that_cannot_be_judged_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_fit, "REFUSED_KEPT", 3)

    class Refusing:
        async def score(self, pairs: Any, timeout_s: float) -> Any:
            raise ModelUnavailable("cross_encoder", "refused", "never")

    writer, view, publisher = _writer(HashEncoder())
    messages = [raw_item(f"item-{n}", offset=n, category=["home"]) for n in range(10)]
    asyncio.run(writer.handle(messages))
    view.apply(publisher.vectors)

    async def at_once(*_: object) -> None: ...

    reader = FitReader(
        view, writer, Refusing(), lambda: "", lambda _: True, at_once, DEFAULT_POLICY, Telemetry(), at_once
    )
    asyncio.run(reader.work_off())
    assert len(reader._refused) == 3


def test_only_so_many_removals_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.catalog.writer.REMOVALS_KEPT", 3)
    writer, view, publisher = _writer(_Refusing())
    for number in range(10):
        asyncio.run(writer.handle([raw_item(f"item-{number}", offset=2 * number)]))
        view.apply(publisher.vectors[2 * number :])
        asyncio.run(writer.handle([raw_removal(f"item-{number}", offset=2 * number + 1)]))
        view.apply(publisher.vectors[2 * number + 1 :])
    asyncio.run(writer.heal())
    assert list(writer._unfollowed) == ["item-7", "item-8", "item-9"]


def test_only_so_many_categories_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "MAX_CATEGORIES", 3)
    table = ItemTable(8)
    slots = [table.put(Item(f"item-{n}", "x", category=f"category {n}")) for n in range(6)]
    assert [int(table.category[slot]) for slot in slots] == [1, 2, 0, 0, 0, 0]
    assert len(table.category_names) == 3


def test_only_the_beginning_of_a_description_and_of_a_query_is_searched() -> None:
    index = LexicalIndex()
    index.add("mug", "mug", "x" * (MAX_DESCRIPTION_CHARS - 4) + " red xylophone", "", "")
    index.commit()
    assert index.search("red", 10)
    assert not index.search("xylophone", 10)
    padding = [f"w{number}" for number in range(MAX_QUERY_WORDS)]
    assert not index.search(" ".join([*padding, "mug"]), 10)
    assert index.search(" ".join(["mug", *padding]), 10)


def test_an_event_of_the_most_lines_leads_to_a_bounded_number_of_increments() -> None:
    lines = [{"item_id": f"item-{number}"} for number in range(MAX_ITEMS_PER_EVENT)]
    shop = Shop()
    for offset in range(3):
        shop.handle(
            raw_click(item_id=None, items=lines, kind="purchase", offset=offset, session_id=f"s{offset}")
        )
    assert len(shop.publisher.signals) <= 3 * (MAX_ITEMS_PER_EVENT + REACH)
    assert max(len(one.backward) for _, one in shop.publisher.signals) == REACH


def test_a_full_state_of_the_longest_ids_and_queries_is_bounded() -> None:
    policy = DEFAULT_POLICY
    state = empty("u" * 256)
    for number in range(policy.owned_kept + policy.interactions_kept):
        item = f"{number:04}" + "\U0001f600" * 252
        state = apply(state, click("ann", item, "purchase", offset=number, at_ms=NOW_MS + number), policy)
        query = f"{number} " + "\U0001f600" * 990
        state = apply(state, search("ann", query, offset=number, at_ms=NOW_MS + number), policy)
    assert (len(state.interactions), len(state.searches), len(state.owned)) == (150, 5, 300)
    assert len(codec.encode(state)) < 400_000
    assert codec.decode(state.user_id, codec.encode(state)) == state


def test_a_state_that_would_inflate_beyond_its_bound_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", 100_000)
    bomb = bytes([codec.VERSION]) + bytes(8) + zlib.compress(bytes(10_000_000), 9, wbits=-15)
    with pytest.raises(codec.UnreadableState, match="more than 100000 bytes"):
        codec.decode("ann", bomb)
    cut = codec.encode(UserState("ann", 3))[:-1]
    with pytest.raises(codec.UnreadableState):
        codec.decode("ann", cut)


def test_a_row_that_others_change_for_ever_makes_the_batch_wait() -> None:
    class Contested(MemorySignalStore):
        saves = 0

        async def save(self, rows: Any) -> dict[str, bool]:
            self.saves += 1
            return dict.fromkeys(rows, False)

    store = Contested()
    folder = item_signals.SignalFolder(store, MemoryPublisher(), Telemetry())
    [(_, one)] = encode_increments({"mug": [item_signals.Increment("clicks/0", 1, NOW_MS, 1.0)]})
    message = RawMessage(source(0, "item-signals"), b"mug", one)
    with pytest.raises(StateUnavailable):
        asyncio.run(folder.handle([message]))
    assert store.saves == item_signals.CONFLICT_ROUNDS


def test_a_sender_has_only_so_many_messages_unacknowledged() -> None:
    class Broker:
        sent = 0

        async def send(self, *_: object, **__: object) -> asyncio.Future[object]:
            self.sent += 1
            return asyncio.get_running_loop().create_future()

    async def scenario() -> int:
        broker = Broker()
        sender = Sender(broker, Config().topics)  # type: ignore[arg-type]

        async def flood() -> None:
            while True:
                await sender.send_raw("clicks", b"ann", b"{}")

        flooding = asyncio.ensure_future(flood())
        await _turns(3 * MAX_IN_FLIGHT)
        flooding.cancel()
        return broker.sent

    assert asyncio.run(scenario()) == MAX_IN_FLIGHT + 1


@pytest.mark.parametrize("poison", [{0}, {7}, {2, 3}, set(range(8))])
def test_a_follower_skips_what_fails_and_applies_the_rest(poison: set[int]) -> None:
    applied: dict[int, None] = {}

    def apply_(changes: Any) -> None:
        for key, _ in changes:
            number = int(key)
            if number in poison:
                raise ValueError("boom")
            applied[number] = None

    skipped: list[str] = []
    follower = TopicFollower(Config().kafka, "item-vectors", apply_, skipped.append)
    follower._take([(str(number).encode(), b"") for number in range(8)])
    assert sorted(applied) == sorted(set(range(8)) - poison)
    assert skipped == ["item-vectors"] * len(poison)


def test_a_list_that_cannot_be_put_right_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    users = ("ann", "bob", "eve")
    for offset, user in enumerate(users):
        shop.handle(raw_click(user, "mug", offset=offset))
    shown = {item.item_id for made in shop.publisher.lists for item in made.items}
    gone = next(iter(shown))
    sound = shop.republisher._without

    def without(made: Any, state: UserState) -> Any:
        if state.user_id == "bob":
            raise ValueError("boom")
        return sound(made, state)

    monkeypatch.setattr(shop.republisher, "_without", without)
    shop.remove(gone)
    corrected = []
    for _ in range(4):  # as the worker calls it again and again
        try:
            corrected += [made.user_id for made in shop.put_right()]
        except ValueError:
            corrected += [made.user_id for made in shop.publisher.lists[len(users) + len(corrected) :]]
    assert sorted(corrected) == ["ann", "eve"]
    assert not shop.shown.stale.is_set()


CLICK = {"event_id": "e", "event_type": "view_item", "event_time": NOW_MS, "user_id": "ann", "item_id": "mug"}
SEARCH = {"event_id": "e", "event_time": NOW_MS, "user_id": "ann", "search_query": "mug"}
ITEM = {"item_id": "mug", "title": "Mug"}


@pytest.mark.parametrize(
    ("kind", "field", "most", "make"),
    [
        *((CLICK, field, 256, "x".__mul__) for field in ("event_id", "item_id", "session_id", "placement")),
        *(
            (CLICK, field, most, "x".__mul__)
            for field, most in (("recommendation_id", 256), ("currency", 16))
        ),
        (CLICK, "items", 500, lambda count: [{"item_id": f"i{n}"} for n in range(count)]),
        *((SEARCH, field, 256, "x".__mul__) for field in ("event_id", "session_id", "placement")),
        (SEARCH, "search_query", 1_000, "x".__mul__),
        (SEARCH, "result_item_ids", 1_000, lambda count: ["x"] * count),
        *((ITEM, field, 2_000, "x".__mul__) for field in ("title",)),
        (ITEM, "description", 200_000, "x".__mul__),
        (ITEM, "category", 32, lambda count: ["x"] * count),
        (ITEM, "category", 500, lambda count: ["x" * count]),
        *((ITEM, field, most, "x".__mul__) for field, most in (("brand", 500), ("currency", 16))),
    ],
)
def test_the_longest_that_a_field_may_hold_is_taken_and_one_more_is_refused(
    kind: dict[str, Any], field: str, most: int, make: Callable[[int], Any]
) -> None:
    def read(count: int) -> None:
        value = json.dumps(kind | {field: make(count)}).encode()
        if kind is ITEM:
            decode_item(b"mug", value)
        else:
            (decode_click if kind is CLICK else decode_search)(source(), b"ann", value)

    read(most)
    with pytest.raises(InvalidMessage) as error:
        read(most + 1)
    assert error.value.code == "invalid_field"
    assert error.value.message.startswith(field)


def test_a_shop_has_only_so_many_rules() -> None:
    def rule(number: int) -> dict[str, Any]:
        return {"id": f"rule-{number}", "kind": "exclude", "where": {"item_ids": [f"item-{number}"]}}

    several = [rule(number) for number in range(MAX_RULES + 1)]
    assert len(read_json(json.dumps(several[:-1]).encode(), "here")) == MAX_RULES
    with pytest.raises(InvalidRule, match="1001 rules, at most 1000 are taken"):
        read_json(json.dumps(several).encode(), "here")
    shop = Shop()
    shop.rules.apply([(one["id"].encode(), json.dumps(one).encode()) for one in several])
    assert len(shop.rules.book.rules) == MAX_RULES
    assert shop.telemetry.rules_skipped._value.get() == 1
