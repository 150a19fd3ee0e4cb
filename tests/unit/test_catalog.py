"""The catalogue: what is encoded when, what is published, and what a view makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders import NOW_MS, direction, item_vector, minutes, raw_item, raw_removal, source

from stream.catalog.view import CatalogView
from stream.catalog.writer import CatalogWriter
from stream.core.items import FloatArray
from stream.core.policy import DAY_MS
from stream.core.versions import Serving
from stream.errors import ModelUnavailable, PublishUnavailable
from stream.fakes import ExactIndex, HashEncoder, MemoryPublisher, WordIndex
from stream.ports import ItemVector, RawMessage
from stream.telemetry.metrics import Telemetry

AWAY = ModelUnavailable("encoder", "unreachable", "nobody there")


class Picky(HashEncoder):
    """An encoder that refuses texts with a certain word."""

    reason = "refused"

    async def encode(
        self, texts: Sequence[str], timeout_s: float, version: str = ""
    ) -> tuple[FloatArray, str]:
        if any("unspeakable" in text for text in texts):
            self.calls.append(list(texts))
            raise ModelUnavailable("encoder", self.reason, "no such token")
        return await super().encode(texts, timeout_s, version)


class Catalogue:
    """A writer and a view, and the topic between them; the view follows when it is told to."""

    def __init__(self, encoder: HashEncoder | None = None) -> None:
        self.encoder = encoder or HashEncoder()
        self.publisher = MemoryPublisher()
        self.telemetry = Telemetry()
        self.view = CatalogView(ExactIndex, WordIndex(), self.telemetry)
        self.owned = True
        self._followed = 0
        self.start()

    def start(self) -> None:
        self.writer = CatalogWriter(
            self.view, self.encoder, self.publisher, self.telemetry, lambda _: self.owned
        )

    def handle(self, *messages: RawMessage, follow: bool = True) -> None:
        asyncio.run(self.writer.handle(messages))
        if follow:
            self.follow()

    def heal(self, follow: bool = True) -> int:
        healed = asyncio.run(self.writer.heal())
        if follow:
            self.follow()
        return healed

    def follow(self, count: int | None = None) -> None:
        """Apply what was published since, or the next `count` records of it."""
        end = len(self.publisher.vectors) if count is None else self._followed + count
        self.view.apply(self.publisher.vectors[self._followed : end])
        self._followed = end

    def last(self, item_id: str) -> ItemVector | None:
        """The newest record of an item on the topic."""
        return [made for name, made in self.publisher.vectors if name == item_id][-1]

    def has_vector(self, item_id: str) -> bool:
        return self.view.has_vector(item_id)


def test_an_item_is_encoded_published_and_found() -> None:
    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug", description="for tea", category=["home", "cups"], price=2.5))
    item = shop.view.items.get("mug")
    assert item is not None
    assert (item.title, item.category, item.price, item.available) == ("red mug", "home > cups", 2.5, True)
    assert shop.encoder.calls == [["red mug for tea"]]
    slot = shop.view.items.slot("mug")
    assert shop.view.matching("red", 5).slots.tolist() == [slot]
    vectors, _ = asyncio.run(shop.encoder.encode(["red mug for tea"], 1.0))
    [(slots, cosines)] = shop.view.space.search(vectors, 1)
    assert slots.tolist() == [slot]
    assert cosines[0] == pytest.approx(1.0, abs=1e-5)
    assert shop.view.space.version == "1"


def test_an_unchanged_text_is_not_encoded_again() -> None:
    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug", offset=0, price=1.0))
    shop.handle(raw_item("mug", "red mug", offset=1, price=2.0, available=False))
    assert shop.encoder.calls == [["red mug"]]
    item = shop.view.items.get("mug")
    assert item is not None
    assert (item.price, item.available) == (2.0, False)
    assert shop.has_vector("mug")


def test_a_changed_text_is_encoded_again() -> None:
    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug", offset=0))
    shop.handle(raw_item("mug", "blue cup", offset=1))
    assert shop.encoder.calls == [["red mug"], ["blue cup"]]
    assert shop.view.matching("red", 5).slots.tolist() == []
    assert shop.view.matching("blue", 5).slots.tolist() == [shop.view.items.slot("mug")]


def test_of_several_messages_about_an_item_in_one_batch_the_last_one_counts() -> None:
    shop = Catalogue()
    shop.handle(
        raw_item("mug", "red mug", offset=0),
        raw_removal("cup", offset=1),
        raw_removal("mug", offset=2),
        raw_item("mug", "blue mug", offset=3),
        raw_item("cup", "a cup", offset=4),
        raw_removal("cup", offset=5),
    )
    assert sorted((name, made and made.item.title) for name, made in shop.publisher.vectors) == [
        ("cup", None),
        ("mug", "blue mug"),
    ]
    assert "cup" not in shop.view.items


def test_a_bad_message_after_a_good_one_does_not_take_its_place() -> None:
    shop = Catalogue()
    shop.handle(
        raw_item("mug", "red mug", offset=0),
        raw_item("mug", "red mug", offset=1, price=-1),
        RawMessage(source(2, "items"), b"mug", b"no json"),
    )
    assert "mug" in shop.view.items
    assert [(letter.code, letter.message.source.offset) for letter in shop.publisher.dead_letters] == [
        ("invalid_field", 1),
        ("not_json", 2),
    ]


def test_a_removed_item_is_nowhere_any_more() -> None:
    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug", offset=0))
    shop.handle(raw_removal("mug", offset=1))
    assert "mug" not in shop.view.items
    assert shop.view.matching("red", 5).slots.tolist() == []
    assert len(shop.view.space.search(direction(1)[None], 5)[0][0]) == 0
    assert shop.last("mug") is None


def test_what_is_withdrawn_or_only_changes_its_price_does_not_wait_for_the_encoder() -> None:
    published: list[list[str]] = []

    class Slow(HashEncoder):
        async def encode(
            self, texts: Sequence[str], timeout_s: float, version: str = ""
        ) -> tuple[FloatArray, str]:
            published.append([item_id for item_id, _ in shop.publisher.vectors[already:]])
            return await super().encode(texts, timeout_s, version)

    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug"), raw_item("cup", "blue cup"), raw_item("jar", "jar"))
    already = len(shop.publisher.vectors)
    shop.encoder = Slow()
    shop.start()
    shop.handle(
        raw_item("pan", "a new pan", offset=3),
        raw_item("mug", "red mug, sold out", available=False, offset=4),
        raw_item("cup", "blue cup", price=3.0, offset=5),
        raw_removal("jar", offset=6),
    )
    assert published == [["mug", "cup", "jar"]]
    assert [item_id for item_id, _ in shop.publisher.vectors[already:]] == ["mug", "cup", "jar", "pan"]
    assert asyncio.run(shop.writer.heal()) == 1  # the withdrawn one gets its vector later
    shop.follow()
    assert shop.view.has_vector("mug")


def test_an_item_may_come_back_after_its_removal() -> None:
    shop = Catalogue()
    for offset, message in enumerate([raw_item("mug"), raw_removal("mug"), raw_item("mug")]):
        shop.handle(message._replace(source=source(offset, "items")))
    assert shop.has_vector("mug")


def test_while_the_encoder_is_away_facts_are_in_force_at_once_and_vectors_follow() -> None:
    shop = Catalogue()
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug", "red mug", price=3.0))
    item = shop.view.items.get("mug")
    assert item is not None
    assert item.price == 3.0
    assert not shop.has_vector("mug")
    assert shop.view.matching("red", 5).slots.tolist() == [shop.view.items.slot("mug")]
    assert shop.heal() == 0
    shop.encoder.failure = None
    assert shop.heal() == 1
    assert shop.has_vector("mug")
    assert shop.heal() == 0


def test_an_item_keeps_its_vector_where_only_its_price_changes_while_the_encoder_is_away() -> None:
    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug", offset=0, price=1.0))
    shop.start()  # a worker that has not heard of the encoder's version yet
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug", "red mug", offset=1, price=2.0))
    made = shop.last("mug")
    assert made is not None
    assert (made.item.price, made.vectors.keys()) == (2.0, {"1"})
    assert shop.has_vector("mug")


def test_a_new_item_gets_a_vector_of_the_version_that_serves_and_not_of_a_newer_one() -> None:
    shop = Catalogue(HashEncoder("1", "2"))
    shop.handle(raw_item("mug", "red mug", offset=0))
    shop.encoder.version = "2"
    shop.handle(raw_item("mug", "red mug", offset=1, price=2.0), raw_item("cup", "blue cup", offset=2))
    made, new = shop.last("mug"), shop.last("cup")
    assert made is not None
    assert new is not None
    assert made.vectors.keys() == new.vectors.keys() == {"1"}


def test_a_published_vector_does_not_change_with_the_table_it_came_from() -> None:
    shop = Catalogue()
    shop.handle(raw_item("mug", "red mug", offset=0))
    shop.handle(raw_item("mug", "red mug", offset=1, price=2.0))
    made = shop.last("mug")
    assert made is not None
    before = made.vectors["1"].copy()
    shop.handle(raw_removal("mug", offset=2), raw_item("cup", "blue cup", offset=3))
    np.testing.assert_array_equal(made.vectors["1"], before)


def test_healing_never_publishes_older_facts_over_newer_ones() -> None:
    shop = Catalogue()
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug", "red mug", offset=0, price=1.0))
    shop.encoder.failure = None
    shop.handle(raw_item("mug", "red mug", offset=1, price=2.0), follow=False)
    assert shop.heal(follow=False) == 0  # the view still shows the first price
    shop.follow()
    item = shop.view.items.get("mug")
    assert item is not None
    assert item.price == 2.0


def test_healing_never_brings_back_a_removed_item() -> None:
    shop = Catalogue()
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug", "red mug", offset=0))
    shop.encoder.failure = None
    shop.handle(raw_removal("mug", offset=1), follow=False)
    assert shop.heal() == 0
    assert "mug" not in shop.view.items


def test_healing_waits_for_a_removal_that_the_view_has_not_come_to() -> None:
    shop = Catalogue()
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug", "red mug", offset=0), follow=False)
    shop.handle(raw_removal("mug", offset=1), follow=False)
    shop.encoder.failure = None
    assert shop.heal(follow=False) == 0  # the view shows neither
    shop.follow(1)
    assert "mug" in shop.view.items
    assert shop.heal(follow=False) == 0  # it shows the item and not its removal
    shop.follow()
    assert "mug" not in shop.view.items
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug", "red mug", offset=2))
    shop.encoder.failure = None
    assert shop.heal() == 1  # it came again, and is healed as any other


def test_only_the_owner_of_an_item_heals_it() -> None:
    shop = Catalogue()
    shop.encoder.failure = AWAY
    shop.handle(raw_item("mug"))
    shop.encoder.failure = None
    shop.owned = False
    assert shop.heal() == 0
    shop.owned = True
    assert shop.heal() == 1


def test_a_long_outage_is_healed_in_batches() -> None:
    shop = Catalogue()
    shop.encoder.failure = AWAY
    shop.handle(*(raw_item(f"item-{n}", offset=n) for n in range(150)))
    shop.encoder.failure = None
    assert [shop.heal() for _ in range(4)] == [64, 64, 22, 0]


def test_a_text_that_the_encoder_refuses_does_not_keep_the_others_out() -> None:
    shop = Catalogue(Picky())
    shop.handle(
        raw_item("mug", "red mug", offset=0),
        raw_item("bad", "unspeakable", offset=1),
        raw_item("cup", "blue cup", offset=2),
    )
    assert shop.has_vector("mug")
    assert shop.has_vector("cup")
    assert "bad" in shop.view.items
    assert not shop.has_vector("bad")


def test_a_refused_text_is_not_tried_for_ever_but_a_new_one_is() -> None:
    shop = Catalogue(Picky())
    shop.handle(raw_item("bad", "unspeakable", offset=0))
    asked = len(shop.encoder.calls)
    assert shop.heal() == 0
    assert len(shop.encoder.calls) == asked
    shop.handle(raw_item("bad", "fine now", offset=1))
    assert shop.has_vector("bad")


def test_a_text_at_which_the_encoder_failed_for_a_reason_of_its_own_is_tried_again() -> None:
    encoder = Picky()
    encoder.reason = "error"
    shop = Catalogue(encoder)
    shop.handle(raw_item("bad", "unspeakable", offset=0), raw_item("cup", "blue cup", offset=1))
    assert shop.has_vector("cup")
    asked = len(encoder.calls)
    assert shop.heal() == 0
    assert len(encoder.calls) > asked


def test_where_the_broker_is_away_the_batch_comes_again() -> None:
    shop = Catalogue()
    shop.publisher.failure = PublishUnavailable("away")
    with pytest.raises(PublishUnavailable):
        shop.handle(raw_item("mug"))
    shop.publisher.failure = None
    shop.handle(raw_item("mug"))
    assert shop.has_vector("mug")


def test_an_item_keeps_the_time_it_was_first_seen() -> None:
    shop = Catalogue()
    first = raw_item("mug", offset=0)
    shop.handle(first._replace(source=source(0, "items", timestamp_ms=NOW_MS - 5_000)))
    shop.handle(raw_item("mug", offset=1, price=2.0))
    item = shop.view.items.get("mug")
    assert item is not None
    assert (item.first_seen_ms, item.updated_ms) == (NOW_MS - 5_000, NOW_MS)


def _view(*made: tuple[str, int]) -> CatalogView:
    view = CatalogView(ExactIndex, WordIndex(), Telemetry())
    view.apply((item_id, item_vector(item_id, first_seen_ms=at_ms)) for item_id, at_ms in made)
    return view


def _new(view: CatalogView) -> list[str]:
    return [view.items.at(int(slot)).item_id for slot in view.new_items(NOW_MS)]


def test_a_candidate_is_filled_in_the_background_while_the_old_version_serves() -> None:
    shop = Catalogue(HashEncoder("1", "2"))
    shop.handle(*(raw_item(f"item-{n}", offset=n) for n in range(100)))
    assert shop.view.serve(Serving("1", candidate="2")) == ["2"]
    assert shop.view.missing("2") == 100
    shop.handle(raw_item("late", "came meanwhile", offset=100))
    assert (shop.view.space.version, shop.view.missing("1")) == ("1", 0)
    assert [shop.heal() for _ in range(3)] == [64, 37, 0]
    assert (shop.view.space.version, shop.view.missing("2")) == ("1", 0)
    made = shop.last("late")
    assert made is not None
    assert made.vectors.keys() == {"1", "2"}


def test_a_version_takes_over_as_a_whole_and_only_when_no_item_would_lose_its_vector() -> None:
    shop = Catalogue(HashEncoder("1", "2"))
    shop.handle(*(raw_item(f"item-{n}", offset=n) for n in range(100)))
    shop.view.serve(Serving("2", previous="1"))  # earlier than the items are encoded
    versions = []
    for _ in range(2):
        versions.append(shop.view.space.version)
        shop.heal()
    assert versions == ["1", "1"]
    assert shop.view.space.version == "2"


def test_a_rollback_takes_effect_at_once() -> None:
    shop = Catalogue(HashEncoder("1", "2"))
    shop.handle(raw_item("mug", offset=0))
    shop.view.serve(Serving("1", candidate="2"))
    shop.heal()
    shop.view.serve(Serving("2", previous="1"))
    assert shop.view.space.version == "2"
    shop.handle(raw_item("cup", offset=1))  # the version before has not encoded it
    shop.view.serve(Serving("1", previous="2", at_once=True))
    assert shop.view.space.version == "1"


def test_vectors_of_two_versions_never_meet_in_an_index() -> None:
    shop = Catalogue(HashEncoder("1", "2"))
    shop.handle(raw_item("mug", "red mug", offset=0), raw_item("cup", "blue cup", offset=1))
    shop.view.serve(Serving("1", candidate="2"))
    shop.heal()
    for version in ("1", "2"):
        shop.view.serve(Serving(version, previous="2" if version == "1" else "1"))
        vectors, _ = asyncio.run(shop.encoder.encode(["red mug", "blue cup"], 1.0, version))
        slots = [shop.view.items.slot(name) for name in ("mug", "cup")]
        found = shop.view.space.search(vectors, 2)
        assert [int(hits[0][0]) for hits in found] == slots
        assert [float(hits[1][0]) for hits in found] == pytest.approx([1.0, 1.0], abs=1e-5)
        np.testing.assert_allclose(shop.view.space.vectors[slots], vectors, atol=1e-6)


def test_a_third_version_takes_the_room_of_the_one_before_the_last() -> None:
    shop = Catalogue(HashEncoder("1", "2", "3"))
    shop.handle(raw_item("mug", offset=0))
    shop.view.serve(Serving("2", previous="1"))
    shop.heal()
    shop.view.serve(Serving("2", candidate="3"))
    shop.heal()
    made = shop.last("mug")
    assert made is not None
    assert made.vectors.keys() == {"2", "3"}


def test_a_candidate_that_fails_leaves_the_old_version_and_new_items_alone() -> None:
    shop = Catalogue()  # no version 2 answers
    shop.handle(raw_item("mug", offset=0))
    shop.view.serve(Serving("1", candidate="2"))
    assert shop.heal() == 0
    shop.handle(raw_item("cup", offset=1))
    assert shop.view.space.version == "1"
    assert shop.has_vector("cup")


def test_a_worker_that_hears_late_of_a_candidate_reads_what_it_missed() -> None:
    shop = Catalogue(HashEncoder("1", "2"))
    shop.handle(raw_item("mug", offset=0), raw_item("cup", offset=1))
    late = CatalogView(ExactIndex, WordIndex(), Telemetry())
    late.serve(Serving("1"))
    shop.view.serve(Serving("1", candidate="2"))
    shop.heal()
    late.apply(shop.publisher.vectors)
    assert late.serve(Serving("1", candidate="2")) == ["2"]
    late.apply([("cup", shop.last("cup")), ("pot", item_vector("pot", vector=direction(1)))])
    late.fill("2", [*shop.publisher.vectors, ("gone", item_vector("gone"))])
    assert late.missing("2") == 1  # the pot, which only version 1 encoded
    late.serve(Serving("2", previous="1"))
    assert late.space.version == "1"


def test_what_words_match_is_found_once_until_the_catalogue_changes() -> None:
    class Counted(WordIndex):
        searches = 0

        def search(self, query: str, limit: int) -> list[tuple[str, float]]:
            self.searches += 1
            return super().search(query, limit)

    text = Counted()
    view = CatalogView(ExactIndex, text, Telemetry())

    def found() -> list[str]:
        return [view.items.at(slot).item_id for slot in view.matching("red", 9).slots.tolist()]

    view.apply([("mug", item_vector("mug", title="red mug")), ("cup", item_vector("cup", title="red cup"))])
    assert (sorted(found()), sorted(found()), text.searches) == (["cup", "mug"], ["cup", "mug"], 1)
    view.apply([("mug", None)])
    view.apply([("pot", item_vector("pot", title="blue pot"))])  # in the slot that the mug left
    assert (found(), text.searches) == (["cup"], 2)
    view.apply([("pot", item_vector("pot", title="red pot"))])
    assert (sorted(found()), text.searches) == (["cup", "pot"], 3)


def test_what_is_near_a_query_is_found_once_until_a_vector_changes() -> None:
    telemetry = Telemetry()
    view = CatalogView(ExactIndex, WordIndex(), telemetry)
    view.serve(Serving("1", candidate="2"))
    view.apply([("mug", item_vector("mug", vector=direction(1))), ("cup", item_vector("cup"))])

    def looked_up() -> list[float | None]:
        results = ({"cache": "nearest", "result": result} for result in ("hit", "miss"))
        return [telemetry.registry.get_sample_value("streamrec_cache_lookups_total", of) for of in results]

    def found() -> list[str]:
        hits = view.near_query(view.space, direction(1), 1)
        return [view.items.at(slot).item_id for slot in hits.slots.tolist()]

    assert (found(), found(), looked_up()) == (["mug"], ["mug"], [1, 1])
    view.apply([("mug", item_vector("mug", vector=direction(2)))])
    view.apply([("pot", item_vector("pot", vector=direction(1)))])
    assert (found(), looked_up()) == (["pot"], [1, 2])
    view.apply([("pot", None)])
    assert (found() != ["pot"], looked_up()) == (True, [1, 3])
    view.apply([("cup", item_vector("cup")._replace(vectors={"2": direction(1)}))])
    view.serve(Serving("2", previous="1", at_once=True))
    assert (view.space.version, found(), looked_up()) == ("2", ["cup"], [1, 4])


def test_a_worker_begins_with_the_version_that_encoded_most() -> None:
    view = CatalogView(ExactIndex, WordIndex(), Telemetry())
    view.serve(Serving("2", previous="1"))
    view.apply([("mug", item_vector("mug", vector=direction(1), encoder_version="1"))])
    view.settle()
    assert view.space.version == "1"
    both = item_vector("mug")._replace(vectors={"1": direction(1), "2": direction(2)})
    view.apply([("mug", both)])
    assert view.space.version == "2"


FIRST_LOAD: list[tuple[str, int]] = [("mug", NOW_MS - minutes(300)), ("cup", NOW_MS - minutes(299.5))]


def test_the_first_load_of_a_catalogue_is_not_new() -> None:
    assert _new(_view(*FIRST_LOAD)) == []


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "newest first"])
def test_what_joined_later_is_new_in_whatever_order_the_topic_is_read(order: int) -> None:
    later: list[tuple[str, int]] = [("pot", NOW_MS - minutes(60)), ("jar", NOW_MS - minutes(30))]
    assert _new(_view(*[*FIRST_LOAD, *later][::order])) == ["jar", "pot"]


def test_nothing_is_new_for_ever_nor_after_its_removal() -> None:
    view = _view(("mug", NOW_MS - 90 * DAY_MS), ("old", NOW_MS - 31 * DAY_MS), ("pot", NOW_MS - DAY_MS))
    assert _new(view) == ["pot"]
    view.apply([("pot", None)])
    assert _new(view) == []


def test_only_the_newest_are_kept_as_new() -> None:
    many: list[tuple[str, int]] = [(f"item-{n}", NOW_MS - minutes(200) + n) for n in range(300)]
    assert _new(_view(*FIRST_LOAD, *many)) == [f"item-{n}" for n in range(299, 249, -1)]


def test_a_slot_is_used_again_and_nothing_of_the_old_item_stays() -> None:
    view = _view()
    view.apply([("mug", item_vector("mug", "red mug", vector=direction(1)))])
    slot = view.items.slot("mug")
    view.apply([("mug", None), ("cup", item_vector("cup", "blue cup"))])
    assert view.items.slot("cup") == slot
    assert not view.has_vector("cup")
    assert len(view.space.search(direction(1)[None], 5)[0][0]) == 0
    assert view.source_of("mug") is None


def test_the_catalogue_tells_how_large_it_is_and_what_is_not_encoded() -> None:
    telemetry = Telemetry()
    view = CatalogView(ExactIndex, WordIndex(), telemetry)
    view.apply([("mug", item_vector("mug", vector=direction(1))), ("cup", item_vector("cup"))])

    def value(name: str) -> Any:
        return telemetry.registry.get_sample_value(name)

    assert value("streamrec_catalogue_items") == 2
    assert value("streamrec_catalogue_items_without_vector") == 1
    view.apply([("cup", None)])
    assert value("streamrec_catalogue_items_without_vector") == 0


def test_an_index_tells_how_many_vectors_it_has_of_which_version_and_which_one_serves() -> None:
    shop = Catalogue(HashEncoder("1", "2"))

    def told() -> dict[str, tuple[float, float]]:
        """Vectors of each version, and whether it serves."""
        value = shop.telemetry.registry.get_sample_value
        versions = [
            metric.labels["version"] for metric in next(iter(shop.telemetry.index_vectors.collect())).samples
        ]
        return {
            version: (
                value("streamrec_index_vectors", {"version": version}) or 0,
                value("streamrec_index_serves", {"version": version}) or 0,
            )
            for version in versions
        }

    shop.view.serve(Serving("1"))
    shop.handle(raw_item("mug", offset=0), raw_item("cup", offset=1))
    assert told() == {"1": (2, 1)}
    shop.view.serve(Serving("1", candidate="2"))
    assert told() == {"1": (2, 1), "2": (0, 0)}
    shop.heal()
    shop.view.serve(Serving("2", previous="1"))
    assert told() == {"1": (2, 0), "2": (2, 1)}
