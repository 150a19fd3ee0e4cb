"""`streamrec plan measure` on real servers of its own, once, as small as it gets."""

import pytest

from stream.cli.local import Bars
from stream.planning.check import check
from stream.planning.costs import costs_of
from stream.planning.measuring import Options, measure
from stream.planning.plan import Demand, Given, make_plan


@pytest.mark.servers
def test_a_measurement_finds_what_every_server_used_and_a_plan_can_be_made_of_it() -> None:
    with Bars() as bars:
        run = measure(
            Options(seconds=2.0, rates=(10.0,), backlog=150, items=620, workers=1, catalogues=(200, 600)),
            bars,
        )
    idle, steady, backlog = run.readings
    assert (idle.events, backlog.events) == (0, 150)
    assert steady.events > 0
    assert steady.lists > 0
    assert backlog.batches < backlog.events
    servers = {"worker", "kafka", "redis", "triton", "triton/encoder", "triton/reranker"}
    assert servers <= steady.cpu_s.keys()
    assert steady.cpu_s["worker"] > 0
    assert run.model_processes == {"cross_encoder": 2, "encoder": 2, "reranker": 1}
    assert run.worker_bytes > 50e6
    assert run.worker_start_s > 0
    assert run.item_row_bytes > 0
    assert run.kept_lists_bytes > 0
    few, some, many = (states.bytes / states.shoppers for states in run.states)
    assert few < some < many
    small, large = run.catalogue
    assert 0 < small.bytes < large.bytes
    assert check(run, [run])
    demand = Demand(shoppers=1_000, events_per_s=10.0, items=620, interactions=50, shoppers_a_day=100)
    given = Given(busy=0.6, worker_gb=4, triton_cores=2, redis_shard_gb=1, start_minutes=5)
    assert make_plan(demand, given, costs_of([run], 620)).workers >= 1
