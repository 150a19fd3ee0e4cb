"""What another policy would be worth, from lists that were shown and what was clicked in them.

A list's value is the sum of its outcomes. Whether an item gets one is taken not to depend on its place or on
its neighbours, so each item counts by how likely either policy is to show it:

- `ips`, inverse propensity scoring: outcomes weighted by w = probability under the other policy / under the
  one that was logged (Horvitz, Thompson, JASA 1952);
- `snips`, self-normalised: the weighted mean outcome times the items the other policy shows (Swaminathan,
  Joachims, "The self-normalized estimator for counterfactual learning", NeurIPS 2015);
- `dr`, doubly robust: a model of the outcome, put right by the weighted errors it makes on what was shown
  (Dudik, Langford, Li, "Doubly robust policy evaluation and learning", ICML 2011). The model is the mean
  outcome of items of like score, fitted on the other half of the lists.

Intervals are normal, from the spread over shoppers; that of `snips` by linearisation. None of these can know
what the logged policy never shows: `unsupported` says how much of the other policy that is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from stream.core import exploration
from stream.core.exploration import Known
from stream.core.policy import Policy
from stream.errors import WrongFile

Z = 1.959964
"""Standard errors to either side that hold 95 of 100 normal draws."""
BINS = 10
"""Groups of like score in the model of the outcome."""
PRIOR = 20.0
"""Items of the mean outcome that each group is shrunk by."""
LEAST_SUPPORT = 0.99
FEWEST_EFFECTIVE = 200.0

Probability = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Floats = NDArray[np.float64]


class LoggedCandidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item that a list could have shown."""

    item_id: str
    """The product."""
    score: float
    """The final score, a logarithm of probability up to a constant."""
    propensity: Probability
    """The probability with which the logged policy shows it in this list; 0 where it never does."""
    shown: bool = False
    """Whether the list showed it."""
    outcome: float = 0.0
    """What came of it: 1 for a click, or any other worth."""
    clicks: Amount = 0.0
    """Clicks of the item before this list, where another policy explores by them."""
    showings: Amount = 0.0
    """How often it was shown before, at least as often."""
    new: bool = False
    """Whether it was new."""


class LoggedOutcome(msgspec.Struct, frozen=True):
    """One line of a log: a list that was made, and what came of it."""

    list_id: str
    """Names the list."""
    user_id: str
    """The shopper; lists of one shopper are not independent."""
    candidates: Annotated[list[LoggedCandidate], Meta(min_length=1)]
    """What could have been shown, in the order of the list without chance, best first."""


class Log(NamedTuple):
    """Logged lists as columns, one row a candidate of a list.

    `lists` numbers the list of each row from 0, `groups` [lists] the shopper of each list. `target` is the
    probability under the policy to be evaluated.
    """

    lists: NDArray[np.intp]
    groups: NDArray[np.intp]
    scores: Floats
    propensity: Floats
    target: Floats
    shown: NDArray[np.bool_]
    outcome: Floats


class Estimate(NamedTuple):
    """The value of a list, and bounds that hold the true one in about 95 of 100 logs."""

    value: float
    low: float
    high: float


class Evaluated(NamedTuple):
    """The estimates; `logged` is the plain mean of the log, the value of the policy that made it.

    `effective_items` is how many equally weighted shown items would tell as much, `unsupported` the share of
    what the other policy shows that the logged one never does.
    """

    ips: Estimate
    snips: Estimate
    dr: Estimate
    logged: Estimate
    effective_items: float
    largest_weight: float
    unsupported: float
    warnings: list[str]


def read(path: Path, policy: Policy, progress: Callable[[int], None] = lambda done: None) -> Log:
    """Read a log as JSON lines and find what another policy would show in each list.

    Args:
        policy: its exploration and length are taken; scores and their order are those of the log.
        progress: is told the bytes read so far.

    Raises:
        WrongFile: a line is not as `LoggedOutcome` says, or there is none.
    """
    decoder = msgspec.json.Decoder(LoggedOutcome)

    def lines() -> Iterable[LoggedOutcome]:
        done = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                done += len(line)
                if number % 200 == 0:
                    progress(done)
                if line.strip():
                    try:
                        yield _checked(decoder.decode(line))
                    except (msgspec.DecodeError, ValueError) as error:
                        raise WrongFile(f"{path}, line {number}: {error}") from None

    try:
        return laid_out(lines(), policy)
    except OSError as error:
        raise WrongFile(f"{path}: {error.strerror}") from None
    except IndexError:
        raise WrongFile(f"{path}: no line holds a list; see `streamrec evaluate off-policy --help`") from None


def laid_out(lines: Iterable[LoggedOutcome], policy: Policy) -> Log:
    """Lay out logged lists as columns beside what another policy would show.

    Raises:
        IndexError: there are no lists.
    """
    groups: dict[str, int] = {}
    of_list, columns, targets, numbers = [], [], [], []
    for number, line in enumerate(lines):
        rows = line.candidates
        columns.append([(one.score, one.propensity, one.shown, one.outcome) for one in rows])
        targets.append(target_of(line, policy))
        of_list.append(np.full(len(rows), number, np.intp))
        numbers.append(groups.setdefault(line.user_id, len(groups)))
    if not columns:
        raise IndexError
    table = np.concatenate([np.array(rows, np.float64) for rows in columns])
    scores, propensity, shown, outcome = table.T
    return Log(
        np.concatenate(of_list),
        np.array(numbers, np.intp),
        scores,
        propensity,
        np.concatenate(targets),
        shown > 0,
        outcome,
    )


