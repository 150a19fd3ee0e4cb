"""Load is a Poisson stream whose rate follows the profile, skewed by Zipf's law, the same for a seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from traffic.arrivals import SEARCH, Arrival, arrivals
from traffic.generator import owner
from traffic.profiles import PROFILES
from traffic.shoppers import Product, Shoppers


def stream(profile: str = "steady", rate: float = 200.0, seconds: float = 50.0, **more: Any) -> list[Arrival]:
    given = {"seed": 5, "shoppers": 500, "items": 80, **more}
    return list(arrivals(PROFILES[profile], rate, seconds, **given))


def test_the_same_seed_gives_the_same_load_and_another_seed_another() -> None:
    assert stream() == stream()
    assert stream() != stream(seed=6)


def test_gaps_are_exponential_and_the_rate_is_the_one_asked_for() -> None:
    at_s = np.array([one.at_s for one in stream(seconds=200.0)])
    gaps_s = np.diff(at_s)
    assert len(at_s) == pytest.approx(40_000, rel=0.03)
    assert gaps_s.std() == pytest.approx(gaps_s.mean(), rel=0.03)


def test_a_warm_up_comes_before_and_at_the_rate_of_the_beginning() -> None:
    early = [one for one in stream("ramp", warm_up_s=20.0) if one.at_s < 0]
    assert -20.0 <= early[0].at_s < -18.0
    assert len(early) == pytest.approx(20 * 200 * 0.1, rel=0.15)


@pytest.mark.parametrize(
    ("profile", "shares"),
    [("burst", [0.9 / 1.4 / 9] * 9 + [0.5 / 1.4]), ("ramp", [0.0264, 0.0427, 0.0591])],
)
def test_a_profile_shapes_the_rate(profile: str, shares: list[float]) -> None:
    made = stream(profile, rate=400.0, seconds=100.0)
    if profile == "burst":
        found = Counter(int(one.at_s % 10) for one in made)
    else:
        found = Counter(int(one.at_s // 10) for one in made)
    for at, share in enumerate(shares):
        assert found[at] / len(made) == pytest.approx(share, rel=0.15)


def test_shoppers_and_items_follow_zipf() -> None:
    made = stream(seconds=300.0, shopper_skew=1.0, item_skew=0.0)
    shoppers = Counter(one.shopper for one in made)
    assert shoppers[0] / shoppers[9] == pytest.approx(10, rel=0.2)
    items = Counter(one.item for one in made)
    assert max(items.values()) / min(items.values()) < 1.5


def test_each_profile_is_what_it_says() -> None:
    storm, hot, new = (stream(name) for name in ("search-storm", "hot-user", "new-users"))
    assert sum(one.act == SEARCH for one in storm) / len(storm) == pytest.approx(0.8, abs=0.02)
    assert Counter(one.shopper for one in hot).most_common(1)[0][1] / len(hot) == pytest.approx(0.5, abs=0.05)
    assert len({one.shopper for one in new}) == len(new)


def test_every_shopper_belongs_to_one_process_whichever_topic_an_event_is_of() -> None:
    shoppers = Shoppers("run", [Product("i", "red mug")])
    owners = Counter(owner(shoppers.name(number), 8, 3) for number in range(300))
    assert set(owners) == {0, 1, 2}
    made = stream()
    users = {shoppers.message(one._replace(item=0), 0).user_id for one in made if one.shopper == 0}
    assert users == {shoppers.name(0)}


def test_events_are_such_as_the_engine_takes() -> None:
    from stream.core.events import Source, decode_click, decode_search

    shoppers = Shoppers("run", [Product(f"item-{number}", f"red mug {number}") for number in range(80)])
    for arrival in stream(seconds=5.0):
        message = shoppers.message(arrival, 1_700_000_000_000)
        decode = decode_search if message.is_search else decode_click
        source = Source("t", 0, 0, 1_700_000_000_000)
        event = decode(source, message.user_id.encode(), message.value)
        assert (event.event_id, event.user_id) == (message.event_id, message.user_id)
