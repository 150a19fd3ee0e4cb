"""What is withdrawn, or kept out by a rule, leaves the lists that stand, and no newer list is lost by it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from builders import NOW_MS, raw_click, raw_search
from shops import TITLES, Killed, Shop, Wire, check_lists, ids

from stream.core.policy import DAY_MS, HOUR_MS
from stream.core.rules.exclude import Exclude
from stream.core.rules.matching import Match
from stream.core.rules.pin import Pin
from stream.core.rules.schedule import Schedule
from stream.errors import PublishUnavailable, StateUnavailable
from stream.privacy.erasing import mark

USERS = ("ann", "bob", "cyd")


def shop_with_lists(**more: Any) -> Shop:
    shop = Shop(**more)
    shop.handle(*(raw_click(user, "mug", offset=offset) for offset, user in enumerate(USERS)))
    return shop


def put(shop: Shop, rule: dict[str, Any]) -> None:
    shop.rules.apply([(rule["id"].encode(), json.dumps(rule).encode())])


NO_TIN = {"id": "no-tin", "kind": "exclude", "where": {"item_ids": ["tin"]}}


def test_lists_that_show_a_withdrawn_item_go_out_without_it() -> None:
    shop = shop_with_lists()
    before = {made.user_id: made for made in shop.publisher.lists}
    shop.now_ms += 10
    shop.stock({"tin": TITLES["tin"]}, available=False)
    made = shop.put_right()
    assert {one.user_id for one in made} == set(USERS)
    for one in made:
        old = before[one.user_id]
        assert ids(one) == [item_id for item_id in ids(old) if item_id != "tin"]
        assert [item.rank for item in one.items] == list(range(1, len(one.items) + 1))
        assert one.trigger == old.trigger
        assert one.sequence > old.sequence
        assert one.recommendation_id != old.recommendation_id
        assert shop.state(one.user_id).sequence == one.sequence
        assert shop.state(one.user_id).facts[1:] != ()
    check_lists(shop.publisher.lists)
    assert shop.put_right() == []


def test_lists_that_show_a_removed_item_go_out_without_it() -> None:
    shop = shop_with_lists()
    shop.remove("tin", "jug")
    assert all(not {"tin", "jug"} & set(ids(one)) for one in shop.put_right())


def test_an_item_that_is_back_before_anything_was_done_changes_nothing() -> None:
    shop = shop_with_lists()
    shop.stock({"tin": TITLES["tin"]}, available=False)
    shop.stock({"tin": TITLES["tin"]})
    assert shop.put_right() == []


def test_a_rule_that_excludes_takes_the_item_out_of_the_lists_that_stand() -> None:
    shop = shop_with_lists()
    put(shop, NO_TIN)
    made = shop.put_right()
    assert len(made) == 3
    assert all("tin" not in ids(one) for one in made)
    assert made[0].warnings == ["no-tin: took 1 items out of a list that stood"]


def test_a_rule_for_another_placement_or_segment_leaves_a_list_as_it_is() -> None:
    shop = shop_with_lists()
    put(shop, {**NO_TIN, "placements": ["basket"]})
    put(shop, {**NO_TIN, "id": "vip", "audience": {"segments": ["vip"]}})
    assert shop.put_right() == []
    vip = raw_click("dan", "mug", offset=9, context={"segment": "vip"})
    assert "tin" not in ids(shop.handle(vip)[0])
    assert "tin" in ids(shop.handle(raw_click("eve", "mug", offset=10))[0])


def test_a_rule_acts_on_lists_that_stand_when_its_time_comes() -> None:
    schedule = msgspec.convert({"from": "2026-09-22T00:00:00Z"}, Schedule)
    late = Exclude(id="late", where=Match(item_ids=("tin",)), schedule=schedule)
    shop = shop_with_lists(written=[late])
    asyncio.run(shop.rules.look_at_the_clock())
    assert shop.put_right() == []
    shop.now_ms = NOW_MS + 23 * HOUR_MS
    asyncio.run(shop.rules.look_at_the_clock())
    assert [one.user_id for one in shop.put_right()] == list(USERS)


def test_a_price_that_a_rule_forbids_takes_the_item_out_of_the_lists_that_stand() -> None:
    shop = shop_with_lists()
    put(shop, {"id": "cheap", "kind": "price_range", "where": {"item_ids": ["tin"]}, "max": 10})
    assert len(shop.put_right()) == 3  # its price is unknown
    shop.stock({"tin": TITLES["tin"]}, price=5.0)
    shop.handle(raw_click("ann", "mug", offset=9))
    assert "tin" in ids(shop.publisher.lists[-1])
    shop.stock({"tin": TITLES["tin"]}, price=11.0)
    [made] = shop.put_right()
    assert (made.user_id, "tin" in ids(made)) == ("ann", False)


def test_a_pin_stays_at_its_place_when_what_stood_before_it_is_withdrawn() -> None:
    shop = shop_with_lists(written=[Pin(id="p", item_id="jar", position=3)])
    first = shop.publisher.lists[0]
    assert ids(first)[2] == "jar"
    assert (first.items[2].source, first.items[2].reason) == ("pinned", "chosen by the shop")
    shop.remove(ids(first)[0])
    assert all(ids(one)[2] == "jar" for one in shop.put_right())


def test_a_new_event_that_came_first_is_not_overtaken_by_the_correction() -> None:
    shop = shop_with_lists()
    shop.stock({"tin": TITLES["tin"]}, available=False)
    newest = shop.handle(raw_click("ann", "pan", offset=9))[0]
    made = shop.put_right()
    assert [one.user_id for one in made] == ["bob", "cyd"]
    assert newest.trigger.offset == 9
    assert "tin" not in ids(newest)
    check_lists(shop.publisher.lists)


def test_whatever_the_order_of_a_correction_and_an_event_the_last_list_out_has_both() -> None:
    """Steps of the two are interleaved in every way that the event loop allows at the ports."""
    for pauses in range(12):
        shop = shop_with_lists()
        save, load = shop.states.save, shop.states.load
        shop.stock({"tin": TITLES["tin"]}, available=False)

        async def late_save(states: Any, save: Any = save, pauses: int = pauses) -> list[bool]:
            for _ in range(pauses % 4):
                await asyncio.sleep(0)
            return await save(states)

        async def late_load(users: Any, load: Any = load, pauses: int = pauses) -> Any:
            found = await load(users)
            for _ in range(pauses):
                await asyncio.sleep(0)
            return found

        shop.states.save, shop.states.load = late_save, late_load  # type: ignore[method-assign]

        async def both(shop: Shop = shop) -> None:
            await asyncio.gather(
                shop.worker.handle([raw_click("ann", "pan", offset=9)]), shop.republisher.work_off()
            )

        asyncio.run(both())
        lists = [one for one in shop.publisher.lists if one.user_id == "ann"]
        check_lists(lists)
        assert lists[-1].trigger.offset == 9
        assert "tin" not in ids(lists[-1])
        assert shop.state("ann").sequence == lists[-1].sequence


def test_a_list_that_another_worker_made_since_is_left_alone() -> None:
    shop = shop_with_lists()
    state = shop.state("ann")
    asyncio.run(shop.states.save([(state._replace(sequence=state.sequence + 5), state.sequence)]))
    shop.remove("tin")
    assert [one.user_id for one in shop.put_right()] == ["bob", "cyd"]


def test_an_erased_shopper_gets_no_list() -> None:
    shop = shop_with_lists()
    asyncio.run(mark(shop.states, "ann", shop.now_ms, shop.now_ms + DAY_MS))
    shop.remove("tin")
    assert [one.user_id for one in shop.put_right()] == ["bob", "cyd"]


def test_an_expired_list_is_not_corrected() -> None:
    shop = shop_with_lists()
    shop.now_ms += 25 * HOUR_MS
    shop.remove("tin")
    assert shop.put_right() == []


def test_while_redis_is_away_lists_stay_stale_and_are_put_right_afterwards() -> None:
    shop = shop_with_lists()
    shop.remove("tin")
    shop.states.failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        shop.put_right()
    shop.states.failure = None
    assert len(shop.put_right()) == 3


def test_while_the_broker_is_away_corrected_lists_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_with_lists()
    shop.remove("tin")
    monkeypatch.setattr("stream.lists.republisher.RETRY_S", 0.0)
    shop.publisher.failure = PublishUnavailable("away")

    async def outage() -> None:
        correcting = asyncio.ensure_future(shop.republisher.work_off())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not correcting.done()
        shop.publisher.failure = None
        await correcting

    asyncio.run(outage())
    assert len([one for one in shop.publisher.lists if "tin" not in ids(one)]) == 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["load", "save", "publish_lists"])
def test_a_worker_that_died_while_correcting_leaves_nothing_that_the_next_one_does_not_correct(
    step: str, after: bool
) -> None:
    shop = shop_with_lists()
    standing = list(shop.publisher.lists)
    calls = ["load", "save", "publish_lists"]
    shop.start(Wire(calls.index(step), after))
    for made in standing:
        shop.shown.put(made, read_back=True)
    shop.remove("tin")
    with pytest.raises(Killed):
        shop.put_right()
    shop.start()
    newest = {made.user_id: made for made in shop.publisher.lists}
    for made in newest.values():
        shop.shown.put(made, read_back=True)
    shop.put_right()
    newest = {made.user_id: made for made in shop.publisher.lists}
    assert all("tin" not in ids(made) for made in newest.values())
    check_lists(shop.publisher.lists)


def test_of_more_shoppers_than_the_bound_the_oldest_lists_are_forgotten() -> None:
    shop = Shop()
    shop.shown_limit = 2
    shop.start()
    shop.handle(*(raw_click(user, "mug", offset=offset) for offset, user in enumerate(USERS)))
    assert len(shop.shown) == 2
    shop.remove("tin")
    assert [one.user_id for one in shop.put_right()] == ["bob", "cyd"]


def test_shoppers_of_another_worker_are_forgotten() -> None:
    shop = Shop()
    shop.handle(raw_click("ann", "mug", partition=0), raw_click("bob", "mug", partition=1))
    shop.shown.keep_only(lambda topic, partition: partition == 1)
    shop.remove("tin")
    assert [one.user_id for one in shop.put_right()] == ["bob"]


def test_an_item_withdrawn_between_the_making_and_the_publishing_of_a_list_leaves_it_at_once() -> None:
    shop = Shop()
    publish = shop.publisher.publish_lists

    async def withdrawn_meanwhile(lists: Any) -> None:
        await publish(lists)

    save = shop.states.save

    async def save_and_withdraw(states: Any) -> list[bool]:
        shop.states.save = save  # type: ignore[method-assign]
        shop.remove("tin")
        return await save(states)

    shop.states.save = save_and_withdraw  # type: ignore[method-assign]
    made = shop.handle(raw_click("ann", "mug"))[0]
    assert "tin" in ids(made)
    assert ["tin" in ids(one) for one in shop.put_right()] == [False]


def test_results_of_the_shop_stay_as_they_are() -> None:
    shop = Shop()
    shop.handle(raw_search("ann", "cake tin", result_item_ids=["tin", "jar"]))
    shop.remove("tin")
    assert [one.reordered for one in shop.put_right()] == [False]
