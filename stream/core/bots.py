"""Whether a shopper acts at a rate that no person reaches, judged from the last hour of their state.

Three signs, each with bounds in the policy:

- burst: `bot_burst_events` within `bot_burst_seconds`;
- regular: `bot_regular_events` in a row, each the same while after the one before (to a hundredth);
- crawl: `ITEMS` or more distinct items, at more than `bot_items_an_hour`.

Purchases are left out: whoever pays for five hundred lines at once is a customer. What carries one and the
same time counts as one act: an event of many lines, an order that is put into the cart by the list, or a
shop whose clock knows minutes only. So the first `bot_burst_events` - 1 acts of a bot count as anybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from stream.core.policy import HOUR_MS, Policy
from stream.core.state import PURCHASE, Interaction, UserState

Sign = Literal["burst", "regular", "crawl"]
SIGNS: tuple[Sign, ...] = ("burst", "regular", "crawl")

ITEMS = 40
"""Distinct items that a rate of items is told from; a state keeps `policy.interactions_kept` touches."""
TOLERANCE = 0.01
"""How far two intervals may differ, of the longer one, and still be equal."""


def impossible(state: UserState, at_ms: int, policy: Policy) -> Sign | None:
    """Name the sign that no person acted up to a time, None where there is none.

    Args:
        state: with what happened at `at_ms` folded in; what is later is left out.
    """
    acts = [
        act for act in state.interactions if act.kind != PURCHASE and at_ms - HOUR_MS <= act.at_ms <= at_ms
    ]
    times_ms = list(dict.fromkeys(act.at_ms for act in acts))
    if _burst(times_ms, at_ms, policy):
        return "burst"
    if _regular(times_ms, policy):
        return "regular"
    if _crawl(acts, times_ms, policy):
        return "crawl"
    return None


def _burst(times_ms: Sequence[int], at_ms: int, policy: Policy) -> bool:
    events = policy.bot_burst_events
    return 0 < events <= len(times_ms) and at_ms - times_ms[-events] <= policy.bot_burst_seconds * 1000


def _regular(times_ms: Sequence[int], policy: Policy) -> bool:
    events = policy.bot_regular_events
    if not 2 < events <= len(times_ms):
        return False
    gaps_ms = [later - earlier for earlier, later in pairwise(times_ms[-events:])]
    return max(gaps_ms) - min(gaps_ms) <= TOLERANCE * max(gaps_ms)


def _crawl(acts: Sequence[Interaction], times_ms: Sequence[int], policy: Policy) -> bool:
    """Over the newest acts at distinct times: a list put in at one time tells nothing of a rate."""
    limit = policy.bot_items_an_hour
    if not limit or len(times_ms) < ITEMS:
        return False
    items = len({act.item_id for act in acts[-len(times_ms) :]})
    return items >= ITEMS and items * HOUR_MS > limit * (times_ms[-1] - times_ms[0])
