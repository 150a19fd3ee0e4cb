"""`train reranker` and `evaluate reranker`: a listwise network on real sales, and its figures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import stream.core.blend
from model_factory import manifest, reranker_training, served
from model_factory.reranker_training import Lists
from stream.core.candidates import OFFERS
from stream.core.items import FloatArray
from stream.core.ranking import CLIP, FEATURES, features, select
from stream.errors import WrongFile
from stream.evaluation.baselines import Baseline, ItemKnn, Popularity
from stream.evaluation.log import read_online_retail
from stream.evaluation.replay import POLICY, ListAsked, replay
from stream.evaluation.sessions import Session, texts

START_MS, END_MS = (int(datetime(2011, month, 1, tzinfo=UTC).timestamp() * 1000) for month in (6, 9))
"""The window that is evaluated; training uses what lies before it."""
EVALUATED_EVERY = 8
"""Of the sessions in the window with two items or more."""
EPOCHS = 4
CITATION = (
    "Online Retail II, UCI Machine Learning Repository 502, CC BY 4.0; "
    "Chen, Sain, Guo 2012, doi:10.1057/dbm.2012.17"
)

Floats = NDArray[np.float32]
Scorer = Callable[[Floats], Floats]

console = Console(stderr=True)

Events = Annotated[
    Path, typer.Option(help="events.csv.gz of Online Retail II, see `streamrec replay --help`.", exists=True)
]
Json = Annotated[
    str | None, typer.Option("--json", help="Write the figures to this file; - for standard output.")
]


def train_reranker(
    events: Events,
    every: Annotated[int, typer.Option(help="Learn from every n-th session before the window.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the weights' start and the order of lists.")] = 0,
    model: Annotated[Path, typer.Option(help="Folder of 1/, which is written.")] = served.MODEL_REPOSITORY
    / "reranker",
    blend: Annotated[Path, typer.Option(help="Python file of the linear weights, which is written.")] = Path(
        stream.core.blend.__file__
    ),
    json_: Json = None,
) -> None:
    """Train the reranker and the linear blend on sales before June 2011, and measure them on those after.

    Example: model-factory train reranker --events ../shared/data/online_retail/events.csv.gz
    """
    lists = Lists()
    figures = Figures()
    scorers: dict[str, Scorer] = {}
    with Progress(console=console) as progress:
        for asked in _asked(events, figures, every, progress):
            if asked.session.minute_ms < START_MS:
                _learn_from(asked, lists)
                continue
            if not scorers:
                scorers = _train(lists, seed, model, blend, progress)
            figures.add(asked, scorers)
    made = f"model-factory train reranker --events events.csv.gz --every {every} --seed {seed}"
    found = {"lists_learnt": len(lists.targets), **figures.found()}
    manifest.write(
        model / "1",
        ["weights.npz"],
        ["numpy"],
        origin=f"Trained from nothing on sales before 2011-06-01: {CITATION}",
        licence="Apache-2.0 (the weights); CC BY 4.0 (the data)",
        made=made,
        measured=[
            {
                "metric": f"next item {name}, sales of June to August 2011",
                "data": manifest.sha256(events),
                "value": found["rankers"]["reranker"][name],
            }
            for name in ("hr@20", "mrr@20")
        ],
        figures=found,
    )
    _show(found, json_)


def evaluate_reranker(
    events: Events,
    model: Annotated[
        Path, typer.Option(help="Folder of the model, whose version 1 is measured.", exists=True)
    ] = served.MODEL_REPOSITORY / "reranker",
    json_: Json = None,
) -> None:
    """Measure the next item on sales from June to August 2011: the reranker, the blend, plain rankers.

    Example: model-factory evaluate reranker --events ../shared/data/online_retail/events.csv.gz --json -
    """
    network = served.reranker_network().load(model / "1" / "weights.npz")
    blend = stream.core.blend
    scorers = {
        "reranker": network.score,
        "linear blend": _linear(blend.CENTRE, blend.SPREAD, blend.WEIGHTS),
    }
    figures = Figures()
    with Progress(console=console) as progress:
        for asked in _asked(events, figures, 0, progress):
            figures.add(asked, scorers)
    _show(figures.found(), json_)


class Figures:
    """Hit rates and reciprocal ranks of all rankers on the same lists, and what the candidates hold."""

    def __init__(self) -> None:
        self._baselines: dict[str, Baseline] = {
            "popularity": Popularity(),
            "item-kNN": ItemKnn(),
            "item-kNN, recency .8^age": ItemKnn(0.8),
        }
        self._ranks: defaultdict[str, list[int]] = defaultdict(list)
        self._guest: list[bool] = []
        self._count: list[int] = []
        self._sources: list[int] = []
        self._per_source = np.zeros(len(OFFERS))

    def learn(self, session: Session) -> None:
        """Show a finished session to the plain rankers."""
        for baseline in self._baselines.values():
            baseline.learn(session.items)

    def add(self, asked: ListAsked, scorers: Mapping[str, Scorer]) -> None:
        """Rank one list with every ranker."""
        context, candidates = asked.context, asked.candidates
        rows = features(context, candidates)
        for name, baseline in self._baselines.items():
            self._rank(name, baseline.rank(asked.shown), asked.target)
        for name, score in scorers.items():
            chosen = select(context, candidates, score(rows), POLICY)
            items = [context.items.at(int(candidates.slots[position])).item_id for position, _ in chosen]
            self._rank(name, [item for item in items if item not in asked.shown], asked.target)
        place = _target(asked)
        self._sources.append(0 if place is None else int(candidates.offered[place]))
        self._guest.append(not asked.session.user_id)
        self._count.append(len(candidates))
        self._per_source += [candidates.by(offer).sum() for offer in OFFERS]

    def _rank(self, name: str, ranked: Sequence[str], target: str) -> None:
        self._ranks[name].append(ranked.index(target) + 1 if target in ranked else 0)

    def found(self) -> dict[str, Any]:
        """All figures as JSON values, rounded to four places."""
        guest, named = np.array(self._guest), np.array(self._sources)
        figures: dict[str, Any] = {
            "window": "2011-06-01 to 2011-08-31, every 8th session, up to 19 lists a session",
            "lists": len(guest),
            "rankers": {},
            "candidates": {"mean": round(float(np.mean(self._count)), 1), "recall": _mean(named > 0)},
            "sources": {},
        }
        for name, ranks in self._ranks.items():
            rank = np.array(ranks)
            gain = np.where(rank > 0, 1 / np.maximum(rank, 1), 0.0)
            figures["rankers"][name] = {
                "hr@20": _mean(rank > 0),
                "mrr@20": _mean(gain),
                "hr@20 customers": _mean(rank[~guest] > 0),
                "hr@20 guests": _mean(rank[guest] > 0),
            }
        for bit, offer in enumerate(OFFERS):
            figures["sources"][offer] = {
                "mean": round(float(self._per_source[bit] / len(guest)), 1),
                "recall": _mean(named & (1 << bit) > 0),
                "recall only by it": _mean(named == 1 << bit),
            }
        return figures


def _asked(events: Path, figures: Figures, every: int, progress: Progress) -> Iterator[ListAsked]:
    """Replay with progress: lists of every n-th session before the window, and of the window's."""
    seen = {"before": 0, "in": 0}

    def wanted(session: Session) -> bool:
        if len(session.items) < 2 or session.minute_ms >= END_MS:
            return False
        part = "in" if session.minute_ms >= START_MS else "before"
        seen[part] += 1
        step = EVALUATED_EVERY if part == "in" else every
        return step > 0 and seen[part] % step == 0

    reading = progress.add_task("reading the sales", total=events.stat().st_size)
    try:
        sessions = read_online_retail([events], None, lambda done: progress.update(reading, completed=done))
    except WrongFile as error:
        raise typer.BadParameter(str(error)) from None
    progress.update(reading, completed=events.stat().st_size)
    vectors = _vectors(texts(sessions), progress)
    playing = progress.add_task("replaying sessions", total=len(sessions))

    def learnt(session: Session) -> None:
        figures.learn(session)
        progress.advance(playing)

    yield from replay(sessions, vectors, wanted, learnt)


