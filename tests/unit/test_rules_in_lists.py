"""Rules on the list that goes out: whatever the candidates and the rules are, the list obeys every rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_shop import NOW_MS, RankingShop

from stream.core.candidates import Candidates, gather
from stream.core.context import Context
from stream.core.items import Item
from stream.core.listing import Composed, compose
from stream.core.policy import DAY_MS, DiversityPolicy, ExplorationPolicy, Policy
from stream.core.rules import AnyRule
from stream.core.rules.book import RuleBook
from stream.core.rules.boost import Boost
from stream.core.rules.bought import Bought
from stream.core.rules.bury import Bury
from stream.core.rules.cap import Cap
from stream.core.rules.exclude import Exclude
from stream.core.rules.in_force import InForce
from stream.core.rules.matching import Match
from stream.core.rules.min_margin import MinMargin
from stream.core.rules.min_quality import MinQuality
from stream.core.rules.pin import Pin
from stream.core.rules.price_range import PriceRange
from stream.core.state import Owned, empty

POLICY = Policy(
    max_per_category=20,
    diversity=DiversityPolicy(strength=0.0),
    exploration=ExplorationPolicy(slots=0),
)
BRANDS = ("", "Acme", "Bolt", "Crux")


def shop_with_facts(random: np.random.Generator) -> RankingShop:
    """A shop whose items have brands, prices, margins and qualities."""
    shop = RankingShop(items=80, sessions=20)
    for item in list(shop.items):
        number = int(item.item_id.removeprefix("item-"))
        shop.items.put(
            Item(
                item.item_id,
                item.title,
                category=f"KIND {number % 3} > PART {number % 5}" if number % 13 else "",
                brand=BRANDS[number % 4],
                price=item.price,
                available=item.available,
                first_seen_ms=item.first_seen_ms,
                quality=0.5 + 0.5 * float(random.random()),
                margin=None if number % 6 == 0 else float(number % 10),
                attributes={"colour": ("red", "blue")[number % 2]},
            )
        )
    return shop


@pytest.fixture(scope="module")
def shop() -> RankingShop:
    return shop_with_facts(np.random.default_rng(5))


def made(
    shop: RankingShop,
    *rules: AnyRule,
    user_id: str = "user-1",
    scores: list[float] | None = None,
    policy: Policy = POLICY,
) -> tuple[Context, Candidates, InForce, Composed]:
    context = shop.context(user_id)
    force = RuleBook(shop.items, rules).in_force(NOW_MS, "home", "", context.state)
    context = replace(context, rules=force)
    found = gather(context, policy)
    given_scores = np.resize(np.array(scores or [1.0, 3.0, 2.0, 0.5], np.float32), len(found))
    return context, found, force, compose(context, found, given_scores, policy, force, 1)


def listed(shop: RankingShop, *rules: AnyRule, **more) -> list[str]:
    _, found, _, composed = made(shop, *rules, **more)
    return shop.names(found.slots[one.position] for one in composed.chosen)


item_ids = st.integers(0, 90).map(lambda number: f"item-{number}")
amounts = st.floats(0, 90)
matches = st.one_of(
    st.builds(Match, item_ids=st.lists(item_ids, min_size=1, max_size=8).map(tuple)),
    st.builds(Match, brands=st.sampled_from([("acme",), ("Bolt", "Crux")])),
    st.builds(Match, categories=st.sampled_from([("KIND 1",), ("KIND 2 > PART 3", "KIND 0")])),
    st.builds(Match, min_price=amounts),
    st.builds(Match, attributes=st.just({"colour": ("RED",)})),
)
bodies = st.one_of(
    st.fixed_dictionaries({"kind": st.just(Exclude), "where": matches}),
    st.fixed_dictionaries({"kind": st.just(Pin), "item_id": item_ids, "position": st.integers(1, 24)}),
    st.fixed_dictionaries({"kind": st.just(Boost), "where": matches, "strength": st.floats(0.1, 50)}),
    st.fixed_dictionaries({"kind": st.just(Bury), "where": matches, "strength": st.floats(0.1, 50)}),
    st.fixed_dictionaries(
        {
            "kind": st.just(Cap),
            "limit": st.integers(0, 5),
            "by": st.sampled_from(["brand", "category", "all"]),
            "levels": st.integers(0, 2),
            "where": st.one_of(st.just(Match()), matches),
        }
    ),
    st.fixed_dictionaries({"kind": st.just(MinQuality), "quality": st.floats(0, 1)}),
    st.fixed_dictionaries({"kind": st.just(MinMargin), "margin": st.floats(0, 10), "where": matches}),
    st.fixed_dictionaries({"kind": st.just(PriceRange), "min": amounts}),
)
rule_sets = st.lists(bodies, max_size=8).map(
    lambda several: [
        body["kind"](id=f"r{number}", **{name: value for name, value in body.items() if name != "kind"})
        for number, body in enumerate(several)
    ]
)


@settings(max_examples=150, deadline=None)
@given(rules=rule_sets, scores=st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_whatever_the_rules_and_scores_are_the_list_obeys_every_rule(
    shop: RankingShop, rules: list[AnyRule], scores: list[float]
) -> None:
    context, found, _, composed = made(shop, *rules, scores=scores)
    items = [context.items.at(int(found.slots[one.position])) for one in composed.chosen]
    said = " ".join(composed.warnings)
    assert len({item.item_id for item in items}) == len(items) <= POLICY.list_length
    for rule in rules:
        if rule.stage == "bar":
            assert not [item for item in items if rule.concerns(item)]
        if isinstance(rule, Cap):
            held = Counter(group for item in items if (group := rule.group(item)) is not None)
            assert not held or max(held.values()) <= rule.limit
        if isinstance(rule, Pin):
            at_its_place = len(items) >= rule.position and items[rule.position - 1].item_id == rule.item_id
            assert at_its_place or f"{rule.id}: {rule.item_id} is not at place {rule.position}" in said


@settings(max_examples=60, deadline=None)
@given(
    where=matches,
    strength=st.floats(0.1, 50),
    number=st.integers(0, 79),
    scores=st.lists(st.floats(-5, 5), min_size=1, max_size=40),
)
def test_boosting_an_item_never_lowers_it_and_burying_never_lifts_it(
    shop: RankingShop, where: Match, strength: float, number: int, scores: list[float]
) -> None:
    item_id = f"item-{number}"
    just_it = Match(item_ids=(item_id,))
    plain = listed(shop, scores=scores)
    boosted = listed(shop, Boost(id="b", where=just_it, strength=strength), scores=scores)
    buried = listed(shop, Bury(id="b", where=just_it, strength=strength), scores=scores)

    def place(names: list[str]) -> int:
        return names.index(item_id) if item_id in names else 1_000

    assert place(boosted) <= place(plain) <= place(buried)


def test_without_rules_a_list_is_the_best_by_score(shop: RankingShop) -> None:
    _, _, _, composed = made(shop)
    scores = [one.score for one in composed.chosen]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == POLICY.list_length
    assert composed.warnings == []


def test_a_pinned_item_that_no_source_offers_is_at_its_place(shop: RankingShop) -> None:
    offered = set(shop.names(made(shop)[1].slots))
    touched = {one.item_id for one in shop.state("user-1").interactions}
    free = [item.item_id for item in shop.items if item.available]
    other = next(item_id for item_id in free if item_id not in offered | touched)
    _, found, _, composed = made(shop, Pin(id="spring", item_id=other, position=3))
    assert shop.names([found.slots[composed.chosen[2].position]]) == [other]
    assert composed.chosen[2].rule == "spring"


@pytest.mark.parametrize(
    ("pin", "reason"),
    [
        (Pin(id="p", item_id="item-11", position=1), "p: item-11 is not at place 1: it is not available"),
        (Pin(id="p", item_id="gone", position=1), "p: gone is not at place 1: it is not in the catalogue"),
        (Pin(id="p", item_id="item-10", position=30), "p: item-10 is not at place 30: a list has 20 places"),
        (Pin(id="p", item_id="item-12", position=1), "p: item-12 is not at place 1: no-12 keeps it out"),
    ],
)
def test_a_pin_that_cannot_be_kept_is_named_with_the_reason(shop: RankingShop, pin: Pin, reason: str) -> None:
    no_12 = Exclude(id="no-12", where=Match(item_ids=("item-12",)))
    assert made(shop, pin, no_12)[3].warnings == [reason]


def test_of_two_pins_of_one_place_the_first_by_name_has_it(shop: RankingShop) -> None:
    first, second = (Pin(id=name, item_id=f"item-{n}", position=1) for name, n in (("a", 5), ("b", 6)))
    _, _, _, composed = made(shop, second, first, user_id="nobody")
    assert composed.chosen[0].rule == "a"
    assert composed.warnings == ["b: item-6 is not at place 1: a has that place"]


def test_a_cap_that_leaves_a_list_short_is_named(shop: RankingShop) -> None:
    names = listed(shop, Cap(id="few", by="all", limit=3))
    assert len(names) == 3
    [warning] = made(shop, Cap(id="few", by="all", limit=3))[3].warnings
    assert warning.startswith("few: leaves the list at 3 of 20 items")


def test_what_is_kept_out_does_not_shorten_a_list_that_the_range_can_fill(shop: RankingShop) -> None:
    popular = Match(item_ids=tuple(shop.names(made(shop)[1].slots))[:60])
    assert len(listed(shop, Exclude(id="x", where=popular))) > 0


def test_an_exclusion_that_leaves_too_little_is_named(shop: RankingShop) -> None:
    _, _, _, composed = made(shop, PriceRange(id="dear", min=70.0))
    assert 0 < len(composed.chosen) < 20
    assert [warning for warning in composed.warnings if warning.startswith("dear: leaves the list at")]


def owner(shop: RankingShop, item_id: str, days_ago: float) -> str:
    """A shopper who bought one item and did nothing else."""
    user_id = f"owner of {item_id} for {days_ago}"
    shop.states[user_id] = empty(user_id)._replace(owned=(Owned(int(NOW_MS - days_ago * DAY_MS), item_id),))
    return user_id


def candidates_of(shop: RankingShop, user_id: str, *rules: AnyRule) -> set[str]:
    return set(shop.names(made(shop, *rules, user_id=user_id)[1].slots))


def test_what_was_bought_comes_back_after_the_cycle_of_its_rule(shop: RankingShop) -> None:
    user_id = owner(shop, "item-2", 20.0)
    assert "item-2" in candidates_of(shop, user_id)  # policy.exclude_bought_days is over
    assert "item-2" not in candidates_of(shop, user_id, Bought(id="slow", days=30.0))
    lately = owner(shop, "item-2", 3.0)
    assert "item-2" not in candidates_of(shop, lately)
    quick = Bought(id="quick", where=Match(item_ids=("item-2",)), days=2.0)
    assert "item-2" in candidates_of(shop, lately, quick)
    category = Bought(id="kind", where=Match(categories=("KIND 2",)), days=300.0)
    assert "item-2" in candidates_of(shop, lately, quick, category), "the item's own cycle comes first"
    assert "item-2" not in candidates_of(shop, lately, category)


def test_a_rule_on_items_follows_their_changes(shop: RankingShop) -> None:
    changing = shop_with_facts(np.random.default_rng(5))
    book = RuleBook(changing.items, [PriceRange(id="cheap", max=10.0)])
    state = empty("ann")
    slot = changing.slot("item-5")
    assert not book.in_force(NOW_MS, "home", "", state).barred(np.array([slot], np.int32))[0]
    changing.items.put(Item("item-5", "THING 5", price=11.0))
    assert book.in_force(NOW_MS, "home", "", state).barred_by(slot) == "cheap"
    changing.items.remove("item-5")
    changing.items.put(Item("other", "OTHER", price=1.0))
    assert book.in_force(NOW_MS, "home", "", state).barred_by(slot) == ""
