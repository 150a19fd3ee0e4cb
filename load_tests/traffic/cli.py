"""The command line of the load tests."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, run, say
from stream.cli.progress import progress_bar
from stream.config import Config, load_config
from stream.errors import StreamrecError
from traffic.profiles import PROFILES

if TYPE_CHECKING:
    from traffic.result import Run
    from traffic.running import Catalogue, Plan, Said

app = typer.Typer(
    name="python -m load_tests",
    help="Load on a running engine, and what its readers see of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProfileName = StrEnum("ProfileName", {name: name for name in PROFILES})
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


@app.command("run")
def run_once(
    topics: Topics,
    profile: Annotated[ProfileName, typer.Option(help=ABOUT)] = STEADY,
    rate: Annotated[float, typer.Option(min=0.1, max=1e6, help="Events a second.")] = 50.0,
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
    make_items: Annotated[
        int, typer.Option(min=0, help="Publish so many made-up products first; they stay in the catalogue.")
    ] = 0,
    processes: Processes = None,
    metrics: Metrics = None,
    slo: SloFile = None,
    bootstrap: Bootstrap = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Put a load on a running engine and measure what a reader of its lists sees.

    Events are due at times that chance sets beforehand (a Poisson process) and are sent then, however slow
    the answers are; latency counts from when an event was due. Each event is joined to the list that answers
    it, and one without counts as a failure. Ends with 0 where the SLO was held, with 1 where not.

    \b
    Examples:
      python -m load_tests run --topics clicks,searches --rate 40 --seconds 30
      python -m load_tests run --topics clicks,searches --profile burst --json burst.json \\
        --metrics http://127.0.0.1:9464/metrics --metrics http://127.0.0.1:8002/metrics
      python -m load_tests run --topics clicks,searches,items --profile catalogue-churn --bootstrap kafka:9092
    """
    from traffic.result import write
    from traffic.running import Plan, run_load
    from traffic.slo import DEFAULT, load_slo

    settings, limits = _settings(config, bootstrap), load_slo(slo or DEFAULT)
    churns = bool(PROFILES[profile].churn)
    _check_topics(settings, topics, items=bool(make_items) or churns)
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
        file=config,
        metrics=tuple(metrics or ()),
    )

    async def work() -> Run:
        catalogue = await _catalogue(settings, products, make_items, plan)
        with progress_bar(f"{plan.profile} {plan.rate:g}/s", int(plan.seconds)) as show:
            return await run_load(plan, settings, catalogue, limits, _bar(show, plan.seconds))

    result = run(work())
    if json is not None:
        write(result, json)
    _say_result(result)
    raise typer.Exit(0 if result.held else 1)


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


def _bar(show: Said, seconds: float) -> Said:
    """Move a bar by seconds; where there is no terminal, a line now and then."""
    said_s = time.monotonic()

    def said(at_s: float, note: str) -> None:
        nonlocal said_s
        show(int(max(0.0, min(at_s, seconds))), ("warming up, " if at_s < 0 else "") + note)  # type: ignore[arg-type]
        if not sys.stderr.isatty() and time.monotonic() - said_s > 10:
            said_s = time.monotonic()
            say(f"{at_s:6.0f} s  {note}")

    return said


def _say_result(result: Run) -> None:
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


@app.callback()
def _tmp() -> None: ...
