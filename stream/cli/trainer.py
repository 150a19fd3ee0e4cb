"""`streamrec trainer`: the reranker learns, on a log or as the stream flows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli import shop_log
from stream.cli.models import Repository
from stream.cli.options import ConfigFile, Json, print_json
from stream.config import load_config

if TYPE_CHECKING:
    from stream.evaluation.warm_up import Warm

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def run(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Stop when all that lies in the topics has been learnt from.")
    ] = False,
    roll: Annotated[
        bool, typer.Option("--roll/--no-roll", help="Let new versions take over; else only learn.")
    ] = True,
    repository: Repository = None,
    config: ConfigFile = None,
) -> None:
    """Let the reranker learn from the stream, and let what it learnt take over, until told to stop.

    Workers log what their lists were ranked by (trainer.list_share of them) to the topic list-log. A trainer
    reads it beside the clicks: what a list should have held is the next new item that its shopper touched in
    the same session, and only sessions that have ended are learnt from. Every list is scored before it is
    learnt from, by the learner, the version that serves and the one before: these running figures decide
    whether a new version takes over (trainer.roll_minutes, trainer.roll_lists, trainer.roll_margin) and
    whether the one before serves again (trainer.rollback_lists, trainer.rollback_margin). They are also
    metrics, on trainer.port.

    It begins with the version that serves, where `streamrec trainer warm-up` made it. Its checkpoint, in
    trainer.folder, survives a kill: learning goes on exactly where it was. SIGTERM and Ctrl-C keep all that
    was learnt.

    \b
    Examples:
      streamrec trainer
      streamrec trainer --no-roll --once
      STREAMREC_TRAINER__ROLL_MINUTES=15 streamrec trainer --repository models
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_config(config)
    said = settings.trainer.repository
    folder = _repository(repository or (Path(said) if said else None))
    from stream.trainer import run_trainer

    raise typer.Exit(run_trainer(settings, folder, roll=roll, once=once))


@app.command("warm-up")
def warm_up(
    events: shop_log.Events,
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="Learn from what lies before: ISO 8601, UTC.")
    ],
    lists: Annotated[
        int, typer.Option(help="About so many lists are learnt from before those of the figures.", min=1_000)
    ] = 35_000,
    passes: Annotated[
        int,
        typer.Option(
            help="How often each of those is learnt from; for more than 1 they are kept, 30 KB each.", min=1
        ),
    ] = 9,
    version: Annotated[
        str | None,
        typer.Option("--version", help="Number of the version; else the next one.", show_default=False),
    ] = None,
    blend: Annotated[
        Path | None,
        typer.Option(
            "--blend",
            metavar="FILE",
            help="Write the linear weights too, as stream/core/blend.py.",
            dir_okay=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights' start.")] = 0,
    format: shop_log.FormatOption = None,
    columns: shop_log.Columns = "",
    cache: shop_log.Cache = None,
    repository: Repository = None,
    json: Json = False,
) -> None:
    """Learn from a shop's log and write a version of the reranker; it serves when it is promoted.

    Replays the log by its own times through the code of the worker and learns as the trainer would have:
    from sessions that have ended, in their order. The figures in the manifest are of the last 92 days before
    --until, every list scored before it was learnt from. A trainer that is started on this version goes on
    where it stopped.

    \b
    Examples:
      streamrec trainer warm-up --events ../shared/data/online_retail/events.csv.gz --until 2011-06-01
      streamrec trainer warm-up --events shop.csv --columns user=customer,item=sku,time=ts --until 2024-05-01
      streamrec models promote reranker 2
    """
    shop_log.one_thread()
    from stream.evaluation.replay import POLICY
    from stream.evaluation.warm_up import blend_module
    from stream.evaluation.warm_up import warm_up as learn
    from stream.models import reranker_version
    from stream.models.repository import new_version, versions

    folder = _repository(repository)
    number = version or str(max(map(int, versions(folder, "reranker")), default=0) + 1)
    until_ms = shop_log.time_of(until, "--until")
    with shop_log.reading(events, format, columns, cache, POLICY) as log:
        try:
            warm = learn(
                log.sessions,
                log.vectors.by_text,
                until_ms,
                lists=lists,
                passes=passes,
                seed=seed,
                progress=log.step("learning", len(log.sessions)),
            )
        except ValueError as error:
            raise typer.BadParameter(
                f"{error}: the log has none before {until}", param_hint="--until"
            ) from None
    with new_version(folder / "reranker", number) as making:
        reranker_version.write(
            making,
            warm.learner,
            number,
            **_said(warm, events, until, lists, passes, seed, log.vectors.version),
        )
    if blend is not None:
        blend.write_text(blend_module(warm.learner))
    found = {
        "version": number,
        "folder": str(folder / "reranker" / number),
        "lists_learnt": warm.learner.lists,
        "seconds": log.seconds(),
        **{name: warm.figures[name] for name in ("hr_at_20", "mrr_at_20", "lists")},
    }
    if json:
        print_json(found)
        return
    print(
        f"{found['folder']}: learnt from {found['lists_learnt']:,} lists until {until}; of the last "
        f"{found['lists']:,} measured, each before it was learnt from: HR@20 {found['hr_at_20']:.4f}, "
        f"MRR@20 {found['mrr_at_20']:.4f}. `streamrec models promote reranker {number}` lets it serve"
    )


def _repository(repository: Path | None) -> Path:
    from stream.models.repository import DEFAULT

    folder = repository or DEFAULT
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is missing: name the model repository with --repository")
    return folder


def _said(
    warm: Warm, events: list[Path], until: str, lists: int, passes: int, seed: int, encoder: str
) -> dict[str, Any]:
    """What the manifest of a version says of its training."""
    from stream.evaluation.warm_up import MEASURED_DAYS
    from stream.models.manifest import sha256

    digests = [sha256(path) for path in events]
    window, figures = warm.window, warm.figures
    data = (
        f"{' '.join(digests)}, lists of {MEASURED_DAYS} days before {until}, every {window.every}th session, "
        "each before it was learnt from"
    )
    return {
        "origin": f"learnt from nothing on {', '.join(path.name for path in events)}",
        "made": (
            f"streamrec trainer warm-up {' '.join(f'--events {path.name}' for path in events)} "
            f"--until {until} --lists {lists} --passes {passes} --seed {seed}"
        ),
        "data_sha256": " ".join(digests),
        "training": {
            "trained_until": until,
            "lists": warm.learner.lists,
            "passes": passes,
            "sessions": f"one in {warm.learnt_every}",
            "encoder": encoder,
            "seed": seed,
        },
        "measured": [
            {
                "metric": f"next item {shown}",
                "data": data,
                "value": figures[name],
                "interval": [figures["intervals"][name][end] for end in ("low", "high")],
            }
            for name, shown in (("hr_at_20", "HR@20"), ("mrr_at_20", "MRR@20"))
        ],
        "figures": {
            name: figures[name]
            for name in ("lists", "sessions", "hr_at_20", "mrr_at_20", "ndcg_at_20", "intervals", "history")
        },
    }
