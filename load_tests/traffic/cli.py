"""The command line of the load tests."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.cli.progress import progress_bar
from stream.config import Config, load_config
from stream.errors import StreamrecError, WrongFile
from traffic.profiles import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traffic.comparing import Change
    from traffic.result import Result, Run, Saturation
    from traffic.running import Catalogue, Plan, Said

app = typer.Typer(
    name="python -m load_tests",
    help="Load on a running engine, and what its readers see of it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProfileName = StrEnum("ProfileName", {name: name for name in PROFILES})  # type: ignore[misc]
STEADY = ProfileName("steady")
ABOUT = "; ".join(f"{name}: {profile.about}" for name, profile in PROFILES.items())

Topics = Annotated[
    str,
    typer.Option(
        metavar="NAME,NAME",
        help="The topics that may be published to: those of clicks and searches, and of items where products "
        "change or are made up. What the settings name and this does not is refused.",
    ),
]
Bootstrap = Annotated[
    str | None, typer.Option(help="The brokers, instead of those of the settings.", show_default=False)
]
Seed = Annotated[int, typer.Option(help="Chooses who does what when.")]
Shoppers = Annotated[int, typer.Option(min=1, max=10_000_000, help="How many there are.")]
ShopperSkew = Annotated[
    float, typer.Option(min=0, max=3, help="Zipf's exponent over shoppers; 0: all alike.")
]
ItemSkew = Annotated[float, typer.Option(min=0, max=3, help="Zipf's exponent over products.")]
Products = Annotated[int, typer.Option(min=1, help="Most products of the shop that shoppers act on.")]
MakeItems = Annotated[
    int, typer.Option(min=0, help="Publish so many made-up products first; they stay in the catalogue.")
]
Processes = Annotated[
    int | None, typer.Option(min=1, max=64, help="Generators; as many as the rate takes.", show_default=False)
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="Prometheus metrics of a worker or of Triton: http://127.0.0.1:9464/metrics; may be repeated.",
        show_default=False,
    ),
]
SloFile = Annotated[
    Path | None,
    typer.Option("--slo", metavar="FILE", help="Limits; else load_tests/slo.toml.", show_default=False),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here.")]
WarmUp = Annotated[float, typer.Option(min=0, help="Seconds of load before the measuring begins.")]
Patience = Annotated[
    float, typer.Option(min=0, help="Seconds after the last event, after which it counts as unanswered.")
]


Rate = Annotated[float, typer.Option(min=0.1, max=1e6, help="Events a second.")]
PageFile = Annotated[
    Path | None,
    typer.Option("--page", metavar="FILE", help="Write an HTML page with plots here.", show_default=False),
]


@app.command("run")
def run_once(
    topics: Topics,
    profile: Annotated[ProfileName, typer.Option(help=ABOUT)] = STEADY,
    rate: Rate = 50.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, max=1e6, help="How long; else what the profile takes.", show_default=False),
    ] = None,
    warm_up: WarmUp = 3.0,
    patience: Patience = 30.0,
    seed: Seed = 1,
    shoppers: Shoppers = 10_000,
    shopper_skew: ShopperSkew = 0.8,
    item_skew: ItemSkew = 1.0,
    products: Products = 10_000,
    make_items: MakeItems = 0,
    processes: Processes = None,
    metrics: Metrics = None,
    slo: SloFile = None,
    bootstrap: Bootstrap = None,
    config: ConfigFile = None,
    json: JsonFile = None,
    page: PageFile = None,
) -> None:
    """Put a load on a running engine and measure what a reader of its lists sees.

    Events are due at times that chance sets beforehand (a Poisson process) and are sent then, however slow
    the answers are; latency counts from when an event was due. Each event is joined to the list that answers
    it, and one without counts as a failure. Ends with 0 where the SLO was held, with 1 where not.

    \b
    Examples:
      python -m load_tests run --topics clicks,searches --rate 40 --seconds 30
      python -m load_tests run --topics clicks,searches --profile burst --page burst.html \\
        --metrics http://127.0.0.1:9464/metrics --metrics http://127.0.0.1:8002/metrics
      python -m load_tests run --topics clicks,searches,items --profile catalogue-churn --bootstrap kafka:9092
    """
    from traffic.running import Plan, run_load
    from traffic.slo import DEFAULT, load_slo

    settings, limits = _settings(config, bootstrap), load_slo(slo or DEFAULT)
    _check_topics(settings, topics, items=bool(make_items) or bool(PROFILES[profile].churn))
    plan = Plan(
        profile=profile.value,
        rate=rate,
        seconds=seconds or PROFILES[profile].seconds,
        warm_up_s=warm_up,
        patience_s=patience,
        seed=seed,
        shoppers=shoppers,
        shopper_skew=shopper_skew,
        item_skew=item_skew,
        processes=processes,
        metrics=tuple(metrics or ()),
    )

    async def work() -> Run:
        catalogue = await _catalogue(settings, products, make_items, plan)
        with progress_bar(f"{plan.profile} {plan.rate:g}/s", int(plan.seconds)) as show:
            return await run_load(plan, settings, catalogue, limits, _bar(show, plan.seconds))

    result = run(work())
    _say_run(result)
    _keep(result, json, page)
    raise typer.Exit(0 if result.held else 1)


@app.command()
def saturate(
    topics: Topics,
    low: Annotated[float, typer.Option(min=0.1, max=1e6, help="The lowest rate, begun with.")] = 5.0,
    high: Annotated[float, typer.Option(min=0.1, max=1e6, help="The highest rate to try.")] = 2_000.0,
    profile: Annotated[ProfileName, typer.Option(help="As of `run`.")] = STEADY,
    seconds: Annotated[float, typer.Option(min=5, max=1e6, help="How long each probe lasts.")] = 20.0,
    precision: Annotated[
        float, typer.Option(min=0.005, max=1, help="Share of the rate by which it may be off.")
    ] = 0.1,
    most_probes: Annotated[int, typer.Option(min=2, max=100, help="Give up after so many.")] = 14,
    warm_up: WarmUp = 3.0,
    patience: Patience = 30.0,
    seed: Seed = 1,
    shoppers: Shoppers = 10_000,
    shopper_skew: ShopperSkew = 0.8,
    item_skew: ItemSkew = 1.0,
    products: Products = 10_000,
    make_items: MakeItems = 0,
    processes: Processes = None,
    metrics: Metrics = None,
    slo: SloFile = None,
    bootstrap: Bootstrap = None,
    config: ConfigFile = None,
    json: JsonFile = None,
    page: PageFile = None,
) -> None:
    """Find the highest rate that holds the SLO, by bisection, and how sure that is.

    Rates are doubled from the lowest until one does not hold; then each probe is put where the limit is as
    likely above as below. Before each, what the last one left waiting is worked off. Ends with 0 where both a
    rate that holds and one that does not were found, with 1 where not.

    \b
    Examples:
      python -m load_tests saturate --topics clicks,searches --metrics http://127.0.0.1:9464/metrics
      python -m load_tests saturate --topics clicks,searches --low 20 --high 400 --page saturation.html
    """
    from traffic.probing import saturation
    from traffic.running import Plan
    from traffic.slo import DEFAULT, load_slo

    if low >= high:
        raise typer.BadParameter(f"{low:g} is not below --high {high:g}", param_hint="--low")
    settings, limits = _settings(config, bootstrap), load_slo(slo or DEFAULT)
    _check_topics(settings, topics, items=bool(make_items) or bool(PROFILES[profile].churn))
    plan = Plan(
        profile=profile.value,
        rate=low,
        seconds=seconds,
        warm_up_s=warm_up,
        patience_s=patience,
        seed=seed,
        shoppers=shoppers,
        shopper_skew=shopper_skew,
        item_skew=item_skew,
        processes=processes,
        metrics=tuple(metrics or ()),
    )

    async def work() -> Saturation:
        catalogue = await _catalogue(settings, products, make_items, plan)
        with progress_bar("highest rate", most_probes) as show:
            return await saturation(
                plan, settings, catalogue, limits, low, high, precision, most_probes, show
            )

    found = run(work())
    for probe in found.probes:
        said = "held" if probe.held else f"BROKEN: {probe.why}"
        print(f"{probe.rate:8.1f}/s  p99 {probe.latency_p99_ms.value:8.1f} ms  {said}")
    highest = found.highest
    print(
        f"{highest.value:.1f} events a second hold; with {found.confidence:.0%} the highest rate lies "
        f"between {highest.low:.1f} and {highest.high:.1f}"
        + ("" if found.bounded else ", at an end of what was tried")
    )
    _keep(found, json, page)
    raise typer.Exit(0 if found.bounded else 1)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="What `run --json` wrote.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="Another, of the same load.")],
    tolerance: Annotated[
        float, typer.Option(min=0, max=10, help="A change by less than this share counts as none.")
    ] = 0.05,
    json: Json = False,
) -> None:
    """Say what changed between two runs of the same load, with 95 % bounds.

    Ends with 0 where nothing became worse, with 1 where something did, with 2 where the two cannot be
    compared. The bounds tell how far chance within a run reaches, not how much runs differ from day to day.

    \b
    Examples:
      python -m load_tests compare before.json after.json
      python -m load_tests compare before.json after.json --tolerance 0.1 --json
    """
    from traffic.comparing import compare as compared
    from traffic.comparing import read_run

    changes = compared(read_run(before), read_run(after), tolerance)
    if json:
        print_json([change._asdict() for change in changes])
    else:
        _say_changes(changes)
    raise typer.Exit(1 if any(change.verdict == "worse" for change in changes) else 0)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="What `run` or `saturate` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes.")] = Path(
        "load.html"
    ),
) -> None:
    """Make an HTML page of a result: one file with its plots, that needs nothing else.

    \b
    Examples:
      python -m load_tests report steady.json --out steady.html
    """
    from traffic.result import read

    _keep(read(file), None, out)


def main() -> None:
    """Run a command; a user's mistake is one message on stderr and exit code 2."""
    try:
        app()
    except StreamrecError as error:
        print(f"load_tests: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _settings(file: Path | None, bootstrap: str | None) -> Config:
    """The worker's settings, with other brokers where they are given."""
    given = {} if bootstrap is None else {"STREAMREC_KAFKA__BOOTSTRAP": bootstrap}
    return load_config(file, {**os.environ, **given})


def _check_topics(config: Config, allowed: str, *, items: bool) -> None:
    """Refuse to publish to what was not named."""
    wanted = [config.topics.clicks, config.topics.searches, *([config.topics.items] if items else [])]
    named = {name.strip() for name in allowed.split(",")}
    refused = [name for name in wanted if name not in named]
    if refused:
        raise typer.BadParameter(
            f"the settings name {', '.join(wanted)} at {config.kafka.bootstrap}, and {', '.join(refused)} "
            f"may not be published to: say --topics {','.join(wanted)} where that is meant, or name others "
            "in the settings (topics.clicks, topics.searches, topics.items). Made-up shoppers teach an "
            "engine what they do.",
            param_hint="--topics",
        )


async def _catalogue(config: Config, most: int, make: int, plan: Plan) -> Catalogue:
    from traffic.making import make_items
    from traffic.running import read_catalogue

    if make:
        with progress_bar(f"making {make} products", make) as show:
            await make_items(config, make, plan.metrics, show)
    return await read_catalogue(config, most, plan.seed)


def _bar(show: Callable[[int, str], None], seconds: float) -> Said:
    """Move a bar by seconds; where there is no terminal, a line now and then."""
    said_s = time.monotonic()

    def said(at_s: float, note: str) -> None:
        nonlocal said_s
        show(int(max(0.0, min(at_s, seconds))), ("warming up, " if at_s < 0 else "") + note)
        if not sys.stderr.isatty() and time.monotonic() - said_s > 10:
            said_s = time.monotonic()
            say(f"{at_s:6.0f} s  {note}")

    return said


def _keep(found: Result, json: Path | None, page: Path | None) -> None:
    """Write a result to the files that are wanted."""
    from traffic.page import page as laid_out
    from traffic.result import write

    if json is not None:
        write(found, json)
    if page is not None:
        try:
            page.write_text(laid_out(found), "utf-8")
        except OSError as error:
            raise WrongFile(f"{page}: cannot be written ({error.strerror})") from None
        say(f"the page is at {page}")


def _say_changes(changes: Sequence[Change]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("", "before", "after", "difference", "")
    for change in changes:
        found = change.difference
        bounds = "" if found.low is None else f" ({found.low:+.4g} to {found.high:+.4g})"
        shown.add_row(
            f"{change.name}, {change.unit}",
            f"{change.before:.4g}",
            f"{change.after:.4g}",
            f"{found.value:+.4g}{bounds}",
            change.verdict,
            style="bold" if change.verdict in ("worse", "better") else None,
        )
    Console(width=None if sys.stdout.isatty() else 120).print(shown)


def _say_run(result: Run) -> None:
    counts = result.counts
    print(
        f"{counts.get('sent', 0)} events sent, {counts.get('answered', 0)} answered "
        f"({counts.get('named', 0)} by a list of their own, {counts.get('coalesced', 0)} by a later one, "
        f"{counts.get('coalesced_across_topics', 0)} by a later one of the other topic), "
        f"{counts.get('unanswered', 0)} unanswered, {counts.get('not_acknowledged', 0)} not taken by Kafka; "
        f"{counts['lists']} lists"
    )
    for name, times in (("latency", result.latency), ("freshness", result.freshness)):
        said = "  ".join(f"{one} {found.value:.1f}" for one, found in times.percentiles.items())
        print(f"{name:10s} ms  {said}  most {times.most_ms:.1f}")
    for check in result.checks:
        found = "not seen" if check.found is None else f"{check.found.value:.4g}"
        if check.found is not None and check.found.low is not None and check.found.high is not None:
            found += f" ({check.found.low:.4g} to {check.found.high:.4g})"
        verdict = "held  " if check.held else "BROKEN"
        print(f"{verdict} {check.name} {found}, limit {check.limit:g}: {check.said}")
    for note in result.notes:
        say(f"note: {note}")