def target_of(line: LoggedOutcome, policy: Policy) -> Floats:
    """The probability of each candidate [N] of a logged list to be shown by a policy."""
    rows = line.candidates
    known = Known(
        np.array([one.score for one in rows]),
        np.array([one.clicks for one in rows]),
        np.array([max(one.showings, one.clicks) for one in rows]),
        np.array([one.new for one in rows], np.bool_),
    )
    return showing(known, policy)


def showing(known: Known, policy: Policy) -> Floats:
    """The probability with which a policy shows each candidate [N]; those come best first."""
    count = len(known.scores)
    listed = list(range(min(count, policy.list_length)))
    found = np.zeros(count)
    found[listed] = 1.0
    spare = np.arange(len(listed), count)
    for slot in exploration.slots(listed, spare, known.new, policy.exploration):
        found[slot.regular] = 1.0 - policy.exploration.share
        found[slot.pool] = exploration.chances(slot, known, policy.exploration)
    return found


def evaluated(log: Log) -> Evaluated:
    """Estimate the value of the other policy from a log, and say how far to trust it."""
    count = len(log.groups)
    shown = log.shown
    of_shown = log.lists[shown]
    weights = log.target[shown] / log.propensity[shown]
    outcome = log.outcome[shown]
    model = _fitted(log)

    def by_list(values: Floats, lists: NDArray[np.intp]) -> Floats:
        return np.bincount(lists, values, minlength=count).astype(np.float64)

    weighted = by_list(weights * outcome, of_shown)
    errors = by_list(weights * (outcome - model[shown]), of_shown)
    expected = by_list(log.target * model, log.lists)
    in_lists, items = by_list(weights, of_shown), by_list(log.target, log.lists)
    effective = float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))
    unsupported = float(log.target[log.propensity <= 0].sum() / max(log.target.sum(), 1e-12))
    largest = float(weights.max(initial=0.0))
    return Evaluated(
        ips=_mean(weighted, log.groups),
        snips=_self_normalised(weighted, in_lists, items, log.groups),
        dr=_mean(expected + errors, log.groups),
        logged=_mean(by_list(outcome, of_shown), log.groups),
        effective_items=effective,
        largest_weight=largest,
        unsupported=unsupported,
        warnings=_warnings(effective, unsupported, count),
    )


def figures(found: Evaluated) -> dict[str, Any]:
    """The estimates as JSON values."""
    return {
        name: {part: round(number, 6) for part, number in value._asdict().items()}
        if isinstance(value, Estimate)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for name, value in found._asdict().items()
    }


def _checked(line: LoggedOutcome) -> LoggedOutcome:
    for one in line.candidates:
        if one.shown and one.propensity <= 0:
            raise ValueError(f"{one.item_id} was shown, so its propensity is above 0")
        if not (np.isfinite(one.score) and np.isfinite(one.outcome)):
            raise ValueError(f"{one.item_id}: score and outcome must be finite")
    return line


def _fitted(log: Log) -> Floats:
    """The outcome expected of each row [n]: the mean at a like score, in the other half of the lists."""
    half = np.array([zlib.crc32(b"%d" % group) & 1 for group in log.groups])[log.lists]
    model = np.zeros(len(log.scores))
    for side in (0, 1):
        learnt = log.shown & (half != side)
        if not learnt.any():
            learnt = log.shown
        mean = float(log.outcome[learnt].mean()) if learnt.any() else 0.0
        edges = np.quantile(log.scores[learnt], np.linspace(0, 1, BINS + 1)[1:-1]) if learnt.any() else []
        bins = np.searchsorted(edges, log.scores)
        sums = np.bincount(bins[learnt], log.outcome[learnt], minlength=BINS)
        counts = np.bincount(bins[learnt], minlength=BINS)
        model[half == side] = ((sums + PRIOR * mean) / (counts + PRIOR))[bins[half == side]]
    return model


def _mean(values: Floats, groups: NDArray[np.intp]) -> Estimate:
    """The mean over lists, with an interval over shoppers."""
    value = float(values.mean())
    return _interval(value, values - value, groups)


def _self_normalised(weighted: Floats, weights: Floats, items: Floats, groups: NDArray[np.intp]) -> Estimate:
    total = float(weights.mean())
    if total <= 0:
        return Estimate(0.0, 0.0, 0.0)
    rate, shown = float(weighted.mean()) / total, float(items.mean())
    influence = (weighted - rate * weights) * shown / total + rate * (items - shown)
    return _interval(rate * shown, influence, groups)


def _interval(value: float, influence: Floats, groups: NDArray[np.intp]) -> Estimate:
    """The normal interval of a mean of `influence`, whose parts of one group belong together."""
    sums = np.bincount(groups, influence)
    many = len(sums) / max(len(sums) - 1, 1)
    error = float(np.sqrt((sums**2).sum() * many)) / len(influence)
    return Estimate(value, value - Z * error, value + Z * error)


def _warnings(effective: float, unsupported: float, lists: int) -> list[str]:
    found = []
    if unsupported > 1.0 - LEAST_SUPPORT:
        found.append(
            f"{unsupported:.1%} of what the policy shows is never shown by the logged one: ips and snips "
            "know nothing of it, and dr only what its model guesses; log with more exploration"
        )
    if effective < FEWEST_EFFECTIVE:
        found.append(
            f"the weights leave as much as {effective:.0f} shown items tell, from {lists} lists: log more, "
            "or ask for a policy that is nearer to the logged one"
        )
    return found
