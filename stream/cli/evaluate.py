"""`streamrec evaluate`: lists measured on a shop's log, by the code that makes them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import print_json, say
from stream.errors import StreamrecError

if TYPE_CHECKING:
    from stream.core.learning import OnlineLearner
    from stream.core.policy import Policy
    from stream.evaluation.log import BadRows
    from stream.evaluation.next_item import Measured, Ranking, Watch, Window
    from stream.evaluation.sessions import Session
    from stream.evaluation.text_vectors import TextVectors

app = typer.Typer(
    help="Measure lists on a shop's log, with the code that serves.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Events = Annotated[
    list[Path],
    typer.Option(
        "--events",
        metavar="FILE",
        help="The log, CSV (perhaps gzipped) or Parquet; several are joined.",
        exists=True,
        dir_okay=False,
    ),
]
From = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Sessions from this time on are measured: ISO 8601, UTC."),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Stop before this time; else at the log's end.")
]
Every = Annotated[int, typer.Option("--every", min=1, help="Measure every n-th session of two items up.")]
At = Annotated[int, typer.Option("--at", min=1, max=100, help="Length of the lists: the K of HR@K.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="online-retail, csv or parquet; else detected.",
        show_default=False,
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="NAME=COLUMN,...",
        help="Which column is the user, item, time, type, text, session, price; else by common names.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Where vectors of texts are remembered; else ~/.cache/streamrec/evaluation.",
        show_default=False,
        file_okay=False,
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write figures as JSON; - for standard output."),
]
WarmUp = Annotated[
    int, typer.Option("--warm-up", min=0, help="About so many lists before the time are learnt from.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the learner's start and of the resamples.")]


@app.command("next-item")
def next_item(
    events: Events,
    start: From,
    end: To = None,
    every: Every = 1,
    at: At = 20,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="TOML with a section [policy].", exists=True, dir_okay=False
        ),
    ] = None,
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
    learning: Annotated[
        bool, typer.Option("--learning/--no-learning", help="Learn online; else the linear blend ranks.")
    ] = True,
    warm_up: WarmUp = 35_000,
    seed: Seed = 0,
    format: FormatOption = None,
    columns: Columns = "",
    cache: Cache = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Write plots and a page with them.", file_okay=False),
    ] = None,
    json: JsonFile = None,
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
    one_thread()
    started_s = time.monotonic()
    from stream.evaluation import next_item as measuring

    window = window_of(start, end, every, at)
    chosen = policy_of(policy)
    begun, known_until_ms = _begun(window.from_ms) if learning and model is None else (None, 0)
    ranking = ranking_of(model, learning, seed, begun)
    with progress_bars(sys.stderr.isatty()) as step:
        sessions, bad = read_sessions(events, format, columns, chosen, step)
        vectors = vectors_of(sessions, cache, step)
        measured = measure(
            sessions, vectors, window, ranking, chosen, warm_up, step, known_until_ms=known_until_ms
        )
    found = {
        **measuring.figures(measured, seed),
        **about(events, window, vectors, bad),
        "policy": str(policy or "default"),
        "seconds": round(time.monotonic() - started_s, 1),
    }
    _give(found, bad, json, plots)


def one_thread() -> None:
    """Small products are fastest on one thread, and on one their sums always have the same order."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def window_of(start: str, end: str | None, every: int, at: int) -> Window:
    from stream.evaluation.next_item import Window

    from_ms = time_of(start, "--from")
    to_ms = None if end is None else time_of(end, "--to")
    if to_ms is not None and to_ms <= from_ms:
        raise typer.BadParameter(f"{end} is not after {start}", param_hint="--to")
    return Window(from_ms, to_ms, every, at)


def time_of(text: str, option: str) -> int:
    from stream.evaluation.log import parse_time

    at_ms = parse_time(text)
    if at_ms is None:
        raise typer.BadParameter(
            f"{text!r} is not a time, such as 2011-06-01 or 2011-06-01T08:30", param_hint=option
        )
    return at_ms


def policy_of(path: Path | None) -> Policy:
    """The policy of a measurement: what a file says, over the defaults of the protocol."""
    import msgspec

    from stream.config import load_with_origin
    from stream.evaluation.replay import POLICY

    if path is None:
        return POLICY
    said = [one for one in load_with_origin(path, {}).settings if one.key.startswith("policy.")]
    changes = {one.key.partition(".")[2]: one.value for one in said if one.origin != "default"}
    return msgspec.structs.replace(POLICY, **changes)


