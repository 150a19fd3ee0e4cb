"""Releases of the shared signals: what one shopper can change, the noise, the budget, and once only."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from builders import raw_click
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import hashed, read_sessions, write_log

from stream.core import codec, signals
from stream.core.items import Item, ItemTable
from stream.core.policy import DAY_MS, MINUTE_MS, Policy, ReleasePolicy
from stream.core.release import BETWEEN, period_of, spent, to_noise
from stream.core.state import empty
from stream.errors import ReleaseRefused, StateUnavailable
from stream.evaluation.replay import POLICY, ListAsked, replay
from stream.evaluation.sessions import Session, texts
from stream.fakes import ExactCounts, MemoryReleaseLedger, MemorySignalStore, MemoryStateStore
from stream.ports import RawMessage
from stream.signals.releasing import Counting, Releaser, show_budget
from stream.telemetry.metrics import Telemetry

WEEK = period_of(1_767_225_600_000, 7)
NOW_MS = WEEK.end_ms + MINUTE_MS
FEW = ReleasePolicy(epsilon=2.0, items=3, pairs=4)
CATALOGUE = ["mug", "cup", "jar", *"abcdef", "nobody's"]


def counted(
    log: Sequence[RawMessage], policy: ReleasePolicy = FEW, erased: Mapping[str, int] = {}
) -> Counting:
    """Count a log as the command does."""
    store = MemoryStateStore()
    for user, at_ms in erased.items():
        store.stored[user] = codec.encode(empty(user)._replace(erased_ms=at_ms, sequence=1))
    counting = Counting(store, Policy(release=policy), WEEK)
    asyncio.run(counting.add(log))
    return counting


def visits(shoppers: int, *items: str, at_ms: int = WEEK.begin_ms) -> list[RawMessage]:
    """So many shoppers who look at the same items, one after the other."""
    return [
        raw_click(f"shopper-{who}", item, offset=who * 100 + place, at_ms=at_ms + place * 1_000)
        for who in range(shoppers)
        for place, item in enumerate(items)
    ]


touches = st.tuples(
    st.sampled_from(["ann", "bob", "cyd"]),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True),
    st.sampled_from(["view_item", "add_to_cart", "remove_from_cart", "purchase"]),
    st.integers(-2 * 24 * 60, 9 * 24 * 60),
    st.sampled_from([None, "s1", "s2"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(touches, max_size=40), st.sampled_from(["ann", "bob", "cyd"]))
def test_all_that_one_shopper_did_changes_a_bounded_number_of_counts_by_one(
    log: list[tuple[str, list[str], str, int, str | None]], gone: str
) -> None:
    messages = [
        raw_click(
            user,
            None,
            kind,
            offset=offset,
            at_ms=WEEK.begin_ms + minute * MINUTE_MS,
            session_id=session,
            items=[{"item_id": item} for item in items],
        )
        for offset, (user, items, kind, minute, session) in enumerate(log)
    ]
    with_them = counted(messages).counts.bounded()
    without = counted([one for one in messages if one.key != gone.encode()]).counts.bounded()
    (items, pairs), (fewer_items, fewer_pairs) = (to_noise(one, CATALOGUE) for one in (with_them, without))
    item_changes = [count - less for count, less in zip(items, fewer_items, strict=True)]
    pair_changes = [count - fewer_pairs.get(key, 0) for key, count in pairs.items()]
    assert set(item_changes + pair_changes) <= {0, 1}
    assert fewer_pairs.keys() <= pairs.keys()
    assert sum(item_changes) <= FEW.items
    assert sum(pair_changes) <= FEW.pairs
    assert len(items) == len(CATALOGUE)


def test_what_counts_is_of_the_period_by_people_who_were_not_erased() -> None:
    week = visits(2, "mug", "cup")
    others = [
        raw_click("early", "mug", offset=900, at_ms=WEEK.begin_ms - 1),
        raw_click("late", "mug", offset=901, at_ms=WEEK.end_ms),
        raw_click("erased", "mug", offset=902, at_ms=WEEK.begin_ms),
        *(raw_click("robot", f"i{n}", offset=910 + n, at_ms=WEEK.begin_ms + n) for n in range(60)),
    ]
    found = counted([*week, *others], ReleasePolicy(epsilon=1.0, items=100), {"erased": WEEK.begin_ms})
    counts = found.counts.bounded()
    assert counts["mug"] == counts["cup"] == counts[f"cup{BETWEEN}mug"] == 2
    assert "i59" not in counts


def test_a_shopper_counts_for_the_nearest_pairs() -> None:
    counts = counted(visits(1, *"abcd"), ReleasePolicy(epsilon=1.0, pairs=3)).counts.bounded()
    assert {key for key in counts if BETWEEN in key} == {"a\0b", "b\0c", "c\0d"}


def test_the_noise_is_as_wide_as_epsilon_asks_for_and_hides_who_was_alone() -> None:
    noise_module = pytest.importorskip("stream.adapters.opendp_noise", reason="needs the extra `private`")
    for epsilon in (0.5, 2.0, 8.0):
        policy = ReleasePolicy(epsilon=epsilon, items=50, pairs=100)
        noise = noise_module.ThresholdedGaussian(policy)
        half = policy.delta / 2
        # By hand: the concentrated loss of the Gaussian, and the plain bound that makes an epsilon of it.
        rho = (policy.items + policy.pairs) / (2 * noise.deviation**2)
        assert 0.99 * epsilon < noise.epsilon <= epsilon * (1 + 1e-9)
        assert noise.epsilon <= rho + 2 * math.sqrt(rho * math.log(1 / half)) <= 1.35 * epsilon
        beyond = 0.5 * math.erfc((noise.pair_threshold - 1) / noise.deviation / math.sqrt(2))
        assert beyond * policy.pairs <= 1.2 * half
        assert noise.delta <= policy.delta
        ids = [str(key) for key in range(10_000)]
        for keys, catalogue in ((ids, ids), ([f"{key}{BETWEEN}" for key in ids], [])):
            drawn = noise.release(dict.fromkeys(keys, 100_000), catalogue)
            spread = np.array(list(drawn.values())) - 100_000
            assert float(spread.std()) == pytest.approx(noise.deviation, rel=0.1)  # 14 standard errors
            assert abs(float(spread.mean())) < 0.1 * noise.deviation
        named = {f"mug{BETWEEN}cup": 10**6, "mug": 10**7, f"mug{BETWEEN}jar": 10**6, "té\\u0000": 10**6}
        assert noise.release(named, ["té\\u0000", "mug"]).keys() == named.keys()
        # But for one time in some hundred million:
        assert noise.release({f"alone{BETWEEN}too": 1, "unlisted": 10**7}, []) == {}


def test_items_that_nobody_touched_get_noise_as_others_do() -> None:
    noise_module = pytest.importorskip("stream.adapters.opendp_noise", reason="needs the extra `private`")
    noise = noise_module.ThresholdedGaussian(ReleasePolicy(epsilon=2.0))
    untouched = [f"i{number}" for number in range(20_000)]
    noise.item_threshold = round(noise.deviation)  # else next to none would show
    shown = noise.release({"elsewhere": 10**6}, untouched)
    assert shown.keys() <= set(untouched)
    assert min(shown.values()) > noise.item_threshold
    assert 2_500 < len(shown) < 3_700  # about 3,110 expected; 12 standard errors


def _release(releaser: Releaser, log: Sequence[RawMessage], now_ms: int = NOW_MS) -> Any:
    async def run() -> Any:
        period = await releaser.due(now_ms)
        if period is None:
            return None
        counting = Counting(MemoryStateStore(), Policy(release=FEW), period)
        await counting.add(log)
        return await releaser.release(period, counting.counts, CATALOGUE)

    return asyncio.run(run())


def test_a_period_is_released_once_and_lists_see_pairs_that_enough_shoppers_brought() -> None:
    ledger, rows = MemoryReleaseLedger(), MemorySignalStore()
    releaser = Releaser(ledger, rows, ExactCounts(threshold=5), FEW)
    made = _release(releaser, [*visits(6, "mug", "cup"), *visits(1, "jar", "mug")])
    assert (made.items, made.pairs) == (2, 1)
    table = ItemTable()
    for item in ("mug", "cup", "jar"):
        table.put(Item(item, item))
    row = rows.rows["mug"].signals
    view = signals.view(row, table, Policy().min_shoppers)
    assert [table.at(int(slot)).item_id for slot in view.slots] == ["cup"]
    middle_ms = (WEEK.begin_ms + WEEK.end_ms) // 2
    both = signals.neighbours_at(view.forward, middle_ms) + signals.neighbours_at(view.backward, middle_ms)
    assert both.tolist() == pytest.approx([6.0], rel=1e-2)
    assert "jar" not in rows.rows
    assert _release(releaser, visits(60, "mug", "jar")) is None
    assert rows.rows["mug"].signals is row


def test_a_release_that_was_cut_short_goes_on_with_the_noise_that_was_drawn() -> None:
    class Drawn(ExactCounts):
        times = 0

        def release(self, counts: Mapping[str, int], catalogue: Collection[str]) -> dict[str, int]:
            self.times += 1
            return {key: count + self.times for key, count in counts.items()}

    ledger, rows, noise = MemoryReleaseLedger(), MemorySignalStore(), Drawn()
    releaser = Releaser(ledger, rows, noise, FEW)
    rows.failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        _release(releaser, visits(6, "mug"))
    assert len(ledger.ledger.releases) == 1
    rows.failure = None
    asyncio.run(releaser.finish())
    asyncio.run(releaser.finish())
    popularity = signals.popularity_at(np.array(rows.rows["mug"].signals.popularity), WEEK.end_ms)
    assert float(popularity[-1]) == pytest.approx(7 * 2 ** (-3.5 / 120), rel=1e-2)
    assert (noise.times, ledger.ledger.waiting) == (1, {})
    assert _release(releaser, visits(6, "mug")) is None


def test_what_is_more_than_the_budget_is_refused_until_earlier_releases_are_long_ago() -> None:
    policy = ReleasePolicy(epsilon=4.0, budget_epsilon=8.0, budget_days=28)
    ledger, noise = MemoryReleaseLedger(), ExactCounts(epsilon=4.0)
    releaser = Releaser(ledger, MemorySignalStore(), noise, policy)
    week_ms = 7 * DAY_MS
    assert _release(releaser, [], NOW_MS)
    assert _release(releaser, [], NOW_MS + week_ms)
    for weeks in (2, 3):
        with pytest.raises(ReleaseRefused, match=r"epsilon 4, and of the budget of 8 in 28 days 8 is spent"):
            _release(releaser, [], NOW_MS + weeks * week_ms)
    assert len(ledger.ledger.releases) == 2
    assert _release(releaser, [], NOW_MS + 4 * week_ms)
    last = period_of(NOW_MS + 3 * week_ms, 7)
    assert spent(ledger.ledger.releases, last, 28) == (8.0, 2e-6)


def test_metrics_tell_what_was_spent_of_what_and_how_old_the_release_is() -> None:
    policy = ReleasePolicy(epsilon=3.0, budget_epsilon=8.0, budget_days=28)
    ledger, noise, telemetry = MemoryReleaseLedger(), ExactCounts(epsilon=3.0), Telemetry()

    def told(now_ms: int) -> list[float | None]:
        asyncio.run(show_budget(ledger, policy, lambda: now_ms, telemetry))
        return [
            telemetry.registry.get_sample_value(f"streamrec_release_{name}")
            for name in ("epsilon_spent", "epsilon_allowed", "end_timestamp_seconds")
        ]

    *budget, ended_s = told(NOW_MS)
    assert budget == [0.0, 8.0]
    assert ended_s is not None
    assert math.isnan(ended_s)
    releaser = Releaser(ledger, MemorySignalStore(), noise, policy)
    for week in range(2):
        assert _release(releaser, [], NOW_MS + 7 * week * DAY_MS)
    last_s = WEEK.end_ms / 1000 + 7 * DAY_MS / 1000
    assert told(NOW_MS + 7 * DAY_MS) == [6.0, 8.0, last_s]
    assert told(NOW_MS + 90 * DAY_MS) == [0.0, 8.0, last_s]


def test_of_two_who_release_at_once_only_one_does() -> None:
    class Late(ExactCounts):
        def release(self, counts: Mapping[str, int], catalogue: Collection[str]) -> dict[str, int]:
            ledger.version += 1  # the other one wrote meanwhile
            return super().release(counts, catalogue)

    ledger, rows = MemoryReleaseLedger(), MemorySignalStore()
    with pytest.raises(ReleaseRefused, match="nothing was kept"):
        _release(Releaser(ledger, rows, Late(), FEW), visits(6, "mug"))
    assert (rows.rows, ledger.ledger.releases) == ({}, ())


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    return read_sessions(write_log(tmp_path_factory.mktemp("log") / "l.csv", 1_500))


def _lists(sessions: list[Session], policy: Policy, noise: ExactCounts | None = None) -> list[ListAsked]:
    asked = {session.session_id for session in sessions[::4]}
    vectors = hashed(texts(sessions))
    release = None if noise is None else noise.release
    return list(
        replay(sessions, vectors, lambda one: one.session_id in asked, policy=policy, release=release)
    )


def test_lists_read_what_was_released_and_nothing_else(sessions: list[Session]) -> None:
    policy = Policy(exclude_bought_days=0.0, release=ReleasePolicy(epsilon=1.0, period_days=1))
    open_ones = _lists(sessions, POLICY)
    all_released = _lists(sessions, policy, ExactCounts(threshold=0))
    none_released = _lists(sessions, policy, ExactCounts(threshold=10**9))

    def covisited(lists: list[ListAsked]) -> int:
        return sum(len(row.slots) for asked in lists for row in asked.context.rows.values())

    assert covisited(open_ones) > 0
    assert covisited(all_released) > 0
    assert covisited(none_released) == 0
    assert not any(np.isfinite(asked.context.popularity).any() for asked in none_released)
    assert not any(asked.context.trending.slots.size for asked in none_released)
    first_day = period_of(sessions[0].minute_ms, 1)
    early = [asked for asked in all_released if first_day.holds(asked.session.minute_ms)]
    assert covisited(early) == 0
