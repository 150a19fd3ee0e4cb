"""Where a consumer stands, from what its last fetches told: the broker is asked nothing."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from stream.process.progress import At, Standing


def standings(consumer: AIOKafkaConsumer | None, *, paused_too: bool = True) -> dict[At, Standing]:
    """Return how each partition that a consumer owns stands; empty while it owns none.

    What was fetched and handed over counts as done. A partition without a leader has nothing left that could
    move.

    Args:
        paused_too: whether a paused partition has something left; else it has nothing to do.
    """
    if consumer is None:
        return {}
    subscription = consumer._subscription.subscription
    assignment = subscription and subscription.assignment
    if not assignment:
        return {}
    leader_of = consumer._client.cluster.leader_for_partition
    found = {}
    for tp in assignment.tps:
        state = assignment.state_value(tp)
        # What lies behind an open transaction cannot be read yet.
        position, end = state._position, state.highwater if state.lso in (None, -1) else state.lso
        left = None if position is None or end is None else max(0, end - position)
        rests = leader_of(tp) in (None, -1) or (state.paused and not paused_too)
        found[At(tp.topic, tp.partition)] = Standing(
            done=-1 if position is None else position,
            left=0 if rests else left,
            heard=state.timestamp or 0,
        )
    return found
