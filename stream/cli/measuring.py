"""What all measurements on a shop's log share: their options, how they measure, and how they give figures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import print_json
from stream.cli.shop_log import ShopLog, time_of

if TYPE_CHECKING:
    from stream.core.learning import OnlineLearner
    from stream.core.policy import Policy
    from stream.evaluation.next_item import Measured, Ranking, Watch, Window
    from stream.evaluation.replay import Beside

From = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Sessions from this time on are measured: ISO 8601, UTC."),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Stop before this time; else at the log's end.")
]
Every = Annotated[int, typer.Option("--every", min=1, help="Measure every n-th session of two items up.")]
At = Annotated[int, typer.Option("--at", min=1, max=100, help="Length of the lists: the K of HR@K.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="TOML with a section [policy].", exists=True, dir_okay=False
    ),
]
Learning = Annotated[
    bool, typer.Option("--learning/--no-learning", help="Learn online; else the linear blend ranks.")
]
WarmUp = Annotated[
    int, typer.Option("--warm-up", min=0, help="About so many lists before the time are learnt from.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the learner's start and of the resamples.")]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write figures as JSON; - for standard output."),
]


def window_of(start: str, end: str | None, every: int, at: int) -> Window:
    """The sessions that are measured, and the lists' length."""
    from stream.evaluation.next_item import Window

    from_ms = time_of(start, "--from")
    to_ms = None if end is None else time_of(end, "--to")
    if to_ms is not None and to_ms <= from_ms:
        raise typer.BadParameter(f"{end} is not after {start}", param_hint="--to")
    return Window(from_ms, to_ms, every, at)


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


def ranking_of(learning: bool, seed: int, begun: OnlineLearner | None = None) -> Ranking:
    """What orders the lists: a learner, from nothing or going on from `begun`, or the linear weights."""
    from stream.evaluation.next_item import Blended, Learnt

    return Learnt(seed, begun=begun) if learning else Blended()


def measure(
    log: ShopLog,
    window: Window,
    ranking: Ranking,
    policy: Policy,
    warm_up: int,
    plain: bool = False,
    watch: Watch | None = None,
    known_until_ms: int = 0,
    beside: Beside = (),
) -> Measured:
    """Replay a log; arguments as of `stream.evaluation.next_item.run`."""
    from stream.cli.reading import clock
    from stream.evaluation import next_item

    measured = next_item.run(
        log.sessions,
        log.vectors.by_text,
        window,
        ranking,
        policy,
        plain=plain,
        warm_up_lists=warm_up,
        known_until_ms=known_until_ms,
        progress=log.step("replaying", len(log.sessions)),
        watch=watch,
        beside=beside,
    )
    if not measured.asked.sessions:
        first, last = clock(log.sessions[0].minute_ms), clock(log.sessions[-1].minute_ms)
        raise typer.BadParameter(
            f"no list to measure: the log's sessions are from {first} to {last}, and every "
            f"{window.every}. of two items up in the window is asked; choose another --from, --to or --every"
        )
    return measured


def about(log: ShopLog, window: Window) -> dict[str, Any]:
    """What the figures are of, and how long they took."""
    return {
        "at": window.at,
        "window": {
            "from": _iso(window.from_ms),
            "to": None if window.to_ms is None else _iso(window.to_ms),
            "every": window.every,
        },
        "events": [path.name for path in log.files],
        "rows_left_out": dict(log.bad.count),
        "text": log.vectors.version or None,
        "text_missing": log.vectors.missing,
        "seconds": log.seconds(),
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def give(found: dict[str, Any], json: str | None, tables: Callable[[dict[str, Any]], Any]) -> None:
    """Print figures, as tables or for `--json -` as JSON; where a file is named, write them there too."""
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