def ranking_of(model: Path | None, learning: bool, seed: int, begun: OnlineLearner | None = None) -> Ranking:
    from stream.core.ranking import FEATURES
    from stream.evaluation.next_item import Blended, Learnt, Served
    from stream.models.loading import load_reranker

    if model is None:
        return Learnt(seed, begun=begun) if learning else Blended()
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
            if until is not None and (until_ms := time_of(str(until), "trained_until")) <= from_ms:
                learner = reranker_version.read_learner(folder)
                if learner.features == FEATURES:
                    return learner, until_ms
        except StreamrecError:
            continue
    return None, 0


Step = Callable[[str, int | None], Callable[[int], None]]
"""Begins a part of the work, with its amount; the function it gives takes the amount done."""


@contextmanager
def progress_bars(shown: bool) -> Iterator[Step]:
    """One bar for each part of the work, on stderr; none where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not shown,
    ) as progress:

        def step(title: str, total: int | None) -> Callable[[int], None]:
            task = progress.add_task(title, total=total)
            return lambda done: progress.update(task, completed=done)

        yield step


def read_sessions(
    events: list[Path], format: str | None, columns: str, policy: Policy, step: Step
) -> tuple[list[Session], BadRows]:
    from stream.evaluation.log import BadRows, Format, parse_columns, read_log

    try:
        mapping = parse_columns(columns)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--columns") from None
    if format is not None and format not in list(Format):
        raise typer.BadParameter(f"{format!r} is none of {', '.join(Format)}", param_hint="--format")
    bad = BadRows()
    size = sum(path.stat().st_size for path in events)
    progress = step("reading", size)
    sessions = read_log(
        events,
        bad,
        format=None if format is None else Format(format),
        columns=mapping,
        policy=policy,
        progress=progress,
    )
    progress(size)
    return sessions, bad


def vectors_of(sessions: list[Session], cache: Path | None, step: Step) -> TextVectors:
    from stream.evaluation.sessions import texts
    from stream.evaluation.text_vectors import text_vectors
    from stream.local.cache import cache_folder

    found = texts(sessions)
    made = text_vectors(found, cache or cache_folder() / "evaluation", progress=step("encoding", len(found)))
    if made.missing:
        say(f"going on without texts: {made.missing}")
    return made


def measure(
    sessions: list[Session],
    vectors: TextVectors,
    window: Window,
    ranking: Ranking,
    policy: Policy,
    warm_up: int,
    step: Step,
    plain: bool = True,
    watch: Watch | None = None,
    known_until_ms: int = 0,
) -> Measured:
    from stream.cli.reading import clock
    from stream.evaluation import next_item as measuring

    measured = measuring.run(
        sessions,
        vectors.by_text,
        window,
        ranking,
        policy,
        plain=plain,
        warm_up_lists=warm_up,
        known_until_ms=known_until_ms,
        progress=step("replaying", len(sessions)),
        watch=watch,
    )
    if not measured.asked.sessions:
        first, last = clock(sessions[0].minute_ms), clock(sessions[-1].minute_ms)
        raise typer.BadParameter(
            f"no list to measure: the log's sessions are from {first} to {last}, and every "
            f"{window.every}. of two items up in the window is asked; choose another --from, --to or --every"
        )
    return measured


def about(events: list[Path], window: Window, vectors: TextVectors, bad: BadRows) -> dict[str, Any]:
    """What the figures are of."""
    return {
        "at": window.at,
        "window": {
            "from": _iso(window.from_ms),
            "to": None if window.to_ms is None else _iso(window.to_ms),
            "every": window.every,
        },
        "events": [path.name for path in events],
        "rows_left_out": dict(bad.count),
        "text": vectors.version or None,
        "text_missing": vectors.missing,
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _give(found: dict[str, Any], bad: BadRows, json: str | None, plots: Path | None) -> None:
    from stream.evaluation import report

    if bad.count:
        say(f"left out {bad.count.total()} rows:")
        for line in bad.lines():
            say(line)
    if plots is not None:
        written = report.write_plots(found, plots)
        say(f"wrote {', '.join(map(str, written))}")
    write(found, json, report.tables)


def write(found: dict[str, Any], json: str | None, tables: Callable[[dict[str, Any]], Any]) -> None:
    """JSON on standard output or in a file, else tables."""
    import msgspec
    from rich.console import Console

    if json == "-":
        print_json(found)
        return
    if json is not None:
        try:
            Path(json).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        except OSError as error:
            raise typer.BadParameter(f"{json}: {error.strerror}", param_hint="--json") from None
    Console().print(tables(found))
