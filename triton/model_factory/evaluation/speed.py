"""How fast models are beside each other: measured in turns in one run, so that a busy machine is fair to all.

Two clocks: the wall's, which is what a shopper waits, and the processor's, which counts what the process
itself used and so says more about a model on a machine with neighbours. Ratios are medians over rounds of the
ratio within a round, by the processor's clock on one thread and by the wall's on several.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import served
from model_factory.evaluation import inputs, options, report
from model_factory.evaluation.vectors import MAX_CHARS, model_sha256, refusing

QUERIES = ("wireless mouse", "laptop bag 15 inch", "usb c cable", "gaming headset", "4k monitor", "ssd 1 tb")
"""Short, as shoppers write them."""

LIST = 20
"""Pairs of one list: what the cross-encoder is asked for a search."""

MIX = "mix"
_REPEATS_OF_QUERIES = 8

Work = Callable[[], Any]


class Times(NamedTuple):
    """Seconds of each model in each round, by both clocks; shape [models, rounds]."""

    wall_s: NDArray[np.float64]
    processor_s: NDArray[np.float64]


def evaluate_speed(
    products: options.Products,
    encoder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of an encoder, repeatable; else the published one and the highest version."
        ),
    ] = None,
    cross_encoder: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a cross-encoder, repeatable; else the highest version, if any."),
    ] = None,
    threads: options.Threads = 1,
    rounds: Annotated[int, typer.Option(help="Rounds in which every model has its turn.", min=3)] = 9,
    batches: Annotated[int, typer.Option(help="Batches of 64 texts in a round of the mix.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of the choice of products.", min=0)] = 0,
    json_: options.Json = None,
    markdown: options.Markdown = False,
) -> None:
    """Measure texts/s by length and on products as they are, the wait for one query, and pairs/s.

    Example: model-factory evaluate speed --products ../shared/data/icecat/products.jsonl.gz
    --encoder model_repository/encoder/1 --encoder model_repository/encoder/2 --threads 1 --json -

    The first encoder and the first cross-encoder named are what the others are compared with.
    """
    report.check(json_, None)
    figures = evaluate(products, encoder, cross_encoder, threads, rounds, batches, seed)
    report.publish(figures, tables(figures), json_, markdown)


def evaluate(
    products: Path,
    encoders: Sequence[Path] | None = None,
    cross_encoders: Sequence[Path] | None = None,
    threads: int = 1,
    rounds: int = 9,
    batches: int = 4,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure models in turns; return the figures as JSON values.

    Raises:
        typer.BadParameter: a file or folder is not what it has to be.
    """
    if encoders is None:
        encoders = list(dict.fromkeys((served.PUBLISHED_ENCODER, served.ENCODER)))
    if cross_encoders is None:
        cross_encoders = [served.CROSS_ENCODER] if (served.CROSS_ENCODER / "model.onnx").is_file() else []
    texts = [product.text[:MAX_CHARS] for product in inputs.read_products(products) if product.text]
    random.Random(seed).shuffle(texts)
    console = Console(stderr=True)
    figures: dict[str, Any] = {
        "data": {"products": len(texts)},
        "threads": threads,
        "rounds": rounds,
        "ratio_by": "processor time" if threads == 1 else "wall time",
        "encoders": {},
        "cross_encoders": {},
    }
    if encoders:
        hashes = [model_sha256(folder, "encoder") for folder in encoders]
        loaded = [_load(folder, "encoder", threads) for folder in encoders]
        works = text_works(texts, encoders[0] / "tokenizer.json", batches)
        measured = {
            name: in_turns([_all(model.encode, work) for model in loaded], rounds)
            for name, work in track(works.items(), "encoding", console=console)
        }
        waits = one_at_a_time([model.encode for model in loaded], [[q] for q in QUERIES], rounds)
        for place, folder in enumerate(encoders):
            figures["encoders"][str(folder)] = {
                "sha256": hashes[place],
                "bytes": _bytes(folder),
                "texts": {
                    name: _rate(times, place, sum(map(len, works[name])), threads)
                    for name, times in measured.items()
                },
                "one_query_ms": _waits(waits[place]),
            }
    if cross_encoders:
        hashes = [model_sha256(folder, "cross-encoder") for folder in cross_encoders]
        scorers = [_load(folder, "cross_encoder", threads) for folder in cross_encoders]
        pairs = list(zip(itertools.cycle(QUERIES), texts[: served.BATCH * batches], strict=False))
        with console.status("scoring pairs"):
            times = in_turns([_all(model.score, [pairs]) for model in scorers], rounds)
            waits = one_at_a_time([model.score for model in scorers], _lists(pairs), rounds)
        for place, folder in enumerate(cross_encoders):
            figures["cross_encoders"][str(folder)] = {
                "sha256": hashes[place],
                "bytes": _bytes(folder),
                "pairs": _rate(times, place, len(pairs), threads),
                f"{LIST}_pairs_ms": _waits(waits[place]),
            }
    return figures


