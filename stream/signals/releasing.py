"""The use case: count what shoppers did in a period, and release it once, with noise and within a budget.

The order is what makes a crash harmless. The noise that was drawn and what it costs are written to the ledger
in one step, and only then does anybody see any of it. What was cut short before that was never seen, and what
is cut short after it goes on with the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

from stream.core.bots import impossible
from stream.core.events import ClickEvent, decode_click
from stream.core.policy import Policy, ReleasePolicy
from stream.core.release import (
    Counts,
    Ledger,
    Period,
    Spent,
    count_kinds,
    fold_released,
    period_of,
    released_increments,
    spent,
    spent_at,
)
from stream.core.signals import increments
from stream.core.state import UserState, apply, empty
from stream.errors import InvalidMessage, ReleaseRefused, StateUnavailable
from stream.ports import Noise, RawMessage, ReleaseLedger, SignalStore, StateStore, VersionedSignals
from stream.telemetry.metrics import Telemetry

CONFLICT_ROUNDS = 5
ROWS_AT_ONCE = 500
ROUNDING = 1e-9
"""So much more than the budget is not more: what is spent is a sum of floats."""


class Counting:
    """Count what shoppers did in a period, from their events in the order of the topic.

    Every shopper begins with an empty state, so that nothing of another period is counted. What they did
    before they were erased, and what no person does, is left out.
    """

    def __init__(self, states: StateStore, policy: Policy, period: Period) -> None:
        self._stored = states
        self._policy = policy
        self._period = period
        self._erased_ms: dict[str, int] = {}
        self._states: dict[str, UserState] = {}
        self.counts = Counts(policy.release)
        self.events = 0

    @property
    def shoppers(self) -> int:
        """How many shoppers there were in the period."""
        return len(self._states)

    async def add(self, messages: Sequence[RawMessage]) -> None:
        """Count messages of `clicks`; those of other periods, and those that cannot be read, are passed over.

        Raises:
            StateUnavailable: nothing tells who was erased; begin anew.
        """
        events = []
        for message in messages:
            try:
                event = decode_click(*message[:3])
            except InvalidMessage:
                continue
            if isinstance(event, ClickEvent) and self._period.holds(event.at_ms):
                events.append(event)
        unknown = {event.user_id for event in events} - self._erased_ms.keys()
        for user_id, state in (await self._stored.load(sorted(unknown))).items():
            self._erased_ms[user_id] = state.erased_ms
        for event in events:
            if event.at_ms > self._erased_ms[event.user_id]:
                self._count(event)

    def _count(self, event: ClickEvent) -> None:
        before = self._states.get(event.user_id, empty(event.user_id))
        after = self._states[event.user_id] = apply(before, event, self._policy)
        if impossible(after, event.at_ms, self._policy) is None:
            self.counts.add(event.user_id, increments(before, after, event, self._policy))
        self.events += 1


class Releaser:
    """Release periods, each once.

    Args:
        rows: made of releases alone, which lists read.
    """

    def __init__(self, ledger: ReleaseLedger, rows: SignalStore, noise: Noise, policy: ReleasePolicy) -> None:
        self._ledger = ledger
        self._rows = rows
        self._noise = noise
        self._policy = policy

    async def due(self, now_ms: int) -> Period | None:
        """The period to release: the last one that is over. None where it was released.

        Raises:
            ReleaseRefused: the budget has not enough left.
            StateUnavailable: the ledger could not be read.
        """
        ledger, _ = await self._ledger.read()
        running = period_of(now_ms, self._policy.period_days)
        period = period_of(running.begin_ms - 1, self._policy.period_days)
        return period if self._may(ledger, period) else None

    async def release(self, period: Period, counts: Counts, catalogue: Collection[str]) -> Spent | None:
        """Draw the noise, write down what it costs, and let lists read the result.

        Args:
            catalogue: see `stream.ports.Noise.release`.

        Returns:
            What was spent; None where the period was released meanwhile.

        Raises:
            ReleaseRefused: the budget has not enough left, or somebody else released at the same time.
            StateUnavailable: `finish` goes on where this ended; nothing was released where the ledger has no
                entry of it.
        """
        ledger, version = await self._ledger.read()
        if not self._may(ledger, period):
            return None
        noised = self._noise.release(counts.bounded(), catalogue)
        noise = self._noise
        entry = Spent(*period, noise.epsilon, noise.delta, *count_kinds(noised))
        await self._finish(ledger)
        if not await self._ledger.write(Ledger((*ledger.releases, entry), noised), version):
            raise ReleaseRefused(
                "another release was made at the same time; of this one nothing was kept: "
                "`streamrec privacy budget` shows the other"
            )
        await self.finish()
        return entry

    async def finish(self) -> None:
        """Write the rows of the last release, where that was cut short; it costs nothing again."""
        ledger, version = await self._ledger.read()
        if ledger.waiting:
            await self._finish(ledger)
            await self._ledger.write(Ledger(ledger.releases), version)  # else somebody finished it as well

    async def _finish(self, ledger: Ledger) -> None:
        if not ledger.waiting:
            return
        last = ledger.releases[-1]
        taught = released_increments(ledger.waiting, Period(last.first_day, last.end_day))
        waiting = list(taught)
        while waiting:
            some, waiting = set(waiting[:ROWS_AT_ONCE]), waiting[ROWS_AT_ONCE:]
            for _ in range(CONFLICT_ROUNDS):
                stored = await self._rows.load(sorted(some))
                rows = {}
                for item_id in some:
                    before = stored.get(item_id)
                    after = fold_released(before and before.signals, taught[item_id])
                    if before is None or after is not before.signals:
                        rows[item_id] = VersionedSignals(after, before.version if before else 0)
                some = {item_id for item_id, done in (await self._rows.save(rows)).items() if not done}
                if not some:
                    break
            else:
                raise StateUnavailable(f"{len(some)} released rows were changed {CONFLICT_ROUNDS} times")

    def _may(self, ledger: Ledger, period: Period) -> bool:
        """Whether a period is not released yet; raises where it is not and the budget has not enough left."""
        if ledger.releases and period.first_day < ledger.releases[-1].end_day:
            return False
        policy, noise = self._policy, self._noise
        before, _ = spent(ledger.releases, period, policy.budget_days)
        if before + noise.epsilon > policy.budget_epsilon + ROUNDING:
            raise ReleaseRefused(
                f"{day(period.first_day)} to {day(period.end_day)} is not released: that would tell epsilon "
                f"{noise.epsilon:g}, and of the budget of {policy.budget_epsilon:g} in {policy.budget_days} "
                f"days {before:g} is spent. Wait, or set policy.release.epsilon lower or "
                "policy.release.budget_epsilon higher (docs/privacy.md)"
            )
        return True


async def show_budget(
    ledger: ReleaseLedger, policy: ReleasePolicy, now_ms: Callable[[], int], telemetry: Telemetry
) -> None:
    """Tell the metrics what the releases that lists read cost, and how old the newest is.

    Raises:
        StateUnavailable: the ledger could not be read.
    """
    releases = (await ledger.read())[0].releases
    epsilon, _ = spent_at(releases, now_ms(), policy.budget_days)
    ended_ms = Period(releases[-1].first_day, releases[-1].end_day).end_ms if releases else None
    telemetry.show_releases(epsilon, policy.budget_epsilon, ended_ms)


def day(number: int) -> str:
    """A day since the epoch as people write it."""
    return f"{datetime.fromtimestamp(0, UTC) + timedelta(days=number):%Y-%m-%d}"
