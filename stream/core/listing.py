"""From scored candidates to the list that goes out, in the one place that all lists pass.

Scores with what rules add to them, then diversity, then caps and pins on the very list, then exploration,
which gives places away only to items that every rule allows there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from stream.core import exploration, ranking
from stream.core.candidates import Candidates
from stream.core.context import Context
from stream.core.diversity import WINDOW, diversified, likeness
from stream.core.events import LATEST_MS
from stream.core.exploration import POOL, Explored, Known, showings
from stream.core.items import BoolArray, FloatArray, IntArray, Item, ItemTable
from stream.core.policy import DAY_MS, Policy
from stream.core.rules.arrange import Arranged, arrange, broken, with_room
from stream.core.rules.cap import Cap
from stream.core.rules.in_force import InForce
from stream.core.signals import neighbours_at


class Chosen(NamedTuple):
    """One place of a list: `position` in the candidates, its final score, and how it came there.

    `propensity` is the probability with which the item was put in this place, 1 where nothing was left to
    chance; `explored` says that chance was asked; `rule` names the rule that put it there.
    """

    position: int
    score: float
    propensity: float = 1.0
    explored: bool = False
    rule: str = ""


class Composed(NamedTuple):
    """A list, best first, and what of the rules could not be kept, as sentences that name the rule."""

    chosen: list[Chosen]
    warnings: list[str]


def compose(
    context: Context,
    candidates: Candidates,
    scores: FloatArray,
    policy: Policy,
    rules: InForce,
    seed: int,
    stays: BoolArray | None = None,
) -> Composed:
    """Choose and order the list.

    Args:
        scores: of each candidate [N], by the reranker or blended.
        rules: those in force for this list.
        seed: what chance is drawn from; the same seed gives the same list.
        stays: which candidates [N] may still be shown; all where it is None.

    Scores never grow along the list, except where diversity, exploration or a rule has moved an item.
    """
    slots, items = candidates.slots, context.items
    final = ranking.final_scores(context, candidates, scores + rules.pushed(slots))
    may = ~rules.barred(slots) if stays is None else stays & ~rules.barred(slots)
    order = np.argsort(-final, kind="stable")
    tier = ranking.tiers(context, candidates)
    order = _diversified(context, candidates, final, tier, order[may[order]], policy)
    of_order = _Ordered(items, slots[order])
    caps = (*rules.caps, category_cap(policy.max_per_category))

    def why_absent(item_id: str) -> str:
        slot = items.slot(item_id)
        if slot is None:
            return "it is not in the catalogue"
        if not items.available[slot]:
            return "it is not available"
        if bar := rules.barred_by(slot):
            return f"{bar} keeps it out"
        return "the shopper has it in view or in the cart, or bought it lately"

    arranged = arrange(of_order, rules.pins, caps, policy.list_length, why_absent)
    tried = _explored(context, candidates, final, tier, order, of_order, arranged, caps, policy, seed)
    made_slots = slots[np.array(tried.chosen, np.intp)]
    made = [items.at(slot) for slot in made_slots.tolist()]
    held = {pin.id: pin for pin in rules.pins}
    pins = [(held[rule].item_id, held[rule].position) for rule in arranged.pinned.values()]
    wrong = broken(made, pins, caps)
    assert not wrong, wrong
    assert not rules.barred(made_slots).any()
    warnings = arranged.warnings
    if len(made) < policy.list_length:
        for bar in rules.bars:
            count = np.count_nonzero(bar.items & items.available[: len(bar.items)])
            if count:
                warnings.append(
                    f"{bar.rule}: leaves the list at {len(made)} of {policy.list_length} items, "
                    f"{count} products are kept out"
                )
    chosen = [
        Chosen(position, float(final[position]), propensity, explored, arranged.pinned.get(place, ""))
        for place, position, propensity, explored in zip(arranged.places, *tried, strict=True)
    ]
    return Composed(chosen, warnings)


def _known(context: Context, candidates: Candidates, final: NDArray[np.float64], new: BoolArray) -> Known:
    """What exploration wants to know of the candidates: each touch of an item stands for a click."""
    touches = neighbours_at(context.popularity[candidates.slots, -1], context.at_ms).astype(np.float64)
    return Known(final, touches, showings(touches), new)


def _new(context: Context, candidates: Candidates, policy: Policy) -> BoolArray:
    """Which candidates are as young as the catalogue's new items are, so nothing of its first load."""
    items = context.items
    since_ms = context.at_ms - policy.exploration.new_days * DAY_MS
    joined_ms = items.first_seen_ms[context.new_items].min(initial=LATEST_MS)
    new: BoolArray = items.first_seen_ms.take(candidates.slots) >= max(since_ms, joined_ms)
    return new


