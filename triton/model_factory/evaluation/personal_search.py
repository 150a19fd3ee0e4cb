"""What a shopper's taste does to a shop's own search results: nDCG@10 with and without, and why not worse.

The catalogue and the grades are real, the shoppers are made up: no open log holds searches together with
what those who searched did before. A shopper viewed some products in one session and then searches; the
results are the judged products of the search that the shopper did not view, in the order of their ids. In
both orders that are compared the same products are ranked. Nothing is known of what goes with what in this
shop, so taste is what products say themselves; an engine that learnt from sessions has more to go by.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import served
from model_factory.evaluation import inputs, report
from model_factory.evaluation.inputs import Product
from model_factory.evaluation.search import CrossEncoder, Judged, ndcg, read_judged
from model_factory.evaluation.vectors import Encoder
from stream.adapters.lexical_index import LexicalIndex
from stream.core import candidates, personal_search, ranking
from stream.core.candidates import Candidates
from stream.core.context import Context, Hits, session_vector, taste_vector
from stream.core.disguise import clean_query
from stream.core.events import ClickEvent, Line, Source
from stream.core.items import FloatArray, Item, ItemTable
from stream.core.policy import DEFAULT_POLICY, MINUTE_MS
from stream.core.search import CROSS_BEST
from stream.core.signals import NEGLIGIBLE, POPULARITY_DAYS
from stream.core.spelling import Vocabulary
from stream.core.state import Search, UserState, apply, empty
from stream.core.vectors import ItemVectors
from stream.evaluation.intervals import LEVEL, RESAMPLES, Bootstrap
from stream.models.loading import Network, load_reranker

AT_MS = 1_700_000_000_000
"""When everything is searched; only differences of times matter."""

SHOPPERS = {
    "stranger": "viewed nothing",
    "unrelated": "viewed products that are judged for other searches only",
    "leaning": "viewed products of grade 2 or 3 of this search, which are not ranked",
    "leaning_brand": "viewed products of other searches, of the brand that most products of grade 3 have",
    "opposed": "viewed products of grade 0 of this search, which are not ranked",
}
RELEVANT = 2.0
MOST_RELEVANT = 3.0


def evaluate_personal_search(
    products: Annotated[Path, typer.Option(help="JSON lines (.gz too): id, title, description, brand.")],
    qrels: Annotated[Path, typer.Option(help="CSV: query, product_id, grade (0 to 3).")],
    encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of model.onnx and tokenizer.json; else the highest version served."),
    ] = None,
    cross_encoder: Annotated[
        Path | None, typer.Option(help="The same of the cross-encoder; else the highest version, if any.")
    ] = None,
    reranker: Annotated[
        Path | None, typer.Option(help="Folder of weights.npz; else the highest version served.")
    ] = None,
    viewed: Annotated[int, typer.Option(help="Products that a shopper viewed before.", min=1, max=50)] = 3,
    draws: Annotated[int, typer.Option(help="Made-up shoppers for each search and kind.", min=1)] = 10,
    threads: Annotated[int, typer.Option(help="Threads of one forward.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the shoppers and the resamples.", min=0)] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep vectors in between runs.")] = None,
    json_: Annotated[
        str | None, typer.Option("--json", help="Write the figures to this file; - for standard output.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Measure what taste does to search results, for made-up shoppers on human judgements.

    Example: model-factory evaluate personal-search --products ../shared/data/icecat/products.jsonl.gz
    --qrels ../shared/data/icecat/qrels.csv --json -
    """
    report.check(json_, None)
    figures = evaluate(
        products,
        qrels,
        encoder or served.ENCODER,
        cross_encoder,
        reranker or served.RERANKER,
        viewed=viewed,
        draws=draws,
        threads=threads,
        seed=seed,
        cache=cache,
    )
    report.publish(figures, tables(figures), json_, markdown)


