"""Impressions: told, checked, and without any say in what is recommended."""

from __future__ import annotations

from builders import NOW_MS, raw_click
from shops import Shop

from stream.core.events import ClickEvent, ImpressionEvent, decode_click
from stream.ports import RawMessage


def impression(*item_ids: str, offset: int = 0, **more: object) -> RawMessage:
    items = [{"item_id": item_id} for item_id in item_ids]
    return raw_click(item_id=None, kind="view_item_list", items=items, offset=offset, **more)


def test_an_impression_is_decoded_with_its_items_list_and_placement() -> None:
    event = decode_click(*impression("mug", "cup", "mug", recommendation_id="r1", placement="cart")[:3])
    assert isinstance(event, ImpressionEvent)
    assert event.item_ids == ("mug", "cup")
    assert (event.recommendation_id, event.placement, event.at_ms) == ("r1", "cart", NOW_MS)


def test_a_click_carries_the_list_it_followed_and_its_currency() -> None:
    event = decode_click(*raw_click(recommendation_id="r1", placement="home", currency="EUR")[:3])
    assert isinstance(event, ClickEvent)
    assert (event.recommendation_id, event.placement, event.currency) == ("r1", "home", "EUR")


def test_an_impression_leads_to_no_list_no_state_and_no_increment() -> None:
    shop = Shop()
    shop.handle(raw_click(offset=0))
    stored, lists, learnt = dict(shop.states.stored), len(shop.publisher.lists), len(shop.publisher.signals)
    shop.handle(impression("cup", "pot", offset=1), impression("jar", offset=2, user_id="new"))
    assert shop.states.stored == stored
    assert len(shop.publisher.lists) == lists
    assert len(shop.publisher.signals) == learnt


def test_an_impression_is_counted_as_an_event() -> None:
    shop = Shop()
    shop.handle(impression("cup"))
    assert shop.telemetry.events.labels("clicks")._value.get() == 1
