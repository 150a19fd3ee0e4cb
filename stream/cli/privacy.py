"""`streamrec privacy`: releases of the shared signals with noise, and what they cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from stream.cli.options import ConfigFile, Json, print_json, run
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.core.release import Spent

app = typer.Typer(
    help="Release what shoppers teach about items with noise, within a budget (docs/privacy.md).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("release")
def release(config: ConfigFile = None, json: Json = False) -> None:
    """Release the last period that is over, where it was not released yet.

    Counts, from the messages of the topic of clicks, how many shoppers touched each item of the catalogue and
    brought each two items together; adds noise; writes what that may tell of a shopper to the ledger, and the
    rows that lists read where policy.release.epsilon is above 0. Run it once a day, by a timer: there is no
    harm in running it more often, or on two machines. What would be more than the budget is refused with exit
    code 1. A release that was cut short is finished by the next run, with the noise that was drawn.

    \b
    Examples:
      STREAMREC_POLICY__RELEASE='{"epsilon": 2}' streamrec privacy release
      streamrec privacy release --json
    """
    told = run(_release(load_config(config)))
    if json:
        print_json(told)
    elif told["released"] is None:
        print(f"nothing to release: {told['next']} is the first day of the next period")
    else:
        made = told["released"]
        print(
            f"released {made['from']} to {made['to']}: {made['items']} items and {made['pairs']} pairs, from "
            f"{told['events']} events of {told['shoppers']} shoppers"
        )
        noise = told["noise"]
        print(
            f"epsilon {made['epsilon']:.4g}, delta {made['delta']:.3g}: "
            f"noise of deviation {noise['deviation']:.1f}, items above {noise['item_threshold']}, "
            f"pairs above {noise['pair_threshold']}"
        )


@app.command("budget")
def budget(config: ConfigFile = None, json: Json = False) -> None:
    """Show what was released, what that may tell of a shopper, and what is left of the budget.

    \b
    Examples:
      streamrec privacy budget
      streamrec privacy budget --json
    """
    told = run(_budget(load_config(config)))
    if json:
        print_json(told)
        return
    for one in told["releases"]:
        print(
            f"{one['from']} to {one['to']}: {one['items']} items, {one['pairs']} pairs, "
            f"epsilon {one['epsilon']:.4g}, delta {one['delta']:.3g}"
        )
    print(
        f"spent in the last {told['days']} days: epsilon {told['spent']['epsilon']:.4g} of "
        f"{told['budget']:g}, delta {told['spent']['delta']:.3g}"
    )


async def _release(config: Config) -> dict[str, Any]:
    from stream.adapters.kafka_events import message_of
    from stream.adapters.kafka_reading import decoded_since
    from stream.adapters.redis_client import connect
    from stream.adapters.redis_ledger import RedisReleaseLedger, released_signals
    from stream.adapters.redis_state import RedisStateStore
    from stream.cli.progress import progress_bar
    from stream.core.release import period_of
    from stream.errors import ReleaseRefused
    from stream.signals.releasing import Counting, Releaser, day

    policy, prefix = config.policy.release, config.redis.key_prefix
    if not policy.epsilon:
        raise ReleaseRefused(
            "policy.release.epsilon is 0, so nothing is released: set it, for workers too (docs/privacy.md)"
        )
    from stream.adapters.opendp_noise import ThresholdedGaussian  # of an extra

    noise = ThresholdedGaussian(policy)
    now_ms = time.time_ns() // 1_000_000
    async with connect(config.redis) as client:
        releaser = Releaser(
            RedisReleaseLedger(client, prefix), released_signals(client, prefix), noise, policy
        )
        await releaser.finish()
        period = await releaser.due(now_ms)
        made = None
        told: dict[str, Any] = {}
        if period is not None:
            states = RedisStateStore(client, prefix, config.redis.user_ttl_days)
            counting = Counting(states, config.policy, period)
            with progress_bar("counting", None) as progress:
                async for read in decoded_since(
                    config.kafka, config.topics.clicks, message_of, (), period.begin_ms
                ):
                    await counting.add(read.records)
                    progress(read.done, f"{read.done} of {read.total}")
            made = await releaser.release(period, counting.counts, await _catalogue(config))
            told = {"events": counting.events, "shoppers": counting.shoppers}
    return {
        "released": None if made is None else _plain(made),
        "next": day(period_of(now_ms, policy.period_days).first_day),
        "noise": {
            "deviation": noise.deviation,
            "item_threshold": noise.item_threshold,
            "pair_threshold": noise.pair_threshold,
        },
        **told,
    }


async def _catalogue(config: Config) -> list[str]:
    """The ids of all items there are: what the shop says it sells, whatever shoppers do."""
    from stream.adapters.kafka_reading import decoded_since
    from stream.core.release import BETWEEN

    ids: dict[str, bool] = {}
    async for read in decoded_since(
        config.kafka,
        config.topics.items,
        lambda one: (one.key.decode(), one.value is not None),
        (AttributeError, UnicodeDecodeError),
    ):
        ids.update(read.records)
    return [item_id for item_id, there in ids.items() if there and BETWEEN not in item_id]


async def _budget(config: Config) -> dict[str, Any]:
    from stream.adapters.redis_client import connect
    from stream.adapters.redis_ledger import RedisReleaseLedger
    from stream.core.release import spent_at

    policy = config.policy.release
    async with connect(config.redis) as client:
        ledger, _ = await RedisReleaseLedger(client, config.redis.key_prefix).read()
    epsilon, delta = spent_at(ledger.releases, time.time_ns() // 1_000_000, policy.budget_days)
    return {
        "releases": [_plain(one) for one in ledger.releases],
        "days": policy.budget_days,
        "budget": policy.budget_epsilon,
        "spent": {"epsilon": epsilon, "delta": delta},
        "left": max(0.0, policy.budget_epsilon - epsilon),
    }


def _plain(one: Spent) -> dict[str, Any]:
    from stream.signals.releasing import day

    return {
        "from": day(one.first_day),
        "to": day(one.end_day),
        "epsilon": one.epsilon,
        "delta": one.delta,
        "items": one.items,
        "pairs": one.pairs,
    }