def _vectors(texts: Sequence[str], progress: Progress) -> dict[str, FloatArray]:
    """Vectors of texts by the encoder that serves; those of like length go together."""
    try:
        encoder = served.load_encoder(served.ENCODER)
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    ordered = sorted(texts, key=len)
    vectors: dict[str, FloatArray] = {}
    parts = [ordered[start : start + served.BATCH] for start in range(0, len(ordered), served.BATCH)]
    for part in progress.track(parts, description="encoding titles"):
        vectors.update(zip(part, encoder.encode(part), strict=True))
    return vectors


def _target(asked: ListAsked) -> int | None:
    """The place of the right item among the candidates."""
    slot = asked.context.items.slot(asked.target)
    if slot is None:
        return None
    places = np.flatnonzero(asked.candidates.slots == slot)
    return int(places[0]) if len(places) else None


def _learn_from(asked: ListAsked, lists: Lists) -> None:
    """Keep a list whose candidates hold the right item; items of the session are masked."""
    place = _target(asked)
    if place is not None:
        keep = ~asked.candidates.seen
        rows = features(asked.context, asked.candidates)[keep]
        lists.add(rows, int(keep[:place].sum()))


def _train(lists: Lists, seed: int, model: Path, blend: Path, progress: Progress) -> dict[str, Scorer]:
    """Train both, write what serves, and return how each scores."""
    centre, spread = reranker_training.standardisation(lists, seed)
    fitted = []
    for name, hidden in (("reranker", reranker_training.HIDDEN), ("linear blend", 0)):
        task = progress.add_task(f"training the {name}", total=EPOCHS * len(lists.targets))
        advance = partial(progress.advance, task)
        fitted.append(
            reranker_training.fit(
                lists, centre, spread, hidden=hidden, epochs=EPOCHS, seed=seed, progress=advance
            )
        )
    network = served.reranker_network()(features=FEATURES, centre=centre, spread=spread, **fitted[0])
    (model / "1").mkdir(parents=True, exist_ok=True)
    network.save(model / "1" / "weights.npz")
    _write_blend(blend, centre, spread, fitted[1]["linear"])
    return {"reranker": network.score, "linear blend": _linear(centre, spread, fitted[1]["linear"])}


