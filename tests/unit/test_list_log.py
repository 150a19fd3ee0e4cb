"""What is logged of lists: the rows they were ranked by, of a share of them, of no list that never left."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from builders import NOW_MS, raw_click
from hypothesis import given
from hypothesis import strategies as st
from shops import Shop, ids

from stream.core import candidates, list_log, ranking
from stream.core.context import NO_HITS, Context, Hits, rows_needed, session_vector, taste_vector
from stream.core.learning import Learning, OnlineLearner
from stream.core.list_log import LoggedList
from stream.core.policy import MINUTE_MS
from stream.errors import InvalidMessage, PublishUnavailable
from stream.lists.list_context import NEAREST


def busy_shop(list_share: float = 1.0) -> Shop:
    """A shop that has seen some shoppers and learnt from them."""
    shop = Shop(list_share=list_share)
    offset = 0
    for user, items in (("bob", "mug cup pot"), ("cid", "mug pan lid"), ("eve", "jug mug cup")):
        for step, item in enumerate(items.split()):
            shop.handle(raw_click(user, item, offset=offset, at_ms=NOW_MS - 20 * MINUTE_MS + step))
            offset += 1
    shop.learn()
    shop.publisher.list_log.clear()
    return shop


def recomputed(shop: Shop, user_id: str) -> tuple[list[str], np.ndarray]:
    """Candidates and feature rows anew from what is stored, with nothing of the list that was made."""
    state = shop.state(user_id)
    items, space = shop.catalog.items, shop.catalog.space
    session = session_vector(state, items, space, shop.policy)
    taste = taste_vector(state, items, space)
    assert session is not None
    assert taste is not None
    near = space.search(np.stack([session, taste]), NEAREST)
    context = Context(
        state=state,
        at_ms=state.interactions[-1].at_ms,
        items=items,
        space=space,
        rows=asyncio.run(shop.learnt.rows(dict.fromkeys(rows_needed(state, shop.policy)))),
        popularity=shop.learnt.popularity,
        in_view=frozenset([state.interactions[-1].item_id]),
        trending=shop.learnt.trending,
        trending_by_category=shop.learnt.trending_by_category,
        new_items=shop.catalog.new_items(shop.now_ms),
        session_vector=session,
        taste_vector=taste,
        near_session=Hits(*near[0]),
        near_taste=Hits(*near[1]),
        lexical=NO_HITS,
    )
    found = candidates.gather(context, shop.policy)
    return [items.at(slot).item_id for slot in found.slots.tolist()], ranking.features(context, found)


def test_logged_features_are_those_that_are_computed_anew() -> None:
    shop = busy_shop()
    shop.handle(raw_click("ann", "mug", offset=90), raw_click("ann", "pot", offset=91, at_ms=NOW_MS + 1))
    [one] = shop.publisher.list_log
    items, rows = recomputed(shop, "ann")
    assert one.items == items
    assert one.features == list(ranking.FEATURES)
    np.testing.assert_allclose(one.table().astype(np.float32), rows, rtol=2**-11, atol=2**-24)
    assert np.abs(rows).max() > 0


def test_half_precision_leaves_the_order_of_a_list_as_it_is() -> None:
    shop = busy_shop()
    shop.handle(raw_click("ann", "mug", offset=90))
    _, rows = recomputed(shop, "ann")
    learner = OnlineLearner(ranking.FEATURES, learning=Learning(standardising=1, group=1))
    for target in (0, 1, 0, 1, 0):
        learner.learn(rows, target)
    [one] = shop.publisher.list_log
    assert np.argsort(learner.score(one.table())).tolist() == np.argsort(learner.score(rows)).tolist()


def test_a_record_says_which_list_it_is_of() -> None:
    shop = busy_shop()
    [made] = shop.handle(raw_click("ann", "mug", offset=90))
    [one] = shop.publisher.list_log
    assert (one.recommendation_id, one.user_id, one.placement) == (made.recommendation_id, "ann", "home")
    assert (one.trigger, one.at_ms) == (made.trigger, made.generated_at)
    assert (one.model_versions, one.policy) == (made.model_versions, made.policy)
    assert [one.items[position] for position in one.shown] == ids(made)
    assert one.propensities == [item.propensity for item in made.items]
    assert all(one.items[position] == "mug" for position in one.seen)


def test_a_record_reads_back_as_it_was_written() -> None:
    shop = busy_shop()
    shop.handle(raw_click("ann", "mug", offset=90))
    [one] = shop.publisher.list_log
    assert list_log.decode(list_log.encode(one)) == one


@pytest.mark.parametrize("data", [b"", b"\xc1", b"null", b"\x90", b'{"layout":1}'])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        list_log.decode(data)


def test_a_record_of_another_layout_or_with_lost_bytes_is_refused() -> None:
    shop = busy_shop()
    shop.handle(raw_click("ann", "mug", offset=90))
    [one] = shop.publisher.list_log
    fields = {name: getattr(one, name) for name in LoggedList.__struct_fields__}
    for wrong in ({"layout": 2}, {"rows": one.rows[:-2]}):
        with pytest.raises(InvalidMessage):
            list_log.decode(list_log.encode(LoggedList(**{**fields, **wrong})))


def test_no_list_is_logged_where_the_share_is_none() -> None:
    shop = busy_shop(list_share=0.0)
    assert shop.handle(raw_click("ann", "mug", offset=90))
    assert shop.publisher.list_log == []


@given(st.text(max_size=40), st.floats(0, 1))
def test_a_list_that_is_in_a_share_is_in_every_larger_one(name: str, share: float) -> None:
    assert list_log.is_sampled(name, 1.0)
    assert not list_log.is_sampled(name, 0.0)
    if list_log.is_sampled(name, share / 2):
        assert list_log.is_sampled(name, share)


def test_about_the_share_is_logged() -> None:
    count = sum(list_log.is_sampled(f"list-{number}", 0.25) for number in range(4_000))
    assert 900 < count < 1_100


def test_a_list_that_never_left_is_not_logged() -> None:
    shop = busy_shop()
    shop.publisher.failure = PublishUnavailable("away")
    with pytest.raises(PublishUnavailable):
        shop.handle(raw_click("ann", "mug", offset=90))
    shop.publisher.failure = None
    [made] = shop.handle(raw_click("ann", "mug", offset=90))
    assert [one.recommendation_id for one in shop.publisher.list_log] == [made.recommendation_id]
