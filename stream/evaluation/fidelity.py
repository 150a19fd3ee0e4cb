"""Whether reasons are what they say: does an item lose by it when the named event is thought away?

For lists of a replay (`stream.evaluation.next_item`) some reasons that name something the shopper did are
drawn. The same list is made once more for the same shopper without it: candidates, features, scores and
choice, all by the code that serves. A reason holds where its item has a lower score then, or is no longer
in the list. Beside it stands the control: the same with another item of the shopper's thought away instead
of the named one. Erasure of what an explanation points at, and of something else, is how DeYoung et al.
(ERASER, ACL 2020, doi:10.18653/v1/2020.acl-main.408) measure faithfulness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream.core.candidates import gather
from stream.core.context import Context
from stream.core.explain import Cause, causes, without
from stream.core.items import FloatArray
from stream.core.listing import Composed, compose
from stream.core.policy import Policy
from stream.core.ranking import features, final_scores
from stream.core.rules.in_force import NO_RULES
from stream.evaluation.intervals import Bootstrap
from stream.evaluation.next_item import Ranking, seed_of
from stream.evaluation.replay import ListAsked

RESAMPLES = 2_000


class Erased(NamedTuple):
    """What became of an item when an event was thought away: whether it left, and how far its score fell."""

    removed: bool
    fell: float

    @property
    def holds(self) -> bool:
        """Whether the item lost by it."""
        return self.removed or self.fell > 0


class Sampled(NamedTuple):
    """One reason that was put to the test; `control` is None where the shopper did nothing else."""

    session: str
    source: str
    named: Erased
    control: Erased | None


@dataclass
class Fidelity:
    """Draws reasons of the lists it is given and tests them; give `watch` to a replay.

    Args:
        ranking: what scores the lists.
        policy: as in the replay; chance is left out, since an item that it takes away lost nothing.
        at: length of the lists.
        a_list: reasons drawn from each list.
    """

    ranking: Ranking
    policy: Policy
    at: int = 20
    a_list: int = 3
    seed: int = 0
    sampled: list[Sampled] = field(default_factory=list)
    lists: int = 0
    reasons: int = 0
    """Reasons in the lists, of which `naming` name an event."""
    naming: int = 0

    def __post_init__(self) -> None:
        calm = msgspec.structs.replace(self.policy.exploration, share=0.0)
        self.policy = msgspec.structs.replace(self.policy, exploration=calm, list_length=self.at)
        self._random = np.random.default_rng(self.seed)

    def watch(self, asked: ListAsked, scores: FloatArray, made: Composed) -> None:
        """Test some reasons of a list."""
        context, candidates = asked.context, asked.candidates
        made = compose(context, candidates, scores, self.policy, NO_RULES, seed_of(asked))
        listed = [one.position for one in made.chosen]
        named = causes(context, candidates, listed)
        naming = [
            (position, found) for position, found in zip(listed, named, strict=True) if found.names_event
        ]
        self.lists += 1
        self.reasons += len(named)
        self.naming += len(naming)
        final = final_scores(context, candidates, scores)
        for place in self._random.permutation(len(naming))[: self.a_list].tolist():
            position, found = naming[place]
            slot, score = int(candidates.slots[position]), float(final[position])
            other = self._another(context, found)
            self.sampled.append(
                Sampled(
                    asked.session.session_id,
                    found.source,
                    self._erased(asked, found, slot, score),
                    None if other is None else self._erased(asked, other, slot, score),
                )
            )

    def _erased(self, asked: ListAsked, named: Cause, slot: int, score: float) -> Erased:
        context = asked.again(without(asked.context.state, named))
        candidates = gather(context, self.policy)
        scores = self.ranking.score(features(context, candidates))
        made = compose(context, candidates, scores, self.policy, NO_RULES, seed_of(asked))
        places = np.flatnonzero(candidates.slots == slot)
        if not len(places):
            return Erased(True, float("nan"))
        position = int(places[0])
        after = float(final_scores(context, candidates, scores)[position])
        return Erased(all(one.position != position for one in made.chosen), score - after)

    def _another(self, context: Context, named: Cause) -> Cause | None:
        """Another of the shopper's items, as if it had been named."""
        others = sorted({one.item_id for one in context.state.interactions} - {named.item_id})
        return Cause("", "", others[int(self._random.integers(len(others)))]) if others else None


def figures(found: Fidelity) -> dict[str, Any]:
    """All figures as JSON values; intervals hold 95 of 100 resamples of the sessions.

    Raises:
        ValueError: no reason named an event.
    """
    if not found.sampled:
        raise ValueError("no reason of these lists names an event")
    sources = sorted({one.source for one in found.sampled})
    return {
        "fidelity": _share(found.sampled),
        "by_source": {
            source: _share([one for one in found.sampled if one.source == source]) for source in sources
        },
        "control": _control(found.sampled),
        "lists": found.lists,
        "reasons": found.reasons,
        "reasons_that_name_an_event": round(found.naming / max(1, found.reasons), 4),
        "ranking": found.ranking.says,
        "seed": found.seed,
        "means": "share of sampled reasons whose item has a lower score, or is no longer in the list, when "
        "what the reason names is thought away; control: when another item of the shopper's is",
    }


def _share(sampled: Sequence[Sampled]) -> dict[str, Any]:
    return _of([one.session for one in sampled], [one.named for one in sampled])


def _control(sampled: Sequence[Sampled]) -> dict[str, Any]:
    there = [(one.session, one.control) for one in sampled if one.control is not None]
    return _of([session for session, _ in there], [erased for _, erased in there]) if there else {}


def _of(sessions: Sequence[str], erased: Sequence[Erased]) -> dict[str, Any]:
    holds = np.array([one.holds for one in erased], np.float64)
    interval = Bootstrap(holds, np.array(sessions), resamples=RESAMPLES).mean().rounded()
    return {
        "sampled": len(erased),
        **interval,
        "left_the_list": round(float(np.mean([one.removed for one in erased])), 4),
    }
