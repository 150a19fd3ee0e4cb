"""The next item of a session, asked after each of its items: how well do the lists that go out hold it?

A replay (`stream.evaluation.replay`) makes every list as the worker does. The reranker learns online as the
trainer does: from finished sessions, in the order in which they end, none before the minute after its end.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core import listing
from stream.core.candidates import OFFERS
from stream.core.items import FloatArray
from stream.core.learning import Learning, OnlineLearner
from stream.core.listing import Composed, compose
from stream.core.policy import Policy
from stream.core.ranking import FEATURES, features, linear
from stream.core.rules.in_force import NO_RULES
from stream.evaluation import metrics
from stream.evaluation.baselines import Baseline, ItemKnn, Popularity
from stream.evaluation.cold_start import NewItems
from stream.evaluation.intervals import Bootstrap
from stream.evaluation.left_out import LeftOut
from stream.evaluation.replay import LISTS_PER_SESSION, POLICY, Beside, ListAsked, Release, Vectors, replay
from stream.evaluation.sessions import Session
from stream.models.loading import Network

Watch = Callable[[ListAsked, FloatArray, Composed], None]
"""Is given each list that is measured: what was asked, the scores of the candidates, the list."""

LIST = "list"
"""The name among the rankers of what goes out."""
WARM_UP_LISTS = 35_000
"""About so many lists before the window are learnt from, of every n-th session."""
FIRST_LISTS = 1_000
"""Until it has learnt from so many, the learner does not rank; the linear blend does, as in a new shop."""
UNION_AT = 200
"""Recall of all candidates is also given for so many of the best."""
FEW_SESSIONS = 4
"""A shopper with more sessions than this before has many."""
KNN_RECENCY = 0.8
RESAMPLES = 2_000


class Window(NamedTuple):
    """What is measured: sessions that begin from `from_ms` on and before `to_ms` (None: to the log's end).

    Of those with two distinct items or more every n-th is asked, and lists have `at` items.
    """

    from_ms: int
    to_ms: int | None = None
    every: int = 1
    at: int = 20


class Ranking(Protocol):
    """What scores candidates."""

    @property
    def says(self) -> str:
        """What it is, for people."""

    @property
    def learns(self) -> bool:
        """Whether it wants lists to learn from."""

    def score(self, rows: FloatArray) -> FloatArray:
        """Score candidates by their feature rows [N, F]: [N], higher is better."""

    def learn(self, rows: FloatArray, target: int) -> None:
        """Learn from a list of a session that has ended: rows [n, F] and the place of the right one."""


class Learnt:
    """The reranker that learns online; the linear blend ranks until it has learnt from `first_lists`.

    Args:
        begun: what it goes on from; from nothing where it is None.
    """

    learns = True

    def __init__(
        self,
        seed: int = 0,
        first_lists: int = FIRST_LISTS,
        learning: Learning | None = None,
        begun: OnlineLearner | None = None,
    ) -> None:
        self._learner = begun or OnlineLearner(FEATURES, seed, learning)
        self._first_lists = first_lists

    @property
    def says(self) -> str:
        return f"learnt online from {self._learner.lists} lists"

    def score(self, rows: FloatArray) -> FloatArray:
        return linear(rows) if self._learner.lists < self._first_lists else self._learner.score(rows)

    def learn(self, rows: FloatArray, target: int) -> None:
        self._learner.learn(rows, target)


class Served:
    """A version of the reranker as it was written."""

    learns = False

    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self.says = f"{name}, as it was written"

    def score(self, rows: FloatArray) -> FloatArray:
        return self._network.score(rows)

    def learn(self, rows: FloatArray, target: int) -> None:
        pass


class Blended:
    """The linear weights that are used where the reranker cannot be asked."""

    learns = False
    says = "linear blend, no learning"

    def score(self, rows: FloatArray) -> FloatArray:
        return linear(rows)

    def learn(self, rows: FloatArray, target: int) -> None:
        pass


@dataclass
class Asked:
    """The lists of the window, one row each, for all rankers alike."""

    sessions: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sessions_before: list[int] = field(default_factory=list)
    guests: list[bool] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    """One bit for each source whose candidates held the right item."""
    union_ranks: list[int] = field(default_factory=list)
    """Place of the right item among all candidates by score, 0 where none held it."""
    digests: list[str] = field(default_factory=list)
    """Of each list that went out."""
    counts: list[int] = field(default_factory=list)
    per_source: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(OFFERS), np.int64))
    catalogue: int = 0


class Tally:
    """What one ranker showed, list by list."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.novelty: list[float] = []
        self.diversity: list[float] = []
        self.shown: Counter[str] = Counter()

    def add(self, items: Sequence[str], asked: ListAsked, held: Mapping[str, int], sessions: int) -> None:
        """Count a list; `held` says how many of the `sessions` so far held an item."""
        self.ranks.append(items.index(asked.target) + 1 if asked.target in items else 0)
        self.shown.update(items)
        surprises = [metrics.surprise(held.get(item, 0), sessions) for item in items]
        self.novelty.append(float(np.mean(surprises)) if surprises else float("nan"))
        slots = [slot for item in items if (slot := asked.context.items.slot(item)) is not None]
        vectors = asked.context.space.vectors[slots]
        self.diversity.append(metrics.intra_list_diversity(vectors))


class Measured(NamedTuple):
    """A finished run; `lists_sha256` is a digest of all lists that went out."""

    window: Window
    asked: Asked
    rankers: Mapping[str, Tally]
    lists_sha256: str
    learnt_every: int
    ranking: str
    warnings: Counter[str]
    new_items: NewItems
    left_out: LeftOut


def run(
    sessions: Sequence[Session],
    vectors: Vectors,
    window: Window,
    ranking: Ranking,
    policy: Policy = POLICY,
    *,
    plain: bool = True,
    warm_up_lists: int = WARM_UP_LISTS,
    known_until_ms: int = 0,
    progress: Callable[[int], None] = lambda done: None,
    watch: Watch | None = None,
    beside: Beside = (),
) -> Measured:
    """Replay a log and measure the lists of the window.

    Args:
        sessions: in order.
        vectors: of the items' texts.
        policy: its `list_length` is taken from the window.
        plain: whether to rank plainly beside it, see `stream.evaluation.baselines`.
        known_until_ms: what began before is not learnt from, since the ranking learnt it already.
        progress: is told how many sessions have ended.
        beside: what else is released of the signals, for what watches.
    """
    policy = _with_length(policy, window.at)
    sessions = [one for one in sessions if window.to_ms is None or one.minute_ms < window.to_ms]
    settled_ms = settled_from_ms(sessions, window)
    every = learnt_every(sessions, window, warm_up_lists, settled_ms) if ranking.learns else 0
    choice = _Choice(window, every, max(known_until_ms, settled_ms))
    baselines: dict[str, Baseline] = _baselines(window.at) if plain else {}
    rankers = {LIST: Tally(), **{name: Tally() for name in baselines}}
    asked_all = Asked()
    to_learn: defaultdict[str, list[tuple[FloatArray, int]]] = defaultdict(list)
    held: Counter[str] = Counter()
    ended = 0
    digest = hashlib.sha256()
    warnings: Counter[str] = Counter()
    new_items, left_out = NewItems(policy), LeftOut()

    def learnt(session: Session) -> None:
        nonlocal ended
        ended += 1
        for rows, target in to_learn.pop(session.session_id, ()):
            ranking.learn(rows, target)
        items = session.items
        held.update(items)
        for baseline in baselines.values():
            baseline.learn(items)
        if ended % 50 == 0 or ended == len(sessions):
            progress(ended)

    for asked in replay(sessions, vectors, choice.wanted, learnt, policy, _release_of(policy), beside):
        place = target_of(asked)
        rows = features(asked.context, asked.candidates)
        if choice.measured:
            scores = ranking.score(rows)
            left_out.note(asked.candidates, rows, scores, place, ranking.score)
            made = compose(asked.context, asked.candidates, scores, policy, NO_RULES, seed_of(asked))
            new_items.watch(asked, scores, made)
            if watch is not None:
                watch(asked, scores, made)
            warnings.update(made.warnings)
            slots = asked.candidates.slots[[chosen.position for chosen in made.chosen]]
            items = [asked.context.items.at(int(slot)).item_id for slot in slots]
            items = [item for item in items if item not in asked.shown]
            line = "\t".join((asked.session.session_id, asked.shown[-1], *items, "\n")).encode()
            digest.update(line)
            asked_all.digests.append(hashlib.sha256(line).hexdigest())
            rankers[LIST].add(items, asked, held, ended)
            for name, baseline in baselines.items():
                rankers[name].add(baseline.rank(asked.shown), asked, held, ended)
            _note(asked_all, asked, scores, place)
        if ranking.learns and place is not None:
            keep = ~asked.candidates.seen
            to_learn[asked.session.session_id].append((rows[keep], int(keep[:place].sum())))
    return Measured(
        window=window,
        asked=asked_all,
        rankers=rankers,
        lists_sha256=digest.hexdigest(),
        learnt_every=every,
        ranking=ranking.says,
        warnings=warnings,
        new_items=new_items,
        left_out=left_out,
    )


def _release_of(policy: Policy) -> Release | None:
    """How a policy has signals released.

    Raises:
        ConfigError: what adds noise is not installed.
    """
    if not policy.release.epsilon:
        return None
    from stream.adapters.opendp_noise import ThresholdedGaussian  # of an extra

    return ThresholdedGaussian(policy.release).release


def settled_from_ms(sessions: Sequence[Session], window: Window) -> int:
    """From when on to learn: the middle of what lies before the window.

    A log begins without counts and histories, so features of its first lists look unlike what they will be.
    """
    begin_ms = min((session.minute_ms for session in sessions), default=window.from_ms)
    return begin_ms + max(0, window.from_ms - begin_ms) // 2


def learnt_every(
    sessions: Sequence[Session], window: Window, lists: int = WARM_UP_LISTS, since_ms: int = 0
) -> int:
    """Of every how many sessions to learn from, so that those from `since_ms` to the window have `lists`."""
    there = sum(
        min(len(session.items) - 1, LISTS_PER_SESSION)
        for session in sessions
        if since_ms <= session.minute_ms < window.from_ms
    )
    return max(1, round(there / lists)) if lists else 0


def target_of(asked: ListAsked) -> int | None:
    """The place of the right item among the candidates."""
    slot = asked.context.items.slot(asked.target)
    if slot is None:
        return None
    places = np.flatnonzero(asked.candidates.slots == slot)
    return int(places[0]) if len(places) else None


class _Choice:
    """Which sessions are asked: those to be measured, and those to be learnt from."""

    def __init__(self, window: Window, learnt_every: int, known_until_ms: int) -> None:
        self._window = window
        self._learnt_every = learnt_every
        self._known_until_ms = known_until_ms
        self._seen = 0
        self._in_window = 0
        self.measured = False
        """Of the session that was asked about last."""

    def wanted(self, session: Session) -> bool:
        self.measured = False
        if len(session.items) < 2:
            return False
        self._seen += 1
        if session.minute_ms >= self._window.from_ms:
            self._in_window += 1
            self.measured = self._in_window % self._window.every == 0
        known = not self._learnt_every or session.minute_ms < self._known_until_ms
        return self.measured or (not known and self._seen % self._learnt_every == 0)


def _baselines(at: int) -> dict[str, Baseline]:
    knn = ItemKnn(length=at)
    return {
        "popularity": Popularity(at),
        "item_knn": knn,
        "item_knn_recency": ItemKnn(KNN_RECENCY, at, knn),
    }


def _note(into: Asked, asked: ListAsked, scores: FloatArray, place: int | None) -> None:
    candidates = asked.candidates
    into.sessions.append(asked.session.session_id)
    into.positions.append(len(asked.shown))
    into.sessions_before.append(asked.sessions_before)
    into.guests.append(not asked.session.user_id)
    into.offered.append(0 if place is None else int(candidates.offered[place]))
    better = 0 if place is None else int((scores[~candidates.seen] > scores[place]).sum())
    into.union_ranks.append(0 if place is None else better + 1)
    into.counts.append(len(candidates))
    into.per_source += [int(candidates.by(offer).sum()) for offer in OFFERS]
    into.catalogue = len(asked.context.items)


def seed_of(asked: ListAsked) -> int:
    """What chance is drawn from for a list: the same list, the same chance, as in a worker."""
    return listing.seed_of(asked.recommendation_id)


def _with_length(policy: Policy, length: int) -> Policy:
    return msgspec.structs.replace(policy, list_length=length)


def figures(measured: Measured, seed: int = 0) -> dict[str, Any]:
    """All figures as JSON values; those of the lists that went out come first.

    Intervals hold 95 of 100 resamples of the sessions (`stream.evaluation.intervals`). Coverage and Gini have
    none: a resample shows fewer different items than all lists do, so it would lie beside the figure.
    """
    asked, window = measured.asked, measured.window
    if not asked.sessions:
        raise ValueError("no lists in the window")
    groups = np.array(asked.sessions)
    rankers = {
        name: _of_ranker(tally, asked, window.at, groups, seed) for name, tally in measured.rankers.items()
    }
    own, plain = rankers.pop(LIST), rankers
    ranks = np.array(measured.rankers[LIST].ranks)
    found: dict[str, Any] = {
        **own,
        "lists": len(ranks),
        "sessions": len(np.unique(groups)),
        "baselines": plain,
    }
    if plain:
        found["gain_over"] = _gains(measured, groups, seed)
    found["candidates"] = _candidates(asked)
    lost = measured.left_out.figures(window.at, groups, seed)
    found["sources"] = {
        name: {**row, "lost_without": lost[name]} for name, row in _sources(asked, ranks, window.at).items()
    }
    found["history"] = _parts(_by_history(asked), ranks, window.at, groups, seed)
    found["after_events"] = _parts(_by_position(asked), ranks, window.at, groups, seed)
    found["new_items"] = measured.new_items.figures(window.at, seed)
    found["hit_rate_by_position"] = {
        name: _by_each_position(metrics.hits(np.array(tally.ranks), window.at), asked)
        for name, tally in measured.rankers.items()
    }
    found["ranking"] = measured.ranking
    found["learnt_from_every"] = measured.learnt_every
    found["warnings"] = dict(measured.warnings)
    found["lists_sha256"] = measured.lists_sha256
    return found


def _of_ranker(tally: Tally, asked: Asked, at: int, groups: NDArray[Any], seed: int) -> dict[str, Any]:
    ranks = np.array(tally.ranks)
    per_list = {
        f"hr_at_{at}": metrics.hits(ranks, at),
        f"mrr_at_{at}": metrics.reciprocal_ranks(ranks, at),
        f"ndcg_at_{at}": metrics.gains(ranks, at),
        "novelty": np.array(tally.novelty),
        "intra_list_diversity": np.array(tally.diversity),
    }
    intervals = {
        name: _interval(values, groups, seed)
        for name, values in per_list.items()
        if not np.isnan(values).all()
    }
    values: dict[str, Any] = {name: metrics.mean(column) for name, column in per_list.items()}
    values["coverage"] = round(metrics.coverage(tally.shown.values(), asked.catalogue), 4)
    values["gini"] = round(metrics.gini(tally.shown.values(), asked.catalogue), 4)
    order = [name for name in per_list if "_at_" in name]
    order += ["coverage", "novelty", "intra_list_diversity", "gini"]
    return {**{name: values[name] for name in order}, "intervals": intervals}


def _interval(values: metrics.Floats, groups: NDArray[Any], seed: int) -> dict[str, float]:
    known = ~np.isnan(values)
    found = Bootstrap(values[known], groups[known], seed, RESAMPLES).mean().rounded()
    return {"low": found["low"], "high": found["high"]}


def _gains(measured: Measured, groups: NDArray[Any], seed: int) -> dict[str, Any]:
    """How much more the lists hold than those of each plain ranker, paired list by list."""
    at = measured.window.at
    gains: dict[str, Any] = {}
    own = np.array(measured.rankers[LIST].ranks)
    for name, tally in measured.rankers.items():
        if name != LIST:
            gains[name] = paired(own, np.array(tally.ranks), at, groups, seed)
    return gains


def paired(
    ranks: metrics.Ranks, others: metrics.Ranks, at: int, groups: NDArray[Any], seed: int = 0
) -> dict[str, Any]:
    """Differences of the figures of two rankings of the same lists, with intervals by session."""
    found = {}
    for name, measure in (
        (f"hr_at_{at}", metrics.hits),
        (f"mrr_at_{at}", metrics.reciprocal_ranks),
        (f"ndcg_at_{at}", metrics.gains),
    ):
        table = np.stack([measure(ranks, at), measure(others, at)], axis=1)
        found[name] = Bootstrap(table, groups, seed, RESAMPLES).difference(0, 1).rounded()
    return found


def _candidates(asked: Asked) -> dict[str, Any]:
    union = np.array(asked.union_ranks)
    return {
        "mean": round(float(np.mean(asked.counts)), 1),
        "recall": metrics.mean(union > 0),
        f"recall_at_{UNION_AT}": metrics.mean((union > 0) & (union <= UNION_AT)),
    }


def _sources(asked: Asked, ranks: metrics.Ranks, at: int) -> dict[str, Any]:
    """For each source its candidates a list, and how often they held the right item, alone or in a hit."""
    offered = np.array(asked.offered)
    hit = metrics.hits(ranks, at) > 0
    return {
        offer: {
            "candidates": round(float(asked.per_source[bit]) / len(offered), 1),
            "recall": metrics.mean(offered & (1 << bit) > 0),
            "recall_only_by_it": metrics.mean(offered == 1 << bit),
            "share_of_hits": metrics.mean(offered[hit] & (1 << bit) > 0),
        }
        for bit, offer in enumerate(OFFERS)
    }


def _by_history(asked: Asked) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    before, guests = np.array(asked.sessions_before), np.array(asked.guests)
    yield "first_session", before == 0
    yield "first_session_guests", guests
    yield "first_session_known_users", (before == 0) & ~guests
    yield f"few_sessions_1_to_{FEW_SESSIONS}", (before > 0) & (before <= FEW_SESSIONS)
    yield f"many_sessions_{FEW_SESSIONS + 1}_on", before > FEW_SESSIONS


def _by_position(asked: Asked) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    positions = np.array(asked.positions)
    for position in (1, 2, 3):
        yield str(position), positions == position
    yield f"4_to_{LISTS_PER_SESSION}", positions > 3


def _by_each_position(hit: metrics.Floats, asked: Asked) -> list[float | None]:
    positions = np.array(asked.positions)
    return [metrics.mean(hit[positions == position]) for position in range(1, LISTS_PER_SESSION + 1)]


def _parts(
    parts: Iterator[tuple[str, NDArray[np.bool_]]],
    ranks: metrics.Ranks,
    at: int,
    groups: NDArray[Any],
    seed: int,
) -> dict[str, Any]:
    found = {}
    for name, chosen in parts:
        hit = metrics.hits(ranks[chosen], at)
        found[name] = {
            "lists": int(chosen.sum()),
            f"hr_at_{at}": metrics.mean(hit),
            f"mrr_at_{at}": metrics.mean(metrics.reciprocal_ranks(ranks[chosen], at)),
            "interval": _interval(hit, groups[chosen], seed) if len(hit) else None,
        }
    return found