def evaluate(
    products_path: Path,
    qrels_path: Path,
    encoder_folder: Path,
    cross_encoder_folder: Path | None,
    reranker_folder: Path,
    *,
    viewed: int = 3,
    draws: int = 10,
    threads: int = 1,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Order each search's results for every kind of shopper; return the figures as JSON values.

    Raises:
        typer.BadParameter: a file or folder is not what it has to be.
    """
    left_out: Counter[str] = Counter()
    products, judgements = read_judged(products_path, qrels_path, left_out)
    encoder = Encoder(encoder_folder, threads, cache)
    pairs = CrossEncoder.open(cross_encoder_folder, threads)
    try:
        network = load_reranker(reranker_folder)
    except (OSError, KeyError, ValueError) as error:
        raise typer.BadParameter(f"{reranker_folder} holds no reranker: {error}") from None
    shop = _Shop(products, judgements, encoder, pairs, network)
    random = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for query, judged in track(judgements.items(), "searching", console=Console(stderr=True)):
        for kind in SHOPPERS:
            drawn = shop.draw(kind, judged, viewed, draws, random)
            made = [found for seen in drawn if (found := shop.compared(query, judged, seen))]
            if made:
                rows[kind].append({name: float(np.mean([one[name] for one in made])) for name in made[0]})
    shoppers: dict[str, Any] = {}
    for kind, of_queries in rows.items():
        names = list(of_queries[0])
        bootstrap = Bootstrap(np.array([list(row.values()) for row in of_queries]), seed=seed)
        shoppers[kind] = {"searches": len(of_queries)} | {
            name: bootstrap.mean(place).rounded() for place, name in enumerate(names)
        }
        for place, name in enumerate(names):
            if name != "relevance":
                difference = bootstrap.difference(place, names.index("relevance"))
                shoppers[kind][f"{name}_against_relevance"] = difference.rounded()
    return {
        "data": {
            "sha256": inputs.files_sha256(products_path, qrels_path),
            "products": len(products),
            "queries": len(judgements),
            "left_out": {reason: count for reason, count in left_out.items() if count},
        },
        "models": {
            "encoder": {"folder": str(encoder.folder), "sha256": encoder.sha256},
            "cross_encoder": {"folder": str(pairs.folder), "sha256": pairs.sha256} if pairs else None,
            "reranker": {"folder": str(reranker_folder)},
        },
        "simulated": SHOPPERS,
        "viewed": viewed,
        "draws": draws,
        "metric": "nDCG@10 of the judged products, gain 2^grade - 1; mean over searches of the mean of draws",
        "orders": {
            "relevance": "hybrid and cross-encoder alone",
            "reranker": "relevance + taste by the reranker",
            "weights": "relevance + taste by the linear weights, as where the reranker is away",
        },
        "interval": f"percentile bootstrap over searches, {LEVEL:.0%}, {RESAMPLES} resamples, seed {seed}; "
        "differences are paired",
        "shoppers": shoppers,
    }


def tables(figures: Mapping[str, Any]) -> list[report.Table]:
    """Lay out the figures for people."""
    return [
        report.Table(
            f"nDCG@10 of made-up shoppers who viewed {figures['viewed']} products before",
            ("shopper", "searches", *figures["orders"], "reranker against relevance", "weights against it"),
            [
                (
                    kind,
                    str(found["searches"]),
                    *(report.written(found[name]) for name in figures["orders"]),
                    report.written(found["reranker_against_relevance"], sign=True),
                    report.written(found["weights_against_relevance"], sign=True),
                )
                for kind, found in figures["shoppers"].items()
            ],
        )
    ]


class _Shop:
    """The judged catalogue in the engine's own tables."""

    def __init__(
        self,
        products: Sequence[Product],
        judgements: Mapping[str, Judged],
        encoder: Encoder,
        pairs: CrossEncoder | None,
        network: Network,
    ) -> None:
        self._products = products
        self._pairs = pairs
        self._network = network
        self._pair_scores: dict[tuple[str, int], float] = {}
        self._judged = np.unique(np.concatenate([judged.places for judged in judgements.values()]))
        self._index = LexicalIndex()
        vocabulary = Vocabulary()
        self._items = ItemTable(len(products))
        for product in products:
            self._items.put(Item(product.item_id, product.title, product.description, brand=product.brand))
            self._index.add(
                product.item_id, product.title, product.description, product.brand, product.category
            )
            vocabulary.add(product.text)
        self._index.commit()
        self._space = ItemVectors(len(self._items.available))
        vectors = encoder.encode([products[place].text for place in self._judged.tolist()], "judged products")
        for place, vector in zip(self._judged.tolist(), vectors, strict=True):
            self._space.put(place, vector)
        self._read = {query: vocabulary.corrected(clean_query(query)) for query in judgements}
        self._queries = dict(zip(judgements, encoder.encode_alone(list(self._read.values())), strict=True))
        shape = (len(self._items.available), len(POPULARITY_DAYS))
        self._popularity = np.full(shape, NEGLIGIBLE, np.float32)

    def draw(
        self, kind: str, judged: Judged, viewed: int, draws: int, random: np.random.Generator
    ) -> list[NDArray[np.intp]]:
        """What made-up shoppers of a kind viewed; none where a search has no such products."""
        pool = self._pool(kind, judged)
        if kind == "stranger":
            return [np.zeros(0, np.intp)]
        if len(pool) < viewed:
            return []
        return [random.choice(pool, viewed, replace=False) for _ in range(draws)]

    def _pool(self, kind: str, judged: Judged) -> NDArray[np.intp]:
        places, grades = judged
        others = np.setdiff1d(self._judged, places)
        if kind == "leaning":
            return places[grades >= RELEVANT]
        if kind == "opposed":
            return places[grades == 0.0]
        if kind == "leaning_brand":
            brands = Counter(
                self._products[place].brand for place in places[grades >= MOST_RELEVANT].tolist()
            )
            brand = brands.most_common(1)[0][0] if brands else ""
            same = [place for place in others.tolist() if brand and self._products[place].brand == brand]
            return np.array(same, np.intp)
        return others

    def compared(self, query: str, judged: Judged, viewed: NDArray[np.intp]) -> dict[str, float]:
        """nDCG@10 of the results not viewed, by each order; nothing where none of them is relevant."""
        ranked = ~np.isin(judged.places, viewed)
        places, grades = judged.places[ranked], judged.grades[ranked]
        if not grades.any():
            return {}
        results = [self._products[place].item_id for place in places.tolist()]
        context = self._context(query, self._state(viewed))
        slots = personal_search.slots_of(results, self._items)
        found = candidates.gather(context, DEFAULT_POLICY, slots)
        relevance = self._relevance(query, context, found)
        grade_of = dict(zip(results, grades.tolist(), strict=True))
        stays = np.ones(len(found), np.bool_)
        made = {}
        for name, taste in self._tastes(context, found).items():
            order = personal_search.ordered(results, self._items, found, relevance + taste, stays)
            made[name] = ndcg(np.array([grade_of[place.item_id] for place in order]), grades)
        return made

    def _tastes(self, context: Context, found: Candidates) -> dict[str, FloatArray]:
        alone = personal_search.without_shopper(context)
        beside = candidates.gather(alone, DEFAULT_POLICY, found.slots)
        one, other = ranking.features(context, found), ranking.features(alone, beside)
        return {
            "relevance": np.zeros(len(found), np.float32),
            "reranker": personal_search.taste(self._network.score(one), self._network.score(other)),
            "weights": personal_search.taste(ranking.blended(context, found), ranking.blended(alone, beside)),
        }

    def _relevance(self, query: str, context: Context, found: Candidates) -> FloatArray:
        matches = personal_search.matches(context, found)
        read = personal_search.to_read(matches, CROSS_BEST if self._pairs else 0)
        scores = np.zeros(0, np.float32)
        if self._pairs is not None and len(read):
            scores = self._read_pairs(self._pairs, self._read[query], found.slots[read].tolist())
        return personal_search.relevance(matches, read, scores)

    def _read_pairs(self, pairs: CrossEncoder, query: str, slots: list[int]) -> FloatArray:
        """Scores of a query and products, each pair read once."""
        new = [slot for slot in slots if (query, slot) not in self._pair_scores]
        if new:
            made = pairs.score(query, [self._products[slot].text for slot in new])
            self._pair_scores.update(zip(((query, slot) for slot in new), made.tolist(), strict=True))
        return np.array([self._pair_scores[query, slot] for slot in slots], np.float32)

    def _context(self, query: str, state: UserState) -> Context:
        hits = [
            (slot, score)
            for item_id, score in self._index.search(self._read[query], personal_search.LEXICAL)
            if (slot := self._items.slot(item_id)) is not None
        ]
        return Context(
            state=state,
            at_ms=AT_MS,
            items=self._items,
            space=self._space,
            rows={},
            popularity=self._popularity,
            session_vector=session_vector(state, self._items, self._space, DEFAULT_POLICY),
            taste_vector=taste_vector(state, self._items, self._space),
            query=Search(AT_MS, self._read[query], 0),
            query_vector=self._queries[query],
            lexical=Hits(
                np.array([slot for slot, _ in hits], np.int32),
                np.array([score for _, score in hits], np.float32),
            ),
        )

    def _state(self, viewed: NDArray[np.intp]) -> UserState:
        """Of a shopper who viewed products, one every half minute, the last one just before the search."""
        state = empty("made-up")
        for age, place in enumerate(viewed.tolist(), start=1):
            at_ms = AT_MS - age * MINUTE_MS // 2
            event = ClickEvent(
                event_id=f"view-{age}",
                user_id=state.user_id,
                at_ms=at_ms,
                source=Source("clicks", 0, age, at_ms),
                event_type="view_item",
                lines=(Line(self._products[place].item_id, 1, None),),
                session_id=None,
                placement=None,
            )
            state = apply(state, event, DEFAULT_POLICY)
        return state
