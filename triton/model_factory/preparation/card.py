"""The data card: what the prepared data holds, what was left out and why, and a few rows to look at."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_factory.preparation.pairs import Pair

SAMPLES = 6
SAMPLE_CHARS = 110


def render(data: Mapping[str, Any], pairs: Sequence[Pair]) -> str:
    """Return the card as Markdown.

    Args:
        data: what `data.json` holds.
    """
    counts = data["counts"]
    by_split = [
        (name, *(f"{split[key]:,}" for key in ("train", "validation", "test")))
        for name, split in counts["pairs"].items()
    ]
    lines = [
        "# Data card",
        "",
        f"Data hash `{data['hash']}`, seed {data['arguments']['seed']}. Made by `model-factory prepare`;",
        "the same files, arguments and versions give the same hash.",
        "",
        "## Sources",
        "",
        *_table(
            ("source", "file", "SHA-256"),
            [
                (source, entry["name"], f"`{entry['sha256'][:16]}…`")
                for source, entry in data["inputs"].items()
            ],
        ),
        "",
        "Licences and origins are those of the files. Customers, prices and times are in none of the tables.",
        "",
        "## Tables",
        "",
        *_table(("table", "rows"), [(name, f"{rows:,}") for name, rows in counts["rows"].items()]),
        "",
        "Pairs by objective and source:",
        "",
        *_table(("pairs", "train", "validation", "test"), by_split),
        "",
        f"Pairs with hard negatives: {counts['pairs_with_negatives']:,}; negatives: {counts['negatives']:,}.",
        "",
        "## Splits",
        "",
        "- Products: by cluster of near duplicates. Queries: by product cluster, and by the query itself",
        "  where products of several splits gave it. Baskets: by time. Offers: by category and cluster.",
        f"- Validation category: {', '.join(data['arguments']['validation_categories'])}; "
        f"test category: {', '.join(data['arguments']['test_categories'])}.",
        "- Judged queries (`graded`) are in no pair, nor is one that differs by a plural, the order, or a",
        "  typing error. `fold` is for cross-validation by query.",
        "",
        "## Left out or repaired",
        "",
        *_table(
            ("source", "reason", "count", "for example"),
            [
                (source, reason, f"{entry['count']:,}", _cell(entry["samples"][0]))
                for source, reasons in data["rejected"].items()
                for reason, entry in reasons.items()
            ],
        ),
        "",
        "## Samples",
        "",
    ]
    for objective in sorted({pair.objective for pair in pairs}):
        some = [pair for pair in pairs if pair.objective == objective and pair.split == "train"]
        chosen = random.Random(data["arguments"]["seed"]).sample(some, min(SAMPLES, len(some)))
        rows = [
            (_cell(pair.anchor), _cell(pair.positive), _cell(pair.negatives[0] if pair.negatives else ""))
            for pair in chosen
        ]
        lines += [f"`{objective}`:", "", *_table(("anchor", "positive", "a negative"), rows), ""]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "| " + " | ".join("---" for _ in header) + " |",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _cell(text: str) -> str:
    short = text if len(text) <= SAMPLE_CHARS else text[: SAMPLE_CHARS - 1] + "…"
    return short.replace("|", "\\|").replace("\n", " ")
