"""What attacks on queries and products do to search, and what the defences of the engine undo of it.

Defences: `stream.core.disguise.clean_query` and `stream.core.spelling.Vocabulary`, through which every query
goes, and the score of `stream.core.quality.assess`, by which products are held back. Nothing is trained or
chosen here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import served
from model_factory.evaluation import attacks, inputs, options, report
from model_factory.evaluation.attacks import Listing, Pool
from model_factory.evaluation.baselines import Scores
from model_factory.evaluation.inputs import Product
from model_factory.evaluation.search import CUT, CrossEncoder, Judged, Scored, hybrid, measure, read_judged
from model_factory.evaluation.vectors import Encoder
from stream.adapters.lexical_index import LexicalIndex
from stream.core.disguise import clean_query
from stream.core.policy import DEFAULT_POLICY
from stream.core.quality import FINDINGS, assess
from stream.core.search import best_matches, refined
from stream.core.spelling import Vocabulary
from stream.evaluation.intervals import LEVEL, RESAMPLES, Bootstrap
from stream.lists.list_context import LEXICAL

SYSTEMS = {"hybrid": "hybrid", "hybrid_cross_encoder": "hybrid + cross-encoder"}
DETECTOR_SAMPLE = 2_000
"""Products that each attack is tried on."""

Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32]
Values = dict[tuple[str, str, str, str], list[float]]
"""nDCG@10 of each query, by attack, `attacked` or `defended`, system, and scope."""


def evaluate_robustness(
    products: options.Products,
    qrels: options.Qrels,
    offers: Annotated[
        Path | None, typer.Option(help="CSV of honest titles, to count false alarms on: product_title.")
    ] = None,
    encoder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of model.onnx and tokenizer.json; else the highest version served. Given twice, the "
            "second is compared with the first."
        ),
    ] = None,
    cross_encoder: options.CrossEncoder = None,
    share: Annotated[
        float, typer.Option(help="Share of the products that attack the search.", min=0.0001, max=0.5)
    ] = 0.02,
    repeats: Annotated[int, typer.Option(help="Times that each query is attacked.", min=1)] = 3,
    threads: options.Threads = 1,
    seed: Annotated[int, typer.Option(help="Of the attacks and the resamples.", min=0)] = 0,
    cache: options.Cache = None,
    json_: options.Json = None,
    markdown: options.Markdown = False,
) -> None:
    """Measure search under attack, before and after the defences, and what the detector finds.

    Example: model-factory evaluate robustness --products ../shared/data/icecat/products.jsonl.gz
    --qrels ../shared/data/icecat/qrels.csv --encoder model_repository/encoder/1
    --encoder model_repository/encoder/2 --json -
    """
    if encoder is not None and len(encoder) > 2:
        raise typer.BadParameter("at most two are compared: before and after", param_hint="--encoder")
    report.check(json_, None)
    figures = evaluate(
        products, qrels, offers, encoder or (), cross_encoder, share, repeats, threads, seed=seed, cache=cache
    )
    report.publish(figures, tables(figures), json_, markdown)


def evaluate(
    products_path: Path,
    qrels_path: Path,
    offers_path: Path | None = None,
    encoder_folders: Sequence[Path] = (),
    cross_encoder_folder: Path | None = None,
    share: float = 0.02,
    repeats: int = 3,
    threads: int = 1,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Attack queries, products and the detector; return the figures as JSON values.

    Of two encoders the second is measured, and "before" holds the figures of the first and the differences.

    Raises:
        typer.BadParameter: a file or folder is not what it has to be.
    """
    left_out: Counter[str] = Counter()
    products, judgements = read_judged(products_path, qrels_path, left_out)
    offers = inputs.read_offers(offers_path, left_out) if offers_path else []
    encoders = [Encoder(folder, threads, cache) for folder in encoder_folders or (served.ENCODER,)]
    pairs = CrossEncoder.open(cross_encoder_folder, threads)
    listings = [_listing(product) for product in products]
    found = []
    for encoder in encoders:
        catalogue = Catalogue(products, encoder.encode([p.text for p in products], "products"), pairs)
        queries, values = _queries(catalogue, encoder, judgements, repeats, seed)
        attacked = _products(catalogue, encoder, listings, judgements, share, seed)
        found.append(({"queries": queries, "products": attacked}, values))
    figures, values = found[-1]
    before = {}
    if len(found) > 1:
        before["before"] = {
            "encoder": {"folder": str(encoders[0].folder), "sha256": encoders[0].sha256},
            **found[0][0],
            "gained": _gained(found[0][1], values, seed),
        }
    encoder = encoders[-1]
    return {
        "data": {
            "products": len(products),
            "queries": len(judgements),
            "offers": len(offers),
            "left_out": dict(left_out),
        },
        "models": {
            "encoder": {"folder": str(encoder.folder), "sha256": encoder.sha256},
            "cross_encoder": {"folder": str(pairs.folder), "sha256": pairs.sha256} if pairs else None,
        },
        "metric": "nDCG@10, gain 2^grade - 1",
        "interval": f"percentile bootstrap over queries, {LEVEL:.0%}, {RESAMPLES} resamples, seed {seed}; "
        "differences are paired",
        **figures,
        **before,
        "detector": _detector(listings, list(judgements), offers, seed),
    }


