"""`model-factory prepare`: from a shop's files to the tables that training reads."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model_factory import manifest, served
from model_factory.preparation import (
    attributes,
    card,
    categories,
    duplicates,
    negatives,
    pairs,
    splits,
    synonyms,
    tables,
)
from model_factory.preparation.cleaning import boilerplate, clean, without
from model_factory.preparation.pairs import Pair
from model_factory.preparation.queries import Catalogue, lengths_of
from model_factory.preparation.sources import (
    Grade,
    Offer,
    Product,
    Rejected,
    read_grades,
    read_offers,
    read_products,
    read_queries,
    read_sales,
)
from model_factory.preparation.splits import Shares, Split
from model_factory.preparation.wording import Queries, terms
from stream.core.text import words
from stream.errors import WrongFile

LAYOUT = {
    "products": "icecat/products.jsonl.gz",
    "qrels": "icecat/qrels.csv",
    "offers": "pricerunner/offers.csv.gz",
    "events": "online_retail/events.csv.gz",
    "queries": "wands_queries/query.tsv",
}
"""Where `--data` looks for each source."""
BOILERPLATE_SHARE = 0.002
"""Of the products, at least 20, that must share a sentence for it to be boilerplate."""


@dataclass(frozen=True)
class Arguments:
    """What the tables depend on, besides the files."""

    seed: int
    limit: int | None
    shares: Shares
    validation_categories: tuple[str, ...]
    test_categories: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the arguments as `data.json` names them."""
        return {
            "seed": self.seed,
            "limit": self.limit,
            "validation_share": self.shares.validation,
            "test_share": self.shares.test,
            "validation_categories": list(self.validation_categories),
            "test_categories": list(self.test_categories),
        }


@dataclass
class Catalogued:
    """Products that were cleaned and told apart; all lists are of the same length."""

    products: list[Product]
    readable: list[dict[str, str]]
    texts: list[str]
    clusters: list[int]
    splits: list[Split]


