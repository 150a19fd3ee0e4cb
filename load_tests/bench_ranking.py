"""Print what one list costs in CPU, by part: python load_tests/bench_ranking.py [--lists 300]

The shop is made up and seeded: 4,000 items, shoppers with a long past, full rows of neighbours, about 170
candidates a list. Waiting for Kafka, Redis and Triton is no part of it. With `--pause` the process sleeps
before each list, as a worker does between two events: what the processor had at hand is gone then.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the worker runs; before numpy is loaded
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from ranking_shop import NOW_MS, RankingShop

from stream.core import signals
from stream.core.candidates import gather
from stream.core.context import rows_needed, session_vector, taste_vector
from stream.core.events import ClickEvent, Line, Source
from stream.core.explain import causes
from stream.core.listing import compose
from stream.core.policy import HOUR_MS
from stream.core.ranking import blended, features
from stream.core.rules.in_force import NO_RULES
from stream.core.state import apply


def busy_shop(items: int, shoppers: int) -> RankingShop:
    """A shop where every item has all the neighbours a row holds and every shopper a long past."""
    shop = RankingShop(items=items, categories=40, sessions=0)
    random = np.random.default_rng(1)
    reach = signals.MAX_NEIGHBOURS
    for number in range(items):
        near = (number + random.integers(-reach, reach + 1, 2 * reach)) % items
        pairs = [
            (f"item-{place}", float(weight))
            for place, weight in zip(near, random.random(len(near)) + 0.1, strict=True)
        ]
        new = signals.Increment("clicks/0", number + 1, NOW_MS - HOUR_MS, 1.0, pairs, pairs[::-1])
        shop.learn(f"item-{number}", new)
    for shopper in range(shoppers):
        place = int(random.integers(items))
        for step in range(60):
            place = (place + int(random.integers(-9, 10))) % items
            at_ms = NOW_MS - (60 - step) * HOUR_MS // 6
            event = ClickEvent(
                f"{shopper}-{step}",
                f"user-{shopper}",
                at_ms,
                Source("clicks", 0, step, at_ms),
                "purchase" if step < 30 else "view_item",
                (Line(f"item-{place}", 1, None),),
                None,
                None,
            )
            shop.states[event.user_id] = apply(shop.state(event.user_id), event, shop.policy)
    return shop


def main() -> None:
    """Make lists and print the mean CPU time of each part in ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=300)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of sleep before each list")
    given = parser.parse_args()
    lists = given.lists
    shop = busy_shop(items=4_000, shoppers=lists)
    spent: dict[str, float] = {}
    sizes = []

    def timed(part: str, call: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = call()
        spent[part] = spent.get(part, 0.0) + time.process_time() - started
        return result

    contexts = [shop.context(f"user-{number}") for number in range(lists)]
    for context in contexts:
        time.sleep(given.pause)
        state = context.state
        timed("rows_needed", lambda state=state: rows_needed(state, shop.policy))
        timed(
            "vectors",
            lambda state=state: (
                session_vector(state, shop.items, shop.space, shop.policy),
                taste_vector(state, shop.items, shop.space),
            ),
        )
        found = timed("gather", lambda context=context: gather(context, shop.policy))
        timed("features", lambda context=context, found=found: features(context, found))
        scores = timed("blended", lambda context=context, found=found: blended(context, found))
        composed = timed(
            "compose",
            lambda context=context, found=found, scores=scores: compose(
                context, found, scores, shop.policy, NO_RULES, 0
            ),
        )
        timed(
            "explain",
            lambda context=context, found=found, composed=composed: causes(
                context, found, [chosen.position for chosen in composed.chosen]
            ),
        )
        sizes.append(len(found))
    print(f"{lists} lists of {np.mean(sizes):.0f} candidates, ms of CPU a list")
    for part, seconds in spent.items():
        print(f"{part:12s} {seconds / lists * 1e3:6.3f}")
    print(f"{'together':12s} {sum(spent.values()) / lists * 1e3:6.3f}")
    row = shop.signals["item-7"]
    written = signals.encode(row)
    view = shop.row("item-7")
    new = [signals.Increment("clicks/1", 1, NOW_MS, 1.0, [("item-9", 1.0)], [("item-3", 0.8)])]
    print(f"a row: {len(written)} bytes, {len(view.slots)} neighbours; µs of CPU each")
    for part, call in {
        "decode": lambda: signals.decode(written),
        "view": lambda: signals.view(row, shop.items, 1),
        "fold": lambda: signals.fold(row, new),
        "encode": lambda: signals.encode(row),
    }.items():
        started = time.process_time()
        for _ in range(1_000):
            call()
        print(f"{part:12s} {(time.process_time() - started) * 1e3:6.1f}")


if __name__ == "__main__":
    main()
