"""The use case: why an item is in a shopper's list, or why not, and what would have to change.

The list is made again from what is known now and from the shopper's stored state; nothing is saved or
published. So it is what the worker would answer to the newest event if it came at this moment: between the
published list and now, other shoppers may have taught the engine something.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from stream.catalog.view import CatalogView
from stream.core import account
from stream.core.account import Fate, Score
from stream.core.candidates import PINNED
from stream.core.events import EVENT_TYPES, ClickEvent, Event, Line, SearchEvent, Source
from stream.core.explain import Cause, cause, without
from stream.core.policy import Policy
from stream.core.ranking import features
from stream.core.state import UserState
from stream.errors import ModelUnavailable
from stream.lists.list_maker import ListMaker, Made, Moment
from stream.ports import Reranker, StateStore

EVENTS_TRIED = 20
"""Items of the shopper's that are thought away one by one, newest first, to see which one carries an item."""
MODEL_TIMEOUT_S = 2.0
"""Nobody shops while an explanation is made."""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The smallest thing whose absence or presence would change what became of the item."""

    said: str
    """As a sentence."""
    without_item: str = ""
    """The item without whose events, or ..."""
    without_search: str = ""
    """... the search without which the item would not be in the list."""
    score: float | None = None
    """By how much its score would have to change."""


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an item is in a shopper's list, or why not."""

    user_id: str
    item_id: str
    title: str
    fate: Fate
    """What became of the item."""
    change: Change
    """What would have to change."""
    recommendation_id: str
    """Of the newest list that was made for the shopper."""
    model_versions: dict[str, str]
    degraded: list[str]
    policy: str = ""
    place: int | None = None
    """Its place in the list, from 1."""
    source: str = ""
    """Which way of finding candidates did most for it."""
    reason: str = ""
    """What the shopper reads."""
    sources: list[str] = []
    """All ways of finding candidates that named it."""
    score: Score | None = None
    rules: dict[str, float] = {}
    """What rules add to its score."""
    pinned_by: str = ""
    """The rule that gave it its place."""
    explored: bool = False
    propensity: float = 1.0
    warnings: list[str] = []


class Explainer:
    """Explain lists, read-only.

    Args:
        reranker: asked with much time.
    """

    def __init__(
        self,
        *,
        states: StateStore,
        lists: ListMaker,
        reranker: Reranker,
        catalog: CatalogView,
        policy: Policy,
    ) -> None:
        self._states = states
        self._lists = lists
        self._reranker = reranker
        self._catalog = catalog
        self._policy = policy

    async def explain(self, user_id: str, item_id: str, placement: str | None = None) -> Explanation:
        """Explain what became of one item.

        Args:
            placement: of the list, by default that of the recommendations.

        Raises:
            StateUnavailable: the shopper's state cannot be read.
        """
        state = (await self._states.load([user_id]))[user_id]
        moment = _moment(state, placement)
        made = await self._lists.made(state, moment)
        became = account.fate(
            made.context, made.found, made.scores, self._policy, made.seed, made.stays, item_id
        )
        item = self._catalog.items.get(item_id)
        explanation = Explanation(
            user_id=user_id,
            item_id=item_id,
            title="" if item is None else item.title,
            fate=became,
            change=await self._change(state, moment, made, became, item_id),
            recommendation_id=made.recommendation_id,
            model_versions=made.model_versions,
            degraded=made.degraded,
            warnings=made.composed.warnings,
        )
        position = _position(made, item_id)
        if position is None:
            return explanation
        chosen = {one.position: (place, one) for place, one in enumerate(made.composed.chosen, start=1)}
        place, one = chosen.get(position, (None, None))
        found = cause(made.context, made.found, position)
        if one is not None and one.rule:
            found = Cause(PINNED, "chosen by the shop")
        return msgspec.structs.replace(
            explanation,
            place=place,
            source=found.source,
            reason=found.reason,
            sources=account.sources_of(made.found, position),
            score=await self._score(made, position),
            rules=made.context.rules.pushes_on(int(made.found.slots[position])),
            pinned_by="" if one is None else one.rule,
            explored=one is not None and one.explored,
            propensity=1.0 if one is None else one.propensity,
        )

    async def _score(self, made: Made, position: int) -> Score:
        """Take a score apart, by walks through the reranker or, where it is away, by the linear weights."""
        context, found, rules = made.context, made.found, made.context.rules
        if "reranker" in made.model_versions:
            walks = account.walks(features(context, found), position)
            try:
                scores, version = await self._reranker.score(walks.rows, MODEL_TIMEOUT_S)
            except ModelUnavailable:
                scores, version = np.zeros(0, np.float32), ""
            if version == made.model_versions["reranker"]:
                by_feature, mean_score = account.credited(scores, walks)
                return account.taken_apart(
                    context, found, position, by_feature, mean_score, rules, exact=False
                )
        by_feature, mean_score = account.weighed(context, found, position)
        return account.taken_apart(context, found, position, by_feature, mean_score, rules, exact=True)

    async def _change(
        self, state: UserState, moment: Moment, made: Made, became: Fate, item_id: str
    ) -> Change:
        if became.stage != "listed":
            return _cure(became)
        position = _position(made, item_id)
        assert position is not None
        for named in _tries(state, made, position):
            again = await self._lists.made(without(state, named), moment)
            if item_id not in _listed(again):
                if named.search:
                    query = state.searches[-1].query
                    return Change(
                        f"without the search for {query} it would leave the list", without_search=query
                    )
                item = self._catalog.items.get(named.item_id)
                title = item.title if item is not None else named.item_id
                return Change(
                    f"without what the shopper did to {title} it would leave the list",
                    without_item=named.item_id,
                )
        lacks = _above_the_rest(made, position)
        return Change(
            "nothing that the shopper did carries it alone: it would leave the list if its score were "
            f"{lacks:.3f} less",
            score=-lacks,
        )


