"""What a release with noise costs in hits: the same lists from raw signals and from released ones.

One replay makes each list from the signals as they are, and beside it from what every stage of a release
leaves of them, ranked by the linear blend. The stages are what a release is made of: signals wait until their
period is over and lose their order; what one shopper counts for is bounded; low counts are cut; noise is
added, drawn several times.

Noise is as wide as OpenDP makes it for an epsilon, but drawn from a seed. That is for measuring only: who
knows the seed can take it off again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.candidates import gather
from stream.core.items import FloatArray, IntArray
from stream.core.listing import Composed, compose
from stream.core.policy import Policy, ReleasePolicy
from stream.core.ranking import features, linear
from stream.core.release import count_kinds, to_noise
from stream.core.rules.in_force import NO_RULES
from stream.evaluation.intervals import Bootstrap
from stream.evaluation.next_item import RESAMPLES, seed_of
from stream.evaluation.replay import Beside, ListAsked
from stream.ports import Noise

RAW = "raw signals"
LATE = "released late"
BOUNDED = "bounded"
CUT = "cut"
NOISED = "noised"
UNBOUNDED = {"items": 1_000, "pairs": 10_000}
"""More than a shopper does in a period; as much as the policy takes."""


class Way:
    """A way to release counts, and how many items and pairs its last release let through.

    Args:
        noise: what counts are cut by and noised with; None where they stay as they are.
        times: counts are multiplied by it before that and divided afterwards, as in a shop of so many times
            the shoppers with the same habits.
        drawn_from: None where nothing is noised.
    """

    def __init__(
        self, noise: Noise | None = None, times: int = 1, drawn_from: np.random.Generator | None = None
    ) -> None:
        self._noise = noise
        self._times = times
        self._drawn_from = drawn_from
        self.shown = 0, 0

    def __call__(self, counts: Mapping[str, int], catalogue: Collection[str]) -> Mapping[str, float]:
        """Give what is released of counts, see `stream.evaluation.replay.Release`."""
        released = counts if self._noise is None else self._cut(self._noise, counts, catalogue)
        self.shown = count_kinds(released)
        return released

    def _cut(self, noise: Noise, counts: Mapping[str, int], catalogue: Collection[str]) -> dict[str, float]:
        items, pairs = to_noise(counts, catalogue)
        keys = [*catalogue, *sorted(pairs)]
        values = np.array(items + [pairs[key] for key in sorted(pairs)], np.float64) * self._times
        if self._drawn_from is not None:
            values += np.rint(self._drawn_from.normal(0.0, noise.deviation, len(values)))
        least = np.repeat([noise.item_threshold, noise.pair_threshold], [len(items), len(pairs)])
        return {keys[at]: float(values[at]) / self._times for at in np.flatnonzero(values > least)}


class Stage(NamedTuple):
    """A kind of release, and its ways: one, or of noise one for each draw."""

    name: str
    counted: ReleasePolicy
    ways: Sequence[Way]
    noise: Noise | None = None
    times: int = 1


def stages(
    policy: ReleasePolicy, noises: Sequence[Noise], times: Sequence[int], draws: int, seed: int
) -> list[Stage]:
    """The stages of a release, without noise first.

    Args:
        noises: of each epsilon.
        times: sizes of the shop, see `Way`.
        draws: so often noise is drawn.
    """
    unbounded = msgspec.structs.replace(policy, **UNBOUNDED)
    found = [Stage(LATE, unbounded, [Way()]), Stage(BOUNDED, policy, [Way()])]
    for size in times:
        for noise in noises:
            drawn = [
                Way(noise, size, np.random.default_rng([seed, size, round(noise.epsilon * 1_000), draw]))
                for draw in range(draws)
            ]
            found.append(Stage(CUT, policy, [Way(noise, size)], noise, size))
            found.append(Stage(NOISED, policy, drawn, noise, size))
    return found


class ReleaseCost:
    """Makes each list again from what each stage leaves of the signals, and counts hits."""

    def __init__(self, stages: Sequence[Stage], policy: Policy, at: int) -> None:
        self._stages = stages
        self._policy = msgspec.structs.replace(policy, list_length=at)
        self._at = at
        self._sessions: list[str] = []
        self._hits: list[list[bool]] = []

    @property
    def beside(self) -> Beside:
        """What is to be released beside the raw signals; stages that count the same count once."""
        return [
            (counted, [way for stage in self._stages if stage.counted == counted for way in stage.ways])
            for counted in dict.fromkeys(stage.counted for stage in self._stages)
        ]

    def watch(self, asked: ListAsked, scores: FloatArray, made: Composed) -> None:
        """Take in a list that was measured, see `stream.evaluation.next_item.Watch`."""
        self._sessions.append(asked.session.session_id)
        hits = [self._held(asked, asked.candidates.slots, made)]
        for context in asked.beside():
            candidates = gather(context, self._policy)
            blended = linear(features(context, candidates))
            again = compose(context, candidates, blended, self._policy, NO_RULES, seed_of(asked))
            hits.append(self._held(asked, candidates.slots, again))
        self._hits.append(hits)

    def figures(self, seed: int = 0) -> dict[str, Any]:
        """Figures of the raw signals and of each stage, as JSON values.

        Intervals hold 95 of 100 resamples of the sessions, each list counting the mean of a stage's draws;
        differences are paired, to raw signals and to the stage before.
        """
        table: NDArray[np.float64] = np.array(self._hits, np.float64)
        ends = np.cumsum([1, *(len(stage.ways) for stage in self._stages)])
        draws = np.split(table, ends[:-1], axis=1)
        means = np.stack([one.mean(axis=1) for one in draws], axis=1)
        drawn = Bootstrap(means, np.array(self._sessions), seed, RESAMPLES)
        before = {name: place for place, name in enumerate([RAW, LATE, BOUNDED])}
        after = {LATE: RAW, BOUNDED: LATE, CUT: BOUNDED, NOISED: CUT}
        rows = [{"stage": RAW, f"hr_at_{self._at}": drawn.mean(0).rounded()}]
        for place, stage in enumerate(self._stages, 1):
            before[stage.name] = place
            noise = stage.noise
            shown = np.mean([way.shown for way in stage.ways], axis=0)
            row: dict[str, Any] = {
                "stage": stage.name,
                f"hr_at_{self._at}": drawn.mean(place).rounded(),
                "against_raw": drawn.difference(place, 0).rounded(),
                "against_before": drawn.difference(place, before[after[stage.name]]).rounded(),
                "draws": [round(float(value), 4) for value in draws[place].mean(axis=0)],
                "items": round(float(shown[0]), 1),
                "pairs": round(float(shown[1]), 1),
            }
            if noise is not None:
                row |= {
                    "times": stage.times,
                    "epsilon": round(noise.epsilon, 6),
                    "deviation": round(noise.deviation, 2),
                    "item_threshold": noise.item_threshold,
                    "pair_threshold": noise.pair_threshold,
                }
            rows.append(row)
        return {"lists": len(table), "sessions": len(set(self._sessions)), "stages": rows}

    @staticmethod
    def _held(asked: ListAsked, slots: IntArray, made: Composed) -> bool:
        target = asked.context.items.slot(asked.target)
        return target is not None and any(slots[one.position] == target for one in made.chosen)