class Catalogue:
    """Products as the engine searches them; some may change for a while, and some be held back.

    Args:
        vectors: [products, dimensions], of length 1.
    """

    def __init__(self, products: Sequence[Product], vectors: Vectors, pairs: CrossEncoder | None) -> None:
        self.products = list(products)
        self.vectors = vectors.copy()
        self.allowed: Mask = np.ones(len(products), np.bool_)
        self.systems = tuple(name for name in SYSTEMS if pairs or name == "hybrid")
        self._pairs = pairs
        self._scored: dict[tuple[str, str], float] = {}
        self._number = {product.item_id: place for place, product in enumerate(products)}
        self._index = LexicalIndex()
        self._vocabulary = Vocabulary()
        for product in products:
            self._vocabulary.add(product.text)
        self.change(range(len(products)), products, vectors)

    def change(self, places: Iterable[int], products: Sequence[Product], vectors: Vectors) -> None:
        """Put other products in some places."""
        for place, product, vector in zip(places, products, vectors, strict=True):
            self.products[place] = product
            self.vectors[place] = vector
            self._index.add(
                product.item_id, product.title, product.description, product.brand, product.category
            )
        self._index.commit()

    def defend(self, query: str) -> str:
        """A query as the engine reads it: without disguise, and with its typing errors undone."""
        return self._vocabulary.corrected(clean_query(query))

    def search(self, query: str, vector: Vectors, judged: NDArray[np.intp]) -> dict[str, Scored]:
        """Score judged products, and all; what is held back ranks behind everything, or not at all."""
        cosine = np.where(self.allowed, self.vectors @ vector, -1.0).astype(np.float32)
        lexical, hits = self._lexical(query, len(self.products)), self._lexical(query, LEXICAL)
        found = hybrid(cosine, lexical, hits, self.vectors, judged, self.allowed)
        scored = {"hybrid": found}
        if self._pairs:
            scored["hybrid_cross_encoder"] = Scored(
                self._refined(query, found.judged, judged),
                self._refined(query, found.catalogue, np.arange(len(self.products))),
            )
        return scored

    def _lexical(self, query: str, limit: int) -> Scores:
        scores = np.zeros(len(self.products), np.float32)
        for item_id, score in self._index.search(query, limit):
            scores[self._number[item_id]] = score
        return np.where(self.allowed, scores, 0.0).astype(np.float32)

    def _refined(self, query: str, matches: Scores, places: NDArray[np.intp]) -> Scores:
        best = best_matches(matches)
        best = best[np.isfinite(matches[best])]
        texts = [self.products[places[at]].text for at in best]
        assert self._pairs is not None
        new = list(dict.fromkeys(text for text in texts if (query, text) not in self._scored))
        if new:
            scores = self._pairs.score(query, new)
            self._scored.update({(query, text): float(s) for text, s in zip(new, scores, strict=True)})
        return refined(matches, best, np.array([self._scored[query, text] for text in texts], np.float32))


