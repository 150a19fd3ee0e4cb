"""`streamrec evaluate`: lists measured on a shop's log, by the code that makes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli import measuring, shop_log
from stream.cli.options import say
from stream.errors import StreamrecError

if TYPE_CHECKING:
    from stream.core.learning import OnlineLearner
    from stream.evaluation.next_item import Served

app = typer.Typer(
    help="Measure lists on a shop's log, with the code that serves.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("next-item")
def next_item(
    events: shop_log.Events,
    start: measuring.From,
    end: measuring.To = None,
    every: measuring.Every = 1,
    at: measuring.At = 20,
    policy: measuring.PolicyFile = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="DIR",
            help="Rank by this version of the reranker as it was written, and learn nothing.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    learning: measuring.Learning = True,
    warm_up: measuring.WarmUp = 35_000,
    seed: measuring.Seed = 0,
    format: shop_log.FormatOption = None,
    columns: shop_log.Columns = "",
    cache: shop_log.Cache = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Write plots and a page with them.", file_okay=False),
    ] = None,
    json: measuring.JsonFile = None,
) -> None:
    """Measure how well lists hold the next item of a session, beside popularity and item-kNN.

    Replays the log by its own times through the code of the worker, with everything in memory: states,
    signals, candidates, features, the reranker that learns online, policy. It goes on from the shipped
    version where that learnt nothing from --from on, else it begins with nothing. After each of a session's
    first 19 distinct items a list is made, and the next one is what it should hold; items of the session are
    masked. What a session teaches counts from the minute after its end on.

    The policy is the default one, but that bought items may come again (exclude_bought_days = 0), unless
    --policy says otherwise. Rows that cannot be used are counted and shown.

    \b
    Examples:
      streamrec evaluate next-item --events ../shared/data/online_retail/events.csv.gz \\
        --from 2011-06-01 --to 2011-09-01 --every 8 --plots report
      streamrec evaluate next-item --events shop.csv --from 2024-05-01 \\
        --columns user=customer_id,item=sku,time=ts,text=title --json -
    """
    shop_log.one_thread()
    from stream.evaluation import report
    from stream.evaluation.next_item import figures

    window = measuring.window_of(start, end, every, at)
    chosen = measuring.policy_of(policy)
    begun, known_until_ms = _begun(window.from_ms) if learning and model is None else (None, 0)
    ranking = _served(model) if model else measuring.ranking_of(learning, seed, begun)
    if plots is not None:
        report.prepare_plots(plots)
    if json not in (None, "-") and not Path(str(json)).parent.is_dir():
        raise typer.BadParameter(f"{json}: there is no such folder; make it first", param_hint="--json")
    with shop_log.reading(events, format, columns, cache, chosen) as log:
        measured = measuring.measure(
            log, window, ranking, chosen, warm_up, plain=True, known_until_ms=known_until_ms
        )
    found = {
        **figures(measured, seed),
        "policy": str(policy or "default"),
        **measuring.about(log, window),
    }
    if plots is not None:
        written = report.write_plots(found, plots)
        say(f"wrote {', '.join(map(str, written))}")
    measuring.give(found, json, report.tables)


def _served(model: Path) -> Served:
    """Rank by a version of the reranker that is in a folder."""
    from stream.core.ranking import FEATURES
    from stream.evaluation.next_item import Served
    from stream.models.loading import load_reranker

    try:
        network = load_reranker(model)
    except (OSError, KeyError, ValueError) as error:
        raise typer.BadParameter(
            f"{model}: not a version of the reranker ({error}); give one such as model_repository/reranker/1",
            param_hint="--model",
        ) from None
    if tuple(network.features) != FEATURES:
        raise typer.BadParameter(
            f"{model} reads other features than this code computes; train a version with this code",
            param_hint="--model",
        )
    return Served(network, f"reranker {model.name}")


def _begun(from_ms: int) -> tuple[OnlineLearner | None, int]:
    """What the newest shipped version knew that learnt nothing from a time on, and until when it learnt."""
    from stream.core.ranking import FEATURES
    from stream.models import manifest, reranker_version
    from stream.models.repository import DEFAULT, version_folder, versions

    for version in sorted(versions(DEFAULT, "reranker"), key=int, reverse=True):
        folder = version_folder(DEFAULT, "reranker", version)
        try:
            until = manifest.read(folder).training.get("trained_until")
            if until is not None and (until_ms := shop_log.time_of(str(until), "trained_until")) <= from_ms:
                learner = reranker_version.read_learner(folder)
                if learner.features == FEATURES:
                    return learner, until_ms
        except StreamrecError:
            continue
    return None, 0