def text_works(texts: Sequence[str], tokenizer: Path, batches: int) -> dict[str, list[list[str]]]:
    """Return batches of 64 texts: of exactly so many tokens for each bucket, and products as they are.

    Args:
        tokenizer: by which the tokens are counted, [CLS] and [SEP] among them.
    """
    from tokenizers import Tokenizer

    counting = Tokenizer.from_file(str(tokenizer))
    counting.no_padding()
    counting.no_truncation()
    works = {}
    for bucket in served.batching("encoder").BUCKETS:
        cut = []
        for text in itertools.islice(itertools.cycle(texts), 20 * served.BATCH):
            encoding = counting.encode(text)
            if len(encoding.ids) >= bucket:
                cut.append(text[: encoding.offsets[bucket - 2][1]])
            if len(cut) == served.BATCH:
                break
        if cut:
            works[str(bucket)] = [list(itertools.islice(itertools.cycle(cut), served.BATCH))]
    whole = texts[: served.BATCH * batches]
    works[MIX] = [whole[start : start + served.BATCH] for start in range(0, len(whole), served.BATCH)]
    return works


def in_turns(works: Sequence[Work], rounds: int) -> Times:
    """Do every work once unmeasured, then in each round once, another one first each time."""
    for work in works:
        work()
    times = Times(*(np.zeros((len(works), rounds)) for _ in range(2)))
    for number in range(rounds):
        for turn in range(len(works)):
            place = (number + turn) % len(works)
            wall, processor = time.perf_counter(), time.process_time()
            works[place]()
            times.wall_s[place, number] = time.perf_counter() - wall
            times.processor_s[place, number] = time.process_time() - processor
    return times


def one_at_a_time(
    models: Sequence[Callable[[Any], Any]], requests: Sequence[Any], rounds: int
) -> NDArray[np.float64]:
    """Ask every model for each request alone, in turns; seconds by the wall's clock [models, requests]."""
    waits = []
    for request in list(requests) * _REPEATS_OF_QUERIES:
        waits.append(in_turns([_one(model, request) for model in models], rounds).wall_s)
    return np.concatenate(waits, axis=1)


def tables(figures: Mapping[str, Any]) -> list[report.Table]:
    """Lay out the figures for people."""
    laid_out = []
    if figures["encoders"]:
        works = list(next(iter(figures["encoders"].values()))["texts"])
        laid_out.append(
            report.Table(
                f"texts/s by tokens of a text, and products as they are; {figures['threads']} thread(s), "
                f"ratio by {figures['ratio_by']}",
                ("encoder", "MB", *works, "ratio (mix)", "one query, p50 / p95 ms"),
                [
                    (
                        folder,
                        f"{said['bytes'] / 1e6:.1f}",
                        *(f"{said['texts'][work]['per_s']:.0f}" for work in works),
                        f"{said['texts'][MIX]['ratio']:.2f}",
                        "{p50:.1f} / {p95:.1f}".format(**said["one_query_ms"]),
                    )
                    for folder, said in figures["encoders"].items()
                ],
            )
        )
    if figures["cross_encoders"]:
        laid_out.append(
            report.Table(
                f"pairs/s, a short query and a product; {figures['threads']} thread(s)",
                ("cross-encoder", "MB", "pairs/s", "ratio", f"{LIST} pairs, p50 / p95 ms"),
                [
                    (
                        folder,
                        f"{said['bytes'] / 1e6:.1f}",
                        f"{said['pairs']['per_s']:.0f}",
                        f"{said['pairs']['ratio']:.2f}",
                        "{p50:.1f} / {p95:.1f}".format(**said[f"{LIST}_pairs_ms"]),
                    )
                    for folder, said in figures["cross_encoders"].items()
                ],
            )
        )
    return laid_out


def _load(folder: Path, model: str, threads: int) -> Any:
    with refusing(folder, model.replace("_", "-")):
        if model == "encoder":
            encoder = served.load_encoder(folder, threads)
            encoder.encode(["a first text"])
            return encoder
        scorer = served.load_cross_encoder(folder, threads)
        scorer.score([("a query", "a text")])
        return scorer


def _all(model: Callable[[Any], Any], batches: Sequence[Any]) -> Work:
    return lambda: [model(batch) for batch in batches]


def _one(model: Callable[[Any], Any], request: Any) -> Work:
    return lambda: model(request)


def _lists(pairs: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    """Return lists of pairs of one query each."""
    query = pairs[0][0]
    return [[(query, text) for _, text in pairs[:LIST]]]


def _rate(times: Times, place: int, count: int, threads: int) -> dict[str, float]:
    """Return things a second by both clocks, and the ratio to the first model."""
    by = times.processor_s if threads == 1 else times.wall_s
    return {
        "per_s": round(count / float(np.median(times.wall_s[place])), 1),
        "per_processor_s": round(count / float(np.median(times.processor_s[place])), 1),
        "ratio": round(float(np.median(by[0] / by[place])), 3),
    }


def _waits(waits_s: NDArray[np.float64]) -> dict[str, float]:
    p50, p95 = np.quantile(waits_s, (0.5, 0.95)) * 1_000
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in ("model.onnx", "tokenizer.json"))