def _queries(
    catalogue: Catalogue, encoder: Encoder, judgements: Mapping[str, Judged], repeats: int, seed: int
) -> tuple[dict[str, Any], Values]:
    """nDCG@10 of queries clean and attacked, as they are and as the engine reads them, and by query."""
    random = Random(seed)
    attacked = {
        name: {query: [attack(query, random) for _ in range(repeats)] for query in judgements}
        for name, attack in attacks.QUERY_ATTACKS.items()
    }
    tried = [text for by_query in attacked.values() for texts in by_query.values() for text in texts]
    defended = {text: catalogue.defend(text) for text in (*judgements, *tried)}
    written = dict.fromkeys([*judgements, *tried, *defended.values()])
    vectors = dict(zip(written, encoder.encode_alone(list(written)), strict=True))
    known: dict[tuple[str, str], dict[str, dict[str, float]]] = {}

    def measured(query: str, text: str) -> dict[str, dict[str, float]]:
        if (query, text) not in known:
            judged = judgements[query]
            found = catalogue.search(text, vectors[text], judged.places)
            known[query, text] = {name: _ndcg(scored, judged) for name, scored in found.items()}
        return known[query, text]

    values: Values = defaultdict(list)
    for query in track(judgements, "attacking queries", console=Console(stderr=True)):
        for name, texts in (("none", [query]), *((name, attacked[name][query]) for name in attacked)):
            for kind, read in (("attacked", texts), ("defended", [defended[text] for text in texts])):
                found = [measured(query, text) for text in read]
                for system in catalogue.systems:
                    for scope in found[0][system]:
                        mean = float(np.mean([one[system][scope] for one in found]))
                        values[name, kind, system, scope].append(mean)
    bootstrap = Bootstrap(np.array(list(values.values())).T, seed=seed)
    column = {key: place for place, key in enumerate(values)}

    def figures(name: str, system: str, scope: str) -> dict[str, Any]:
        clean, attacked, defended = (
            column[attack, kind, system, scope]
            for attack, kind in (("none", "attacked"), (name, "attacked"), (name, "defended"))
        )
        return {
            "attacked": bootstrap.mean(attacked).rounded(),
            "defended": bootstrap.mean(defended).rounded(),
            "lost": bootstrap.difference(attacked, clean).rounded(),
            "regained": bootstrap.difference(defended, attacked).rounded(),
        }

    told = {
        "repeats": repeats,
        "attacks": {
            name: {
                "changed": round(float(np.mean([text != q for q, texts in by_query for text in texts])), 4),
                **{
                    system: {scope: figures(name, system, scope) for scope in ("judged", "catalogue")}
                    for system in catalogue.systems
                },
            }
            for name, by_query in (
                ("none", [(query, [defended[query]]) for query in judgements]),
                *((name, by_query.items()) for name, by_query in attacked.items()),
            )
        },
    }
    return told, values


def _gained(before: Values, after: Values, seed: int) -> dict[str, Any]:
    """By how much nDCG@10 differs, by attack, system, scope, and whether queries were defended; paired."""
    names = [key for key in after if key in before]
    bootstrap = Bootstrap(
        np.array([*(after[key] for key in names), *(before[key] for key in names)]).T, seed=seed
    )
    gained: dict[str, Any] = {}
    for place, (attack, kind, system, scope) in enumerate(names):
        by_scope = gained.setdefault(attack, {}).setdefault(system, {}).setdefault(scope, {})
        by_scope[kind] = bootstrap.difference(place, len(names) + place).rounded()
    return gained