def _diversified(
    context: Context,
    candidates: Candidates,
    final: NDArray[np.float64],
    tier: NDArray[np.int64],
    order: NDArray[np.intp],
    policy: Policy,
) -> NDArray[np.intp]:
    """The order with the best of the first tier chosen for less likeness too."""
    method, strength = policy.diversity.method, policy.diversity.strength
    if not strength or len(order) < 3:
        return order
    best = order[:WINDOW]
    best = best[tier[best] == tier[best[0]]]
    slots, space = candidates.slots[best], context.space
    like = likeness(
        space.vectors.take(slots, axis=0), space.has_vector.take(slots), context.items.category.take(slots)
    )
    chosen = diversified(final[best], like, policy.list_length, strength, method)
    return np.concatenate([best[chosen], order[len(best) :]])


def _explored(
    context: Context,
    candidates: Candidates,
    final: NDArray[np.float64],
    tier: NDArray[np.int64],
    order: NDArray[np.intp],
    of_order: Sequence[Item],
    arranged: Arranged,
    caps: tuple[Cap, ...],
    policy: Policy,
    seed: int,
) -> Explored:
    """The list with its slots drawn; items that a rule has pinned stay, and so does what caps demand."""
    places, tries = arranged.places, policy.exploration
    listed = order[places].tolist()
    free = [at for at, place in enumerate(places) if place not in arranged.pinned]
    untouched = Explored(listed, [1.0] * len(listed), [False] * len(listed))
    count = min(tries.slots, len(free) - 1)
    if count < 1 or not tries.share or len(order) == len(listed):
        return untouched
    is_new = _new(context, candidates, policy)
    left = np.ones(len(order), np.bool_)
    left[places] = False
    left &= tier[order] == tier[order[0]]
    new = is_new[order]
    most = POOL * count
    spare = np.sort(np.concatenate([np.flatnonzero(left & new)[:most], np.flatnonzero(left & ~new)[:most]]))
    given_away = free[-count:]
    kept = [of_order[place] for at, place in enumerate(places) if at not in given_away]
    room = with_room(kept, caps, [of_order[place] for place in spare.tolist()], count)
    of_free = [listed[at] for at in free]
    drawn_from = exploration.slots(of_free, order[spare[room]], is_new, tries)
    if not drawn_from:
        return untouched
    drawn = exploration.explored(
        of_free, drawn_from, lambda: _known(context, candidates, final, is_new), tries, seed
    )
    for at, position, propensity, explored in zip(free, *drawn, strict=True):
        listed[at], untouched.propensities[at], untouched.explored[at] = position, propensity, explored
    return untouched


class _Ordered(Sequence[Item]):
    """The items of some slots, looked up when asked for: most of what stands behind the list never is."""

    def __init__(self, items: ItemTable, slots: IntArray) -> None:
        self._items = items
        self._slots: list[int] = slots.tolist()

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Item]:
        return map(self._items.at, self._slots)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        if isinstance(place, slice):
            return [self._items.at(slot) for slot in self._slots[place]]
        return self._items.at(self._slots[place])


@lru_cache(maxsize=100)
def category_cap(limit: int) -> Cap:
    """The limit of `policy.max_per_category` as a rule."""
    return Cap(id="policy.max_per_category", by="category", limit=limit)


def recommendation_id(user_id: str, sequence: int) -> str:
    """An id that the same list always has and that does not show the shopper's."""
    return hashlib.blake2b(f"{sequence}:{user_id}".encode(), digest_size=12).hexdigest()


def seed_of(list_id: str) -> int:
    """What chance is drawn from where a list is composed: its id, so that anyone can draw again."""
    return int(list_id[:16], 16)
