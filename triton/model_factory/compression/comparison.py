"""The command `compare`: what each step of making a model smaller costs in quality and gains in speed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from model_factory.evaluation import pairs as pairs_evaluation
from model_factory.evaluation import report, speed
from model_factory.evaluation import search as search_evaluation

QUALITIES = {
    "judged": "nDCG@10, judged products",
    "catalogue": "nDCG@10, whole catalogue",
    "accuracy_at_1": "same product, accuracy@1",
}


def compare(
    output: Annotated[
        Path, typer.Argument(help="Folder for comparison.json, comparison.md, comparison.png.")
    ],
    steps: Annotated[
        list[str],
        typer.Option(
            "--step", help="NAME=FOLDER of an exported encoder, in order; the first is the reference."
        ),
    ],
    products: Annotated[Path, typer.Option(help="See `evaluate search`.", exists=True)],
    qrels: Annotated[Path | None, typer.Option(help="See `evaluate search`.", exists=True)] = None,
    offers: Annotated[Path | None, typer.Option(help="See `evaluate pairs`.", exists=True)] = None,
    system: Annotated[
        str, typer.Option(help="What of `evaluate search` counts: encoder or hybrid.")
    ] = "encoder",
    rounds: Annotated[int, typer.Option(help="See `evaluate speed`.", min=3)] = 9,
) -> None:
    """Put encoders beside each other: quality, size, texts/s on one thread; say which are worth having.

    Example: model-factory compare runs/comparison --step published=model_repository/encoder/1
    --step "3 layers"=runs/small/int8 --products ../shared/data/icecat/products.jsonl.gz
    --qrels ../shared/data/icecat/qrels.csv --offers ../shared/data/pricerunner/offers.csv.gz

    Worth having (on the Pareto front) is what no other one beats in both speed and a quality.
    """
    folders = _folders(steps)
    if qrels is None and offers is None:
        raise typer.BadParameter("name what the quality is measured on: --qrels, --offers or both.")
    if system not in ("encoder", "hybrid"):
        raise typer.BadParameter(f"--system {system}: encoder or hybrid.")
    output.mkdir(parents=True, exist_ok=True)
    report.check(None, output / "comparison.png")
    fast = speed.evaluate(products, list(folders.values()), [], rounds=rounds)["encoders"]
    rows: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        said = fast[str(folder)]
        row: dict[str, Any] = {"bytes": said["bytes"], **said["texts"][speed.MIX], "sha256": said["sha256"]}
        row["quality"] = quality(folder, products, qrels, offers, system, output / "vectors")
        rows[name] = row
    for name, row in rows.items():
        row["front"] = [measure for measure in row["quality"] if name in front(rows, measure)]
    figures = {"system": system, "steps": rows}
    (output / "comparison.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    laid_out = table(rows)
    (output / "comparison.md").write_text(report.as_markdown(laid_out))
    draw(rows, output / "comparison.png")
    report.publish(figures, [laid_out], None, markdown=False)


def quality(
    folder: Path, products: Path, qrels: Path | None, offers: Path | None, system: str, cache: Path
) -> dict[str, Mapping[str, float]]:
    """Return the figures of an encoder, with their intervals."""
    found: dict[str, Mapping[str, float]] = {}
    if qrels is not None:
        search = search_evaluation.evaluate(products, qrels, folder, cache=cache)["systems"][system]
        found |= {scope: search[scope]["ndcg_at_10"] for scope in ("judged", "catalogue")}
    if offers is not None:
        same = pairs_evaluation.evaluate(offers, folder, cache=cache)["systems"]["encoder"]["all"]
        found["accuracy_at_1"] = same["accuracy_at_1"]
    return found


def front(rows: Mapping[str, Mapping[str, Any]], measure: str) -> set[str]:
    """Return the names that no other beats: faster and as good, or better and as fast."""
    at = {name: (row["per_processor_s"], row["quality"][measure]["value"]) for name, row in rows.items()}
    return {
        name
        for name, (fast, good) in at.items()
        if not any(
            f >= fast and g >= good and (f, g) != (fast, good)
            for other, (f, g) in at.items()
            if other != name
        )
    }


def table(rows: Mapping[str, Mapping[str, Any]]) -> report.Table:
    """Lay the steps out; a star marks a figure on the front."""
    measures = list(next(iter(rows.values()))["quality"])
    return report.Table(
        "Encoders in 64 texts a batch on one thread; * none is both faster and better",
        ("step", "MB", "texts/s", "ratio", *(QUALITIES[measure] for measure in measures)),
        [
            (
                name,
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['per_s']:.0f}",
                f"{row['ratio']:.2f}",
                *(
                    report.written(row["quality"][measure]) + (" *" if measure in row["front"] else "")
                    for measure in measures
                ),
            )
            for name, row in rows.items()
        ],
    )


def draw(rows: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw quality over speed, a panel a measure, the front as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measures = list(next(iter(rows.values()))["quality"])
    figure, axes = pyplot.subplots(1, len(measures), figsize=(4.6 * len(measures), 3.8), squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        at = {name: (row["ratio"], row["quality"][measure]) for name, row in rows.items()}
        for name, (fast, said) in at.items():
            error = ([said["value"] - said["low"]], [said["high"] - said["value"]])
            axis.errorbar([fast], [said["value"]], yerr=error, fmt="o", capsize=3, color="#4c78a8")
            axis.annotate(name, (fast, said["value"]), xytext=(5, 4), textcoords="offset points", fontsize=8)
        best = sorted((at[name][0], at[name][1]["value"]) for name in front(rows, measure))
        axis.plot([fast for fast, _ in best], [good for _, good in best], color="#e45756", linewidth=1)
        axis.set(xlabel=f"texts/s, times those of {next(iter(rows))}", title=QUALITIES[measure])
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _folders(steps: Sequence[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for step in steps:
        name, separator, folder = step.partition("=")
        if not separator or not name or name in folders:
            raise typer.BadParameter(f"--step {step}: write NAME=FOLDER, each name once.")
        folders[name] = Path(folder)
    return folders
