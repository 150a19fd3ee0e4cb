"""Products whose text is bad are kept and reported but in no list, and come back once they are corrected."""

from __future__ import annotations

import asyncio

import pytest
from builders import item_vector, raw_click, raw_item, raw_removal, raw_search
from shops import Shop, ids

from stream.catalog.view import CatalogView
from stream.catalog.writer import CatalogWriter
from stream.core.items import Item
from stream.core.policy import Policy
from stream.fakes import ExactIndex, WordIndex
from stream.ports import RawMessage

STUFFED = "red mug laptop tv headphones shoes printer"


class Market(Shop):
    """A shop whose items come in as messages."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = CatalogWriter(
            self.catalog, self.encoder, self.publisher, self.telemetry, lambda _: True
        )

    def bring(self, *messages: RawMessage) -> None:
        """Let messages of `items` come in and be followed."""
        already = len(self.publisher.vectors)
        asyncio.run(self.writer.handle(messages))
        self.catalog.apply(self.publisher.vectors[already:])

    def item(self, item_id: str) -> Item:
        found = self.catalog.items.get(item_id)
        assert found is not None
        return found

    def held_back(self, finding: str) -> float | None:
        """The metric."""
        return self.telemetry.registry.get_sample_value("streamrec_catalogue_held_back", {"finding": finding})


def test_a_stuffed_product_is_kept_and_its_findings_are_recorded() -> None:
    market = Market()
    market.bring(raw_item("bad", STUFFED))
    item = market.item("bad")
    assert item.quality < Policy().min_quality
    assert item.quality_findings == ("keywords",)
    assert market.held_back("keywords") == 1.0


def test_a_stuffed_product_is_in_no_list_and_is_not_searched() -> None:
    market = Market()
    market.bring(raw_item("bad", STUFFED), raw_item("good", "red mug for tea"))
    [made] = market.handle(raw_search(query="red mug"))
    assert "good" in ids(made)
    assert "bad" not in ids(made)
    slot = market.catalog.items.slot("bad")
    assert slot is not None
    assert slot not in market.catalog.matching("laptop", 10).slots
    vectors, _ = asyncio.run(market.encoder.encode([STUFFED], 1.0))
    [(slots, _)] = market.catalog.space.search(vectors, 100)
    assert slot not in slots


def test_a_corrected_product_comes_back() -> None:
    market = Market()
    market.bring(raw_item("mug2", STUFFED, offset=0))
    market.bring(raw_item("mug2", "red mug with a lid", offset=1))
    assert market.item("mug2").quality == 1.0
    assert market.held_back("keywords") == 0.0
    [made] = market.handle(raw_search(query="red mug"))
    assert "mug2" in ids(made)


def test_a_product_that_turns_bad_leaves_the_lists() -> None:
    market = Market()
    market.bring(raw_item("mug2", "red mug with a lid", offset=0))
    market.bring(raw_item("mug2", STUFFED, offset=1))
    [made] = market.handle(raw_search(query="red mug"))
    assert "mug2" not in ids(made)


def test_a_removed_product_is_not_counted_any_more() -> None:
    market = Market()
    market.bring(raw_item("bad", STUFFED, offset=0))
    market.bring(raw_removal("bad", offset=1))
    assert market.held_back("keywords") == 0.0


def test_bad_products_do_not_keep_good_ones_out() -> None:
    market = Market()
    hostile = ["-", "\x07", "'; DROP TABLE items; --", "\u202e\u200b" * 50, "laptop " * 200, "𝐛𝐚𝐝" * 99]
    market.bring(
        *(raw_item(f"bad{place}", title, offset=place) for place, title in enumerate(hostile)),
        RawMessage(raw_item("x").source, b"x", b"no json"),
        raw_item("good", "red mug for tea", offset=99, attributes={"colour": None, "": [1], "ram": {}}),
    )
    assert market.item("good").quality == 1.0
    [made] = market.handle(raw_search(query="red mug"))
    assert "good" in ids(made)
    assert not any(item_id.startswith("bad") for item_id in ids(made))


def test_a_bad_product_that_a_shopper_looked_at_does_no_harm() -> None:
    market = Market()
    market.bring(raw_item("bad", STUFFED))
    [made] = market.handle(raw_click(item_id="bad"))
    assert made.items
    assert "bad" not in ids(made)


@pytest.mark.parametrize("min_quality", [0.0, 1.0])
def test_the_policy_says_what_is_held_back(min_quality: float) -> None:
    shop = Shop(stocked=False)
    view = CatalogView(ExactIndex, WordIndex(), shop.telemetry, Policy(min_quality=min_quality))
    view.apply([("mug", item_vector("mug", quality=0.9, quality_findings=("markup",)))])
    assert view.items.available[0] == (min_quality == 0.0)


def test_a_disguised_search_finds_what_it_shows() -> None:
    shop = Shop()
    [made] = shop.handle(raw_search(query="rеd\u200b mug"))  # a Cyrillic letter and an invisible one
    [plain] = Shop().handle(raw_search(query="red mug"))
    assert ids(made)[0] == ids(plain)[0]


def test_a_search_with_a_typing_error_finds_what_was_meant() -> None:
    market = Market()
    market.bring(*(raw_item(f"z{n}", f"zebra striped plate {n}", offset=n) for n in range(3)))
    [made] = market.handle(raw_search(query="zebar stripd"))
    assert set(ids(made)[:3]) == {"z0", "z1", "z2"}
    market.bring(*(raw_removal(f"z{n}", offset=10 + n) for n in range(3)))
    assert market.catalog.vocabulary.corrected("zebar") == "zebar"


def test_the_words_of_a_stuffed_product_mislead_no_search() -> None:
    market = Market()
    market.bring(*(raw_item(f"bad{n}", f"{STUFFED} zebra", offset=n) for n in range(5)))
    assert market.catalog.vocabulary.corrected("zebar") == "zebar"