def prepare(
    output: Annotated[Path, typer.Option(help="Folder for the tables, made where it is missing.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder that holds {', '.join(LAYOUT.values())}; what is missing there is left out.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    products: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines (.gz too): id, title, description, brand, attributes, category.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(help="CSV: query, product_id, grade (0 to 3).", exists=True, dir_okay=False),
    ] = None,
    offers: Annotated[
        Path | None,
        typer.Option(
            help="CSV (.gz too): product_id, product_title, cluster_id, cluster_label, category_label.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            help="CSV (.gz too) of sales: invoice, stock_code, description, quantity, ts, unit_price.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Table with tabs and a column `query`: real queries of any shop, for their form.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn by chance.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(help="Read only so many products, offers and sales: for a trial.", min=1),
    ] = None,
    encoder: Annotated[
        Path,
        typer.Option(
            help="Folder of model.onnx and tokenizer.json, which look for hard negatives.", exists=True
        ),
    ] = served.PUBLISHED_ENCODER,
    lexical_only: Annotated[
        bool, typer.Option("--lexical-only", help="Look for hard negatives by words alone: no encoder.")
    ] = False,
    validation_share: Annotated[
        float, typer.Option(help="Of product clusters, queries and baskets.", min=0.0, max=0.5)
    ] = 0.05,
    test_share: Annotated[float, typer.Option(help="As above, for the test.", min=0.0, max=0.49)] = 0.05,
    validation_category: Annotated[
        list[str] | None, typer.Option(help="Of offers, kept for validation; may be repeated.")
    ] = None,
    test_category: Annotated[
        list[str] | None, typer.Option(help="Of offers, kept for the test; may be repeated.")
    ] = None,
) -> None:
    """Clean a shop's data and make training pairs of it.

    Writes products, pairs, graded, offers and queries as Parquet, data.json with the hash of it all, and
    DATA_CARD.md. Rows that cannot be used are counted and shown. Vectors of the texts are kept in
    OUTPUT/vectors, so that a second run need not encode again.

    Example: model-factory prepare --data ../shared/data --output prepared

    Example: model-factory prepare --products catalogue.jsonl --qrels judged.csv --output prepared
    """
    for package in ("pyarrow", "datasketch", "bm25s"):
        if importlib.util.find_spec(package) is None:
            raise typer.BadParameter(
                f"the package {package} is missing: pip install 'streamrec[train]'", param_hint="prepare"
            )
    files = _files(
        data, {"products": products, "qrels": qrels, "offers": offers, "events": events, "queries": queries}
    )
    arguments = Arguments(
        seed,
        limit,
        Shares(validation_share, test_share),
        tuple(validation_category or ("Dishwashers",)),
        tuple(test_category or ("TVs",)),
    )
    console = Console(stderr=True)
    if left_out := [source for source in LAYOUT if source not in files]:
        console.print(f"Without {', '.join(left_out)}: no such file was given or found.")
    try:
        described = run(files, output, arguments, None if lexical_only else encoder, console)
    except WrongFile as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    _show(described, output, console)


def run(
    files: Mapping[str, Path], output: Path, arguments: Arguments, encoder: Path | None, console: Console
) -> dict[str, Any]:
    """Prepare the files, by their names in `LAYOUT`, into `output`; return what `data.json` holds.

    Args:
        encoder: folder of the model that looks for hard negatives; None for words alone.

    Raises:
        WrongFile: a file cannot be read, or has not the columns.
    """
    rejected = Rejected()
    with Progress(console=console, transient=True) as progress:

        @contextmanager
        def bar(title: str, total: float | None) -> Iterator[Callable[[int], None]]:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, completed=done)
            progress.update(task, completed=total or 1, total=total or 1)

        with bar("reading", None):
            products = (
                read_products(files["products"], rejected, arguments.limit) if "products" in files else []
            )
            known = {product.item_id for product in products}
            grades = read_grades(files["qrels"], rejected, known) if "qrels" in files else []
            offers = read_offers(files["offers"], rejected, arguments.limit) if "offers" in files else []
            sales = read_sales(files["events"], rejected, arguments.limit) if "events" in files else []
            real_queries = read_queries(files["queries"], rejected) if "queries" in files else []
        apart = Queries(grade.query for grade in grades)
        with bar("cleaning and comparing products", len(products)) as done:
            catalogued = _catalogue(products, {grade.item_id for grade in grades}, arguments, rejected, done)
        offers = _distinct_offers(offers, rejected)
        offer_splits = _offer_splits(offers, arguments)
        offers = _without_twins(offers, offer_splits, rejected)

        def nearest(texts: Sequence[str], what: str) -> negatives.Places | None:
            if encoder is None or len(texts) < 2:
                return None
            with bar(f"encoding {what}", len(texts)) as done:
                return negatives.Nearest(encoder, output / "vectors", done).find(texts)

        near_products = nearest(catalogued.texts, "products")
        near_offers = nearest([offer.title for offer in offers], "offers")
        if near_products is not None:
            catalogued.products = _named_by_vote(catalogued.products, near_products)
        colours = _colours(catalogued.readable)
        brands = {word for product in catalogued.products for word in terms(product.brand)}
        catalogue = Catalogue(
            _word_counts(catalogued.texts),
            lengths_of(real_queries),
            synonyms.mine(catalogued.products, colours | brands),
        )

        with bar("making queries", len(catalogued.products)) as done:
            of_products = pairs.query_pairs(
                catalogued.products,
                catalogued.texts,
                catalogued.readable,
                catalogued.splits,
                catalogue,
                apart,
                arguments.shares,
                arguments.seed,
                rejected,
                done,
            )
        of_products += pairs.reworded_products(
            catalogued.products,
            catalogued.texts,
            catalogued.readable,
            catalogued.splits,
            colours,
            arguments.seed,
        )
        of_offers = pairs.offer_pairs(offers, offer_splits, catalogue.synonyms, arguments.seed)
        with bar("counting baskets", None):
            names = pairs.item_names(sales, clean)
            of_baskets = pairs.basket_pairs(sales, names, arguments.shares, rejected)
        with bar("looking for hard negatives", None):
            if of_products:
                negatives.mine_for_products(
                    of_products,
                    catalogued.products,
                    catalogued.texts,
                    catalogued.clusters,
                    catalogued.splits,
                    near_products,
                )
            if of_offers:
                negatives.mine_for_offers(of_offers, offers, near_offers)
        made = [*of_products, *of_offers, *of_baskets]
        with bar("writing", None):
            output.mkdir(parents=True, exist_ok=True)
            return _write(
                files, output, arguments, encoder, catalogued, grades, products, offers, offer_splits, made,
                real_queries, rejected,
            )  # fmt: skip


def _files(data: Path | None, given: Mapping[str, Path | None]) -> dict[str, Path]:
    """Return the files by source: those given, and those found under `data`."""
    files = {source: path for source, path in given.items() if path is not None}
    if data is not None:
        found = {source: data / place for source, place in LAYOUT.items() if (data / place).is_file()}
        files = {**found, **files}
    if not files:
        raise typer.BadParameter(
            f"none of {', '.join(LAYOUT.values())} is in {data}"
            if data
            else "give --data, or at least one of --products, --offers, --events"
        )
    if "qrels" in files and "products" not in files:
        raise typer.BadParameter("judgements are of products: give --products too", param_hint="--qrels")
    return {source: files[source] for source in LAYOUT if source in files}


def _catalogue(
    products: Sequence[Product],
    judged: set[str],
    arguments: Arguments,
    rejected: Rejected,
    progress: Callable[[int], None],
) -> Catalogued:
    """Clean products, leave out repeated ones that no one judged, and split them by cluster."""
    descriptions = [clean(product.description) for product in products]
    common = boilerplate(descriptions, max(20, round(len(products) * BOILERPLATE_SHARE)))
    cleaned: list[Product] = []
    for product, description in zip(products, descriptions, strict=True):
        shorter = without(description, common)
        if shorter != description:
            rejected.add("products, repaired", "boilerplate sentence cut from the description", description)
        title = clean(product.title) or product.title
        if title != product.title or description != product.description:
            rejected.add("products, repaired", "markup, entities, encoding or spaces", product.title)
        brand, category = clean(product.brand), clean(product.category)
        cleaned.append(replace(product, title=title, description=shorter, brand=brand, category=category))
    readable = [attributes.normalise(product.attributes) for product in cleaned]
    named = categories.category_of(cleaned, _colours(readable))
    cleaned = [replace(product, category=category) for product, category in zip(cleaned, named, strict=True)]
    texts = [f"{product.title} {product.description}".strip() for product in cleaned]
    clusters = duplicates.near_clusters(texts, arguments.seed, progress)
    kept = []
    copies = duplicates.repeated(texts, clusters)
    for place, product in enumerate(cleaned):
        if place in copies and product.item_id not in judged:
            original = copies[place]
            reason = "exact duplicate" if texts[place] == texts[original] else "near duplicate"
            rejected.add("products", reason, f"{product.title} = {cleaned[original].title}")
        else:
            kept.append(place)
    first_id: dict[int, str] = {}
    for place, product in enumerate(cleaned):
        first_id.setdefault(clusters[place], product.item_id)
    return Catalogued(
        [cleaned[place] for place in kept],
        [readable[place] for place in kept],
        [texts[place] for place in kept],
        [clusters[place] for place in kept],
        [
            splits.by_key(f"cluster of {first_id[clusters[place]]}", arguments.shares, arguments.seed)
            for place in kept
        ],
    )


def _named_by_vote(products: Sequence[Product], nearest: negatives.Places) -> list[Product]:
    named = categories.voted([product.category for product in products], nearest.tolist())
    return [replace(product, category=category) for product, category in zip(products, named, strict=True)]


def _distinct_offers(offers: Sequence[Offer], rejected: Rejected) -> list[Offer]:
    """Clean offers; leave out what is repeated within a cluster, and titles that several clusters share."""
    cleaned = [
        replace(offer, title=clean(offer.title) or offer.title, label=clean(offer.label)) for offer in offers
    ]
    clusters: defaultdict[str, set[str]] = defaultdict(set)
    for offer in cleaned:
        clusters[" ".join(words(offer.title))].add(offer.cluster)
    kept: dict[tuple[str, str], Offer] = {}
    for offer in cleaned:
        title = " ".join(words(offer.title))
        if len(clusters[title]) > 1:
            rejected.add("offers", "same title in several clusters", offer.title)
        elif (title, offer.cluster) in kept:
            rejected.add("offers", "exact duplicate within its cluster", offer.title)
        else:
            kept[title, offer.cluster] = offer
    return list(kept.values())


def _offer_splits(offers: Sequence[Offer], arguments: Arguments) -> dict[str, Split]:
    """Split clusters by category; by the hash of the cluster where no offer is of a category kept apart."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for offer in offers:
        found[offer.cluster].add(offer.category)
    apart = {*arguments.validation_categories, *arguments.test_categories}
    if not any(apart & categories for categories in found.values()):
        return {
            cluster: splits.by_key(f"offers of {cluster}", arguments.shares, arguments.seed)
            for cluster in found
        }
    return splits.by_category(found, arguments.validation_categories, arguments.test_categories)


def _without_twins(offers: Sequence[Offer], split_of: Mapping[str, Split], rejected: Rejected) -> list[Offer]:
    """Leave out training offers with the model number of an offer that is kept apart."""
    held_out = {
        number
        for offer in offers
        if split_of[offer.cluster] != "train"
        for number in pairs.model_numbers(offer.title)
    }
    kept = []
    for offer in offers:
        if split_of[offer.cluster] == "train" and not held_out.isdisjoint(pairs.model_numbers(offer.title)):
            rejected.add("offers", "model number of an offer that is kept apart", offer.title)
        else:
            kept.append(offer)
    return kept


def _colours(readable: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the words that name colours in the catalogue."""
    return {
        word
        for values in readable
        for name, value in values.items()
        if name in {"product colour", "cable colour", "printing colours"}
        for word in words(value)
        if word.isalpha() and len(word) > 2
    }


def _word_counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(word for text in texts for word in set(text.casefold().split()))


def _write(
    files: Mapping[str, Path],
    output: Path,
    arguments: Arguments,
    encoder: Path | None,
    catalogued: Catalogued,
    grades: Sequence[Grade],
    products: Sequence[Product],
    offers: Sequence[Offer],
    offer_splits: Mapping[str, Split],
    made: Sequence[Pair],
    real_queries: Sequence[str],
    rejected: Rejected,
) -> dict[str, Any]:
    """Write the tables, data.json and the card; return what data.json holds."""
    texts = {
        product.item_id: text for product, text in zip(catalogued.products, catalogued.texts, strict=True)
    }
    fold_of = splits.folds(Counter(grade.query for grade in grades), arguments.seed)
    rows: dict[str, list[tables.Row]] = {
        "products": [
            {
                "item_id": product.item_id,
                "title": product.title,
                "description": product.description,
                "brand": product.brand,
                "category": product.category,
                "attributes": json.dumps(readable, ensure_ascii=False),
                "text": text,
                "cluster": cluster,
                "split": split,
                "source": "products",
            }
            for product, readable, text, cluster, split in zip(
                catalogued.products,
                catalogued.readable,
                catalogued.texts,
                catalogued.clusters,
                catalogued.splits,
                strict=True,
            )
        ],
        "pairs": [{column: getattr(pair, column) for column in tables.COLUMNS["pairs"]} for pair in made],
        "graded": [
            {
                "query": grade.query,
                "item_id": grade.item_id,
                "text": texts[grade.item_id],
                "grade": grade.grade,
                "fold": fold_of[grade.query],
            }
            for grade in grades
        ],
        "offers": [
            {
                "offer_id": offer.offer_id,
                "title": offer.title,
                "cluster": offer.cluster,
                "category": offer.category,
                "split": offer_splits[offer.cluster],
            }
            for offer in offers
        ],
        "queries": [{"query": query} for query in real_queries],
    }
    outputs = {name: tables.write(output, name, some) for name, some in rows.items()}
    inputs = {source: {"name": path.name, "sha256": manifest.sha256(path)} for source, path in files.items()}
    if encoder is not None:
        model = encoder / "model.onnx"
        inputs["encoder of the hard negatives"] = {"name": model.name, "sha256": manifest.sha256(model)}
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for pair in made:
        by_source[f"{pair.objective}: {pair.source}"][pair.split] += 1
    hashed = {
        "inputs": {source: entry["sha256"] for source, entry in inputs.items()},
        "arguments": arguments.as_json(),
        "outputs": outputs,
    }
    described: dict[str, Any] = {
        "hash": tables.data_hash(hashed),
        "arguments": arguments.as_json(),
        "inputs": inputs,
        "outputs": outputs,
        "counts": {
            "rows": {name: len(some) for name, some in rows.items()},
            "objectives": dict(Counter(pair.objective for pair in made)),
            "pairs": {name: dict(counts) for name, counts in sorted(by_source.items())},
            "pairs_with_negatives": sum(bool(pair.negatives) for pair in made),
            "negatives": sum(len(pair.negatives) for pair in made),
        },
        "rejected": rejected.as_json(),
    }
    for counts in described["counts"]["pairs"].values():
        for split in ("train", "validation", "test"):
            counts.setdefault(split, 0)
    (output / "data.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    (output / "DATA_CARD.md").write_text(card.render(described, made))
    return described


def _show(described: Mapping[str, Any], output: Path, console: Console) -> None:
    """Tell what was made and what was left out."""
    made = Table(
        "pairs", "train", "validation", "test", title=f"{output}, data hash {described['hash'][:16]}"
    )
    for name, counts in described["counts"]["pairs"].items():
        made.add_row(name, *(f"{counts[split]:,}" for split in ("train", "validation", "test")))
    left_out = Table("source", "left out or repaired", "count", "for example")
    for source, reasons in described["rejected"].items():
        for reason, entry in reasons.items():
            left_out.add_row(source, reason, f"{entry['count']:,}", entry["samples"][0][:60])
    console.print(made, left_out)
