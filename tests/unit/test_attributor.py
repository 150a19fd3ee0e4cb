"""From a list to what came of it, through a whole engine on the fakes."""

from __future__ import annotations

import asyncio

import pytest
from builders import NOW_MS, raw_click
from shops import Killed, Shop, Wire

from stream.core.events import Attribution, RecommendationList
from stream.core.policy import Policy
from stream.errors import PublishUnavailable
from stream.ports import RawMessage


def step(shop: Shop, message: RawMessage) -> list[Attribution]:
    """Handle a message and give what it told."""
    before = len(shop.publisher.attributions)
    shop.handle(message)
    return shop.publisher.attributions[before:]


def first_list(shop: Shop) -> RecommendationList:
    shop.handle(raw_click(item_id="mug", offset=0))
    shop.now_ms += 1_000
    return shop.publisher.lists[-1]


def impression(
    made: RecommendationList,
    offset: int = 1,
    count: int = 3,
    at_ms: int = NOW_MS + 1_000,
    **more: object,
) -> RawMessage:
    items = [{"item_id": item.item_id} for item in made.items[:count]]
    fields = {"recommendation_id": made.recommendation_id, **more}
    return raw_click(item_id=None, kind="view_item_list", items=items, offset=offset, at_ms=at_ms, **fields)


def bought(item_id: str, offset: int = 9, **more: object) -> RawMessage:
    return raw_click(item_id=item_id, kind="purchase", offset=offset, at_ms=NOW_MS + 9_000, **more)


def test_list_impression_click_and_purchase_are_told_with_the_list_they_belong_to() -> None:
    shop = Shop(Policy(name="autumn"))
    made = first_list(shop)
    second = made.items[1]
    [seen] = step(shop, impression(made))
    click = raw_click(
        item_id=second.item_id,
        kind="select_item",
        offset=2,
        at_ms=NOW_MS + 2_000,
        recommendation_id=made.recommendation_id,
    )
    [clicked] = step(shop, click)
    [paid] = step(shop, bought(second.item_id, price=2.5, quantity=2))
    assert [record.outcome for record in (seen, clicked, paid)] == ["impression", "click", "purchase"]
    for record in (seen, clicked, paid):
        assert record.recommendation_id == made.recommendation_id
        assert (record.policy, record.model_versions) == ("autumn", made.model_versions)
        assert record.generated_at == made.generated_at
    assert [item.rank for item in seen.items] == [1, 2, 3]
    for record in (clicked, paid):
        [item] = record.items
        assert (item.item_id, item.rank, item.source) == (second.item_id, 2, second.source)
    assert (paid.matched, paid.value) == ("item", 5.0)


def test_what_no_list_showed_tells_nothing_and_is_counted() -> None:
    shop = Shop()
    made = first_list(shop)
    assert step(shop, bought(made.items[0].item_id)) == []
    assert shop.telemetry.unattributed.labels("purchase")._value.get() == 1


def test_metrics_count_items_by_source_position_placement_policy_and_version() -> None:
    shop = Shop()
    made = first_list(shop)
    step(shop, impression(made, count=5))
    source = made.items[0].source
    assert shop.telemetry.attributed.labels("impression", source, "1")._value.get() == 1
    version = made.model_versions["reranker"]
    by_list = shop.telemetry.attributed_by_list.labels("impression", "home", "", version)
    assert by_list._value.get() == len(made.items[:5])


def test_a_label_never_has_more_than_a_few_values() -> None:
    shop = Shop()
    for number in range(40):
        shop.handle(raw_click("u", "mug", offset=2 * number, placement=f"place-{number}"))
        shop.now_ms += 1_000
        made = shop.publisher.lists[-1]
        step(shop, impression(made, offset=2 * number + 1, user_id="u"))
    placements = {
        sample.labels["placement"]
        for metric in shop.telemetry.attributed_by_list.collect()
        for sample in metric.samples
    }
    assert len(placements) == 21
    assert "other" in placements


def test_an_event_that_comes_again_tells_the_same() -> None:
    shop = Shop()
    made = first_list(shop)
    again = impression(made)
    first = step(shop, again)
    for offset in range(20, 24):  # newer lists come meanwhile
        shop.handle(raw_click(item_id="cup", offset=offset, at_ms=NOW_MS + offset))
    assert step(shop, again) == first


def calls_of(message: RawMessage) -> list[str]:
    shop, wire = Shop(), Wire()
    first_list(shop)
    step(shop, impression(shop.publisher.lists[-1]))
    shop.start(wire)
    shop.handle(message)
    return wire.calls


def purchase_of_the_first() -> RawMessage:
    shop = Shop()
    return bought(first_list(shop).items[0].item_id)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("break_at", range(len(calls_of(purchase_of_the_first()))))
def test_a_crash_in_any_step_neither_loses_nor_changes_what_is_told(break_at: int, after: bool) -> None:
    shop = Shop()
    made = first_list(shop)
    step(shop, impression(made))
    shop.start(Wire(break_at, after))
    message = bought(made.items[0].item_id)
    with pytest.raises(Killed):
        shop.handle(message)
    shop.now_ms += 1_000
    shop.start()
    shop.handle(message)
    purchases = {
        record.attribution_id: record
        for record in shop.publisher.attributions
        if record.outcome == "purchase"
    }
    assert len(purchases) == 1
    assert all(
        record == purchases[record.attribution_id]
        for record in shop.publisher.attributions
        if record.outcome == "purchase"
    )


def test_a_batch_waits_until_what_was_told_is_acknowledged() -> None:
    shop = Shop()
    made = first_list(shop)
    lists = len(shop.publisher.lists)
    wire = Wire(calls_of(bought(made.items[0].item_id)).index("publish_attributions"))
    wire.error = PublishUnavailable("away")
    step(shop, impression(made))
    shop.start(wire)
    with pytest.raises(PublishUnavailable):
        shop.handle(bought(made.items[0].item_id))
    assert len(shop.publisher.lists) == lists


def test_the_acts_of_a_machine_teach_nothing_and_are_marked_but_get_their_lists() -> None:
    shop = Shop()
    items = ["cup", "pot", "jar", "pan", "lid", "tin"]
    for number in range(30):
        shop.handle(
            raw_click(item_id=items[number % 6], offset=10 + number, at_ms=NOW_MS + 1_000 + 37 * number)
        )
    taught, lists = len(shop.publisher.signals), len(shop.publisher.lists)
    made = shop.publisher.lists[-1]
    named = {"item_id": made.items[0].item_id, "recommendation_id": made.recommendation_id}
    [told] = step(shop, raw_click(offset=50, at_ms=NOW_MS + 2_200, **named))
    assert len(shop.publisher.signals) == taught
    assert len(shop.publisher.lists) == lists + 1
    assert told.automated
    [seen] = step(shop, impression(shop.publisher.lists[-1], offset=51, at_ms=NOW_MS + 2_300))
    assert seen.automated
    assert shop.telemetry.automated.labels("burst")._value.get() > 0


def test_what_is_kept_of_a_shopper_stays_bounded() -> None:
    shop = Shop()
    for number in range(30):
        shop.handle(raw_click(item_id="mug", offset=2 * number, at_ms=NOW_MS + 1_000 * number))
        shop.now_ms += 1_000
        made = shop.publisher.lists[-1]
        step(shop, impression(made, offset=2 * number + 1, at_ms=shop.now_ms))
    kept = asyncio.run(shop.kept.recall(["ann"]))["ann"]
    assert len(kept) <= 11
    assert sum(map(len, [*shop.kept.made["ann"], *shop.kept.shown["ann"]])) < 4_000
