"""Attributions for the tests of what is counted."""

from __future__ import annotations

from collections.abc import Sequence

from stream.core.events import AttributedItem, Attribution, Outcome
from stream.evaluation.rates import Tally

DAY_MS = 86_400_000
MADE_MS = 1_790_000_000_000


def record(
    outcome: Outcome,
    ranks: list[int],
    *,
    made: str = "r1",
    user: str = "ann",
    at_ms: int = MADE_MS,
    number: int = 0,
    reranker: str = "1",
    explored: tuple[int, ...] = (),
    placement: str = "home",
    automated: bool = False,
    value: float | None = None,
    names: Sequence[str] = (),
) -> Attribution:
    """A record of a list's places; their items are `names`, or the same at a place in every list."""
    return Attribution(
        schema_version=1,
        attribution_id=f"{outcome}-{made}-{number}",
        user_id=user,
        outcome=outcome,
        event_id=f"e{number}",
        event_time=at_ms + 1_000,
        recommendation_id=made,
        placement=placement,
        generated_at=at_ms,
        matched="recommendation_id",
        model_versions={"reranker": reranker} if reranker else {},
        items=[
            AttributedItem(
                names[place] if names else f"item-{rank}",
                rank,
                "session" if rank % 2 else "new",
                0.5,
                rank in explored,
            )
            for place, rank in enumerate(ranks)
        ],
        automated=automated,
        currency="EUR" if value is not None else None,
        value=value,
    )


def tally(*records: Attribution, **options: object) -> Tally:
    made = Tally(**options)  # type: ignore[arg-type]
    for one in records:
        made.add(one)
    return made