def _products(
    catalogue: Catalogue,
    encoder: Encoder,
    listings: Sequence[Listing],
    judgements: Mapping[str, Judged],
    share: float,
    seed: int,
) -> dict[str, Any]:
    """Attackers in the top ten and nDCG@10 of the whole catalogue, while some products are stuffed.

    Attackers are products that no one judged relevant to any query; they know all queries that are asked.
    """
    relevant = {int(place) for judged in judgements.values() for place in judged.places[judged.grades > 0]}
    free = [place for place in range(len(listings)) if place not in relevant]
    random = Random(seed)
    places = sorted(random.sample(free, min(max(1, round(share * len(listings))), len(free))))
    pool = Pool(list(judgements), listings)
    vectors = dict(zip(judgements, encoder.encode_alone(list(judgements)), strict=True))
    honest = np.array([_passes(listing) for listing in listings])
    original = [catalogue.products[place] for place in places], catalogue.vectors[places].copy()
    values: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    held_back = {}

    def search(family: str, defence: str) -> None:
        attackers = set(places)
        for query, judged in judgements.items():
            for system, scored in catalogue.search(query, vectors[query], judged.places).items():
                best = np.argsort(-scored.catalogue, kind="stable")[:CUT]
                best = best[np.isfinite(scored.catalogue[best])]
                risen = sum(int(place) in attackers for place in best)
                values[family, defence, system, "attackers_in_top_ten"].append(risen)
                values[family, defence, system, "ndcg_at_10"].append(_ndcg(scored, judged)["catalogue"])

    for family in track(("none", *attacks.CLIMBING), "attacking products", console=Console(stderr=True)):
        allowed = honest.copy()
        if family != "none":
            stuffed = [attacks.PRODUCT_ATTACKS[family](listings[place], random, pool) for place in places]
            changed = [
                _product(catalogue.products[place], listing or listings[place])
                for place, listing in zip(places, stuffed, strict=True)
            ]
            texts = [product.text for product in changed]
            catalogue.change(places, changed, encoder.encode(texts, f"products with {family}"))
            allowed[places] = [listing is None or _passes(listing) for listing in stuffed]
            held_back[family] = int((~allowed[places]).sum())
        search(family, "undefended")
        catalogue.allowed = allowed
        search(family, "defended")
        catalogue.allowed = np.ones_like(allowed)
    catalogue.change(places, *original)
    bootstrap = Bootstrap(np.array(list(values.values())).T, seed=seed)
    column = {key: place for place, key in enumerate(values)}
    metrics = ("attackers_in_top_ten", "ndcg_at_10")
    return {
        "attackers": len(places),
        "share": share,
        "families": {
            family: {
                "held_back": held_back.get(family, int((~honest[places]).sum())),
                "held_out": family in attacks.HELD_OUT,
                **{
                    system: {
                        defence: {
                            metric: bootstrap.mean(column[family, defence, system, metric]).rounded()
                            for metric in metrics
                        }
                        for defence in ("undefended", "defended")
                    }
                    for system in catalogue.systems
                },
            }
            for family in ("none", *attacks.CLIMBING)
        },
    }


def _detector(
    listings: Sequence[Listing], queries: Sequence[str], offers: Sequence[inputs.Offer], seed: int
) -> dict[str, Any]:
    """Recall of each attack on a sample of products, and precision against the false alarms on all."""
    random = Random(seed)
    pool = Pool(queries, listings)
    sample = random.sample(range(len(listings)), min(DETECTOR_SAMPLE, len(listings)))
    alarms = sum(not _passes(listing) for listing in listings)
    honest = {"products": {"texts": len(listings), "held_back": alarms}}
    if offers:
        held = sum(not _passes(Listing(offer.title, category=offer.category)) for offer in offers)
        honest["offers"] = {"texts": len(offers), "held_back": held}
    families = {}
    for name, attack in attacks.PRODUCT_ATTACKS.items():
        tried = [attack(listings[place], random, pool) for place in sample]
        found: Counter[str] = Counter()
        attacked = [listing for listing in tried if listing is not None]
        caught = 0
        for listing in attacked:
            quality = assess(*listing)
            caught += quality.score < DEFAULT_POLICY.min_quality
            found.update(quality.findings[:1])
        recall = caught / len(attacked) if attacked else 0.0
        families[name] = {
            "held_out": name in attacks.HELD_OUT,
            "attacked": len(attacked),
            "recall": round(recall, 4),
            "precision_at_equal_numbers": _precision(recall, alarms / len(listings), 0.5),
            "precision_at_one_in_hundred": _precision(recall, alarms / len(listings), 0.01),
            "first_findings": dict(found.most_common(3)),
        }
    return {
        "min_quality": DEFAULT_POLICY.min_quality,
        "findings": FINDINGS,
        "honest": {
            name: {**counts, "share": round(counts["held_back"] / counts["texts"], 5)}
            for name, counts in honest.items()
        },
        "families": families,
    }


