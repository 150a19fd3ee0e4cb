"""Planning: from runs to costs, from costs to a plan, and back to what a run should find."""

import json
import math
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from stream.cli import app
from stream.errors import DoesNotFit, WrongFile
from stream.planning.check import check
from stream.planning.costs import WORKER, Cost, Costs, costs_of
from stream.planning.plan import Demand, Given, Plan, make_plan
from stream.planning.queue import simulate
from stream.planning.run import CatalogueReading, Machine, Reading, Run, StatesReading, read_runs

TRUE = {
    "worker": Cost(idle=0.02, batch=0.004, event=0.002),
    "kafka": Cost(0.01, 0.001, 0.0005),
    "redis": Cost(0.001, 0.0, 0.0002),
    "triton": Cost(0.0, 0.001, 0.0),
    "triton/reranker": Cost(0.0, 0.0, 0.001),
    "triton/encoder": Cost(0.0, 0.0, 0.0005),
}
MACHINE = Machine("made up", 8, 32.0, "Linux")
GIVEN = Given(busy=0.5, worker_gb=16, triton_cores=8, redis_shard_gb=10, start_minutes=10)
DEMAND = Demand(
    shoppers=1_000_000, events_per_s=1_000, items=1_000, interactions=50, shoppers_a_day=1_000_000
)


def reading(rate: float | None, events: int, batch: float, true: dict[str, Cost] = TRUE) -> Reading:
    """What would be found if servers cost exactly so."""
    seconds, batches = 10.0, round(events / batch)
    if rate is None:  # a worker that does nothing else
        worker = true[WORKER]
        seconds = (worker.batch * batches + worker.event * events) / (1 - worker.idle)
    return Reading(
        rate=rate,
        seconds=seconds,
        events=events,
        lists=events * 9 // 10,
        batches=batches,
        cpu_s={name: cost.of(seconds, batches, events) for name, cost in true.items()},
        others_cpu_s=0.0,
    )


def run(items: int = 1_000, true: dict[str, Cost] = TRUE) -> Run:
    return Run(
        measured_at="2026-01-01T00:00:00Z",
        machine=MACHINE,
        release="0",
        items=items,
        workers=1,
        batch_max=64,
        readings=(
            reading(0.0, 0, 1, true),
            reading(10.0, 100, 1.02, true),
            reading(100.0, 1_000, 1.3, true),
            reading(None, 6_400, 64, true),
        ),
        catalogue=(
            CatalogueReading(1_000, 9_000_000, 0.5),
            CatalogueReading(5_000, 20_000_000, 3.0),
            CatalogueReading(20_000, 65_000_000, 18.0),
        ),
        states=(StatesReading(1_000, 10, 300_000), StatesReading(1_000, 50, 900_000)),
        worker_bytes=400_000_000,
        worker_start_s=10.0,
        kept_lists_bytes=1_000.0,
        item_row_bytes=500.0,
        model_processes={"reranker": 1, "encoder": 2},
    )


def plan(costs: Costs | None = None, **changes: object) -> Plan:
    demand = {k: v for k, v in changes.items() if k in Demand.__struct_fields__}
    given = {k: v for k, v in changes.items() if k in Given.__struct_fields__}
    return make_plan(
        msgspec.structs.replace(DEMAND, **demand),
        msgspec.structs.replace(GIVEN, **given),
        costs or costs_of([run()], 1_000),
    )


def test_costs_are_found_in_what_they_led_to() -> None:
    costs = costs_of([run()], 1_000)
    for name, cost in TRUE.items():
        assert costs.servers[name] == pytest.approx(cost, rel=1e-6, abs=1e-9), name
    assert costs.interaction_bytes == pytest.approx(15)
    assert costs.state_bytes == pytest.approx(150)
    assert costs.lists_per_event == pytest.approx(0.9)


def test_what_grows_with_the_catalogue_is_drawn_on() -> None:
    dearer = {**TRUE, "worker": Cost(idle=0.04, batch=0.004, event=0.003)}
    costs = costs_of([run(), run(10_000, dearer)], 100_000)
    assert costs.servers[WORKER].event == pytest.approx(0.004)  # a thousandth more for ten times the items
    assert costs.servers[WORKER].idle == pytest.approx(0.04)
    assert costs.worker_bytes == pytest.approx(400e6 + 99_000 * 3_000)
    assert costs.worker_start_s == pytest.approx(10 + 99_000 * 0.001)
    told = plan(costs, items=100_000).notes
    assert any("10,000 items" in note for note in told)
    assert any("20,000 items" in note for note in told)


def test_without_two_catalogues_that_were_read_nothing_is_said_of_another() -> None:
    with pytest.raises(WrongFile, match="streamrec plan measure"):
        costs_of([msgspec.structs.replace(run(), catalogue=run().catalogue[:1])], 2_000)


def test_a_run_that_costs_what_was_foretold_is_foretold_without_error() -> None:
    found = {one.what: one.error for one in check(run(), [run()])}
    assert found["events at saturation"] == pytest.approx(0, abs=0.001)
    assert found["CPU of all servers, a backlog"] == pytest.approx(0, abs=0.001)
    assert found["Redis, 50 interactions"] == pytest.approx(0, abs=1e-6)
    assert abs(found["CPU of workers, 10 events/s"]) < 0.1  # batches are simulated


def test_an_error_of_the_costs_is_told_with_its_sign() -> None:
    dear = {**TRUE, "worker": Cost(idle=0.02, batch=0.008, event=0.004)}
    found = {one.what: one.error for one in check(run(true=dear), [run()])}
    assert found["CPU of workers, a backlog"] == pytest.approx(-0.5, abs=0.02)