def _linear(centre: Floats, spread: Floats, weights: Floats) -> Scorer:
    return lambda rows: np.clip((rows - centre) / spread, -CLIP, CLIP) @ weights


def _write_blend(path: Path, centre: Floats, spread: Floats, weights: Floats) -> None:
    """Write the linear weights as the module that `stream.core` imports."""
    columns = "\n".join(
        f"{name}: FloatArray = np.array(\n    [\n"
        + "\n".join(
            f"        {value!r},  # {feature}"
            for value, feature in zip(_floats(values), FEATURES, strict=True)
        )
        + "\n    ],\n    np.float32,\n)\n"
        for name, values in (("WEIGHTS", weights), ("CENTRE", centre), ("SPREAD", spread))
    )
    path.write_text(
        '"""Linear weights of the features, trained beside the reranker, for where it cannot be asked.\n\n'
        "Written by `model-factory train reranker`; not to be edited. Each in the order of\n"
        "`stream.core.ranking.FEATURES`: a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.\n"
        '"""\n\nimport numpy as np\n\nfrom stream.core.items import FloatArray\n\n' + columns
    )


def _floats(values: Floats) -> list[float]:
    """The shortest decimals, of six digits at most."""
    return [float(f"{value:.6g}") for value in values]


def _mean(values: NDArray[Any]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else 0.0


def _show(figures: dict[str, Any], json_: str | None) -> None:
    if json_ == "-":
        typer.echo(json.dumps(figures, indent=2))
        return
    if json_:
        Path(json_).write_text(json.dumps(figures, indent=2) + "\n")
    rankers = Table("ranker", "HR@20", "MRR@20", "HR@20 customers", "HR@20 guests")
    for name, figure in figures["rankers"].items():
        rankers.add_row(name, *(f"{value:.3f}" for value in figure.values()))
    sources = Table("source", "candidates", "holds the next item", "alone does")
    for name, figure in figures["sources"].items():
        sources.add_row(
            name, f"{figure['mean']:.0f}", f"{figure['recall']:.3f}", f"{figure['recall only by it']:.3f}"
        )
    held = figures["candidates"]
    sources.add_row("together", f"{held['mean']:.0f}", f"{held['recall']:.3f}", "")
    Console().print(rankers, sources, f"{figures['lists']} lists, {figures['window']}")