def tables(figures: Mapping[str, Any]) -> list[report.Table]:
    """Lay out the figures for people."""
    queries, products, detector = (figures[name] for name in ("queries", "products", "detector"))
    made = []
    for system in [name for name in SYSTEMS if name in queries["attacks"]["none"]]:
        made.append(
            report.Table(
                f"nDCG@10 of {SYSTEMS[system]} under attacked queries, judged / whole catalogue",
                ("attack", "attacked", "defended", "lost", "regained"),
                [
                    (
                        name,
                        *(
                            _two(attack[system], kind)
                            for kind in ("attacked", "defended", "lost", "regained")
                        ),
                    )
                    for name, attack in queries["attacks"].items()
                ],
            )
        )
        made.append(
            report.Table(
                f"{SYSTEMS[system]}, {products['attackers']} products stuffed with queries: "
                "attackers in the top ten, nDCG@10 of the whole catalogue; before and after holding back",
                ("attack", "held back", "in top ten", "defended", "nDCG@10", "defended"),
                [
                    (
                        name + ("*" if family["held_out"] else ""),
                        str(family["held_back"]),
                        *(
                            report.written(family[system][defence][metric])
                            for metric in ("attackers_in_top_ten", "ndcg_at_10")
                            for defence in ("undefended", "defended")
                        ),
                    )
                    for name, family in products["families"].items()
                ],
            )
        )
    for system in SYSTEMS if "before" in figures else ():
        by_attack = {
            name: found[system] for name, found in figures["before"]["gained"].items() if system in found
        }
        if by_attack:
            made.append(
                report.Table(
                    f"nDCG@10 of {SYSTEMS[system]} against {figures['before']['encoder']['folder']}, "
                    "judged / whole catalogue",
                    ("attack", "attacked", "defended"),
                    [
                        (
                            name,
                            *(
                                " / ".join(
                                    report.written(found[scope][kind], True)
                                    for scope in ("judged", "catalogue")
                                )
                                for kind in ("attacked", "defended")
                            ),
                        )
                        for name, found in by_attack.items()
                    ],
                )
            )
    said = ", ".join(
        f"{h['held_back']} of {h['texts']} honest {name}" for name, h in detector["honest"].items()
    )
    made.append(
        report.Table(
            f"Detector at quality {detector['min_quality']}; held back: {said}. * was kept from the rules",
            ("attack", "attacked", "recall", "precision, half attacked", "precision, 1 % attacked"),
            [
                (
                    name + ("*" if family["held_out"] else ""),
                    str(family["attacked"]),
                    f"{family['recall']:.3f}",
                    f"{family['precision_at_equal_numbers']:.3f}",
                    f"{family['precision_at_one_in_hundred']:.3f}",
                )
                for name, family in detector["families"].items()
            ],
        )
    )
    return made


def _two(scopes: Mapping[str, Any], kind: str) -> str:
    sign = kind in ("lost", "regained")
    return " / ".join(report.written(scopes[scope][kind], sign) for scope in ("judged", "catalogue"))


def _ndcg(scored: Scored, judged: Judged) -> dict[str, float]:
    return {scope: metrics["ndcg_at_10"] for scope, metrics in measure(scored, judged).items()}


def _precision(recall: float, alarms: float, attacked: float) -> float:
    """Precision where a share of all products is `attacked` and honest ones are held back at a rate."""
    caught = attacked * recall
    return round(caught / (caught + (1 - attacked) * alarms), 4) if caught else 0.0


def _passes(listing: Listing) -> bool:
    return assess(*listing).score >= DEFAULT_POLICY.min_quality


def _listing(product: Product) -> Listing:
    return Listing(product.title, product.description, product.brand, product.category, product.attributes)


def _product(product: Product, listing: Listing) -> Product:
    return Product(product.item_id, *listing)