def test_at_little_load_each_event_is_a_batch_and_at_much_load_batches_are_full() -> None:
    assert simulate(0.1, 0.01, 0.01, 64).mean_batch == pytest.approx(1, abs=0.01)
    assert simulate(0.1, 0.01, 0.01, 64).p50_s == pytest.approx(0.02)
    assert simulate(1_000, 0.01, 0.01, 64).mean_batch == pytest.approx(64, rel=0.03)
    assert simulate(1_000, 0.01, 0.01, 64).busy == pytest.approx(1, abs=0.01)


def test_workers_are_as_many_as_leave_each_the_room_that_is_asked_for() -> None:
    made = plan()
    assert made.events_per_s_a_worker == pytest.approx(0.5 * 0.98 / (0.004 / 64 + 0.002))
    assert made.workers == 5
    assert made.partitions % made.workers == 0
    assert plan(events_per_s=10_000).workers == math.ceil(10_000 / made.events_per_s_a_worker)
    assert plan(busy=0.25).workers == math.ceil(1_000 / made.events_per_s_a_worker * 2)
    assert made.wait_p50_ms < made.wait_p99_ms


def test_a_worker_that_has_no_time_for_events_is_said_to_have_none() -> None:
    costs = costs_of([run()], 1_000)
    costs.servers[WORKER] = Cost(idle=1.0, batch=0.004, event=0.002)
    with pytest.raises(DoesNotFit, match="no time for events"):
        plan(costs)


def test_redis_holds_states_lists_and_rows_and_as_much_again_as_it_may_be_busy() -> None:
    made = plan()
    assert made.redis_states_gb == pytest.approx(0.9)
    assert made.redis_kept_lists_gb == pytest.approx(1.0)
    assert made.redis_gb == pytest.approx((0.9 + 1.0 + 0.0005) / 0.5)
    assert made.redis_shards == 1
    assert plan(shoppers=10_000_000).redis_shards == 3
    assert plan(shoppers_a_day=0).redis_kept_lists_gb == 0


def test_tritons_are_as_many_as_the_model_needs_that_is_full_first() -> None:
    made = plan(events_per_s=5_000)
    assert made.tritons == 10  # 5,000 events of 1 ms in one process that may be busy half the time
    assert made.triton_because == "the processes of reranker"


def test_gpus_are_planned_by_the_figure_that_is_given_and_never_without() -> None:
    assert plan().gpus is None
    assert any("--gpu-lists-per-s" in note for note in plan().notes)
    made = plan(gpu_lists_per_s=300.0)
    assert made.gpus == 6
    assert made.triton_cores == 0


def test_lists_cost_what_prices_say_and_nothing_is_said_without_them() -> None:
    assert plan().cost_a_million_lists is None
    assert plan(core_price=1.0).cost_a_million_lists is None
    made = plan(core_price=1.0, gb_price=0.5)
    an_hour = made.cores + made.memory_gb * 0.5
    assert made.cost_a_million_lists == pytest.approx(an_hour / (made.lists_per_s * 3600) * 1e6)
    assert plan(core_price=1.0, gb_price=0.5, gpu_lists_per_s=300.0).cost_a_million_lists is None


def test_the_first_bottleneck_is_what_has_the_least_room() -> None:
    assert plan(worker_gb=0.2).limits[0].what.startswith("memory of a worker")
    assert plan(worker_gb=0.2).limits[0].room == pytest.approx(0.5)
    assert plan(start_minutes=0.1).limits[0].what.startswith("start of a worker")
    assert plan(events_per_s=1_000_000).limits[0].what == "partitions"


# The command


def test_the_costs_that_come_along_say_where_they_are_from() -> None:
    runs = read_runs(None)
    assert all(one.machine.cores and one.measured_at for one in runs)
    shown = CliRunner().invoke(
        app, ["plan", "--shoppers", "50e6", "--events-per-s", "100e3", "--items", "10e6"]
    )
    assert shown.exit_code == 0
    for said in ("partitions", "Redis shards", "DOES NOT FIT", str(runs[0].machine)):
        assert said in shown.output


def test_a_plan_and_a_check_are_given_as_json(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(msgspec.json.encode(run()))
    asked = ["--shoppers", "1e6", "--events-per-s", "1000", "--items", "1000", "--costs", str(file), "--json"]
    made = json.loads(CliRunner().invoke(app, ["plan", *asked]).output)
    assert (
        made["plan"]["workers"]
        == make_plan(
            msgspec.structs.replace(DEMAND),
            msgspec.structs.replace(GIVEN, busy=0.6),
            costs_of([run()], 1_000),
        ).workers
    )
    assert made["machines"][0]["cpu"] == "made up"
    checked = json.loads(
        CliRunner().invoke(app, ["plan", "check", str(file), "--costs", str(file), "--json"]).output
    )
    assert checked[0]["figures"][0].keys() == {"what", "unit", "foretold", "found", "error"}


@pytest.mark.parametrize("content", [None, "{}", "[]", "not JSON"])
def test_a_file_that_holds_no_measurement_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(WrongFile, match=r"run\.json"):
        costs_of(read_runs(file), 1)


def test_what_is_not_said_is_asked_for() -> None:
    asked = CliRunner().invoke(app, ["plan", "--shoppers", "5"])
    assert asked.exit_code == 2
    assert "--events-per-s" in asked.output