def _tries(state: UserState, made: Made, position: int) -> Iterator[Cause]:
    """What may carry an item, the cause that its reason names first."""
    named = cause(made.context, made.found, position)
    if named.names_event:
        yield named
    if state.searches and made.context.query is not None and not named.search:
        yield Cause("", "", search=True)
    others = dict.fromkeys(one.item_id for one in reversed(state.interactions))
    others.update(dict.fromkeys(one.item_id for one in reversed(state.owned)))
    others.pop(named.item_id, None)
    for item_id in list(others)[:EVENTS_TRIED]:
        yield Cause("", "", item_id)


def _cure(became: Fate) -> Change:
    cures = {
        "unknown": "the shop would have to publish it to the catalogue",
        "unavailable": "the shop would have to sell it again",
        "held_back": "the shop would have to mend its text: `streamrec catalog quality` says how",
        "in_view": "it may come once the shopper looks at something else",
        "in_cart": "it may come once it is taken out of the cart",
        "bought": "it may come once the time has passed",
        "rule": f"the rule {became.rule} would have to be changed",
        "no_source": "others would have to touch it beside what this shopper touches, or a search to find it",
        "seen": "it may come in another session",
    }
    if became.stage in cures:
        return Change(cures[became.stage])
    if became.missing:
        return Change(f"its score would have to be {became.missing:.3f} more", score=became.missing)
    return Change("its score is high enough: what took its place would have to go")


def _position(made: Made, item_id: str) -> int | None:
    slot = made.context.items.slot(item_id)
    if slot is None:
        return None
    places = np.flatnonzero(made.found.slots == slot)
    return int(places[0]) if len(places) else None


def _listed(made: Made) -> set[str]:
    slots = made.found.slots[[one.position for one in made.composed.chosen]]
    return {made.context.items.at(slot).item_id for slot in slots.tolist()}


def _above_the_rest(made: Made, position: int) -> float:
    """By how much a listed item's score is above the best that is not in the list."""
    chosen = {one.position: one.score for one in made.composed.chosen}
    final = account.finals(made.context, made.found, made.scores)
    rest = [float(score) for place, score in enumerate(final) if place not in chosen and made.stays[place]]
    return max(0.0, chosen[position] - max(rest)) if rest else 0.0


def _moment(state: UserState, placement: str | None) -> Moment:
    """The newest event as far as a state remembers it; one without items where it remembers none."""
    clicks, searches = state.interactions, state.searches
    at_ms = max([entries[-1].at_ms for entries in (clicks, searches) if entries], default=0)
    source = Source("", 0, 0, at_ms)
    trigger: Event
    if searches and (not clicks or searches[-1].at_ms > clicks[-1].at_ms):
        trigger = SearchEvent("", state.user_id, at_ms, source, searches[-1].query, None, placement)
        return Moment(trigger, at_ms)
    newest = [one for one in clicks if clicks and one.digest == clicks[-1].digest]
    lines = tuple(Line(one.item_id, 1, None) for one in newest)
    kind = EVENT_TYPES[clicks[-1].kind] if clicks else "view_item"
    trigger = ClickEvent("", state.user_id, at_ms, source, kind, lines, None, placement)
    return Moment(trigger, at_ms)
