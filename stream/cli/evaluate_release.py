"""`streamrec evaluate release`: what a release of the shared signals with noise costs in hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli import measuring, shop_log

if TYPE_CHECKING:
    from rich.console import RenderableType

EPSILONS = 0.5, 2.0, 8.0


def release(
    events: shop_log.Events,
    start: measuring.From,
    end: measuring.To = None,
    every: measuring.Every = 1,
    at: measuring.At = 20,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(
            "--epsilon",
            min=0.001,
            max=100,
            help="Of a release; several are measured in turn. Without: 0.5, 2 and 8.",
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="So often noise is drawn for each.")] = 5,
    times: Annotated[
        list[int] | None,
        typer.Option(
            "--times",
            min=1,
            help="As in a shop of so many times the shoppers: counts are multiplied before the noise and "
            "divided afterwards. Several are measured in turn.",
        ),
    ] = None,
    policy: measuring.PolicyFile = None,
    seed: measuring.Seed = 0,
    format: shop_log.FormatOption = None,
    columns: shop_log.Columns = "",
    cache: shop_log.Cache = None,
    json: measuring.JsonFile = None,
) -> None:
    """Measure what lists lose where they read noised releases (policy.release) in place of raw signals.

    One replay as of `streamrec evaluate next-item`, ranked by the linear blend. Each list is made from the
    raw signals and from each stage of a release, so all differences are paired: signals that wait for the
    end of their period, then with bounds on what one shopper counts for, then without low counts, then with
    noise. Period, bounds and delta are those of --policy. Needs OpenDP: pip install 'streamrec[private]'.

    \b
    Example:
      streamrec evaluate release --events ../shared/data/online_retail/events.csv.gz \\
        --from 2010-04-15 --to 2010-06-01 --every 20 --epsilon 2 --epsilon 8 --times 1 --times 30
    """
    shop_log.one_thread()
    import msgspec

    from stream.adapters.opendp_noise import ThresholdedGaussian
    from stream.core.policy import ReleasePolicy
    from stream.evaluation.release_cost import ReleaseCost, stages

    window = measuring.window_of(start, end, every, at)
    chosen = measuring.policy_of(policy)
    counted = chosen.release
    raw = msgspec.structs.replace(chosen, release=ReleasePolicy())
    asked = [msgspec.structs.replace(counted, epsilon=one) for one in dict.fromkeys(epsilon or EPSILONS)]
    noises = [ThresholdedGaussian(one) for one in asked]
    cost = ReleaseCost(stages(counted, noises, list(dict.fromkeys(times or [1])), draws, seed), raw, at)
    with shop_log.reading(events, format, columns, cache, chosen) as log:
        ranking = measuring.ranking_of(False, seed)
        measuring.measure(log, window, ranking, raw, 0, watch=cost.watch, beside=cost.beside)
    about = {"release": msgspec.to_builtins(counted), "ranking": ranking.says, **measuring.about(log, window)}
    del about["release"]["epsilon"]  # those of the stages are measured
    measuring.give({**cost.figures(seed), **about}, json, _tables)


def _tables(found: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    at = found["at"]
    table = Table(
        *("epsilon, shop", "items / pairs", f"HR@{at}", "against raw", "stage"),
        title=f"{found['lists']} lists, releases of {found['release']['period_days']} days",
    )
    for row in found["stages"]:
        lost, step = row.get("against_raw"), row.get("against_before")
        table.add_row(
            f"{row['epsilon']:g}, x {row['times']}, {row['stage']}" if "epsilon" in row else row["stage"],
            f"{row['items']:.0f} / {row['pairs']:.0f}" if "items" in row else "",
            f"{row[f'hr_at_{at}']['value']:.4f}",
            f"{lost['value']:+.3f} [{lost['low']:+.3f}, {lost['high']:+.3f}]" if lost else "",
            f"{step['value']:+.3f}" if step else "",
        )
    return table
