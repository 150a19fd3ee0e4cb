"""`streamrec plan`: how much of everything a demand needs, from measured costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import Json, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from stream.planning.check import Compared
    from stream.planning.costs import Costs
    from stream.planning.plan import Demand, Plan

app = typer.Typer()

CostsFile = Annotated[
    Path | None,
    typer.Option(
        "--costs",
        metavar="FILE",
        help="What `streamrec plan measure` wrote, on machines like those you will run on; "
        "else the figures that come with streamrec.",
        show_default=False,
    ),
]


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    shoppers: Annotated[float | None, typer.Option(min=1, help="Shoppers to remember, such as 50e6.")] = None,
    events_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Clicks and searches a second, at the peak.")
    ] = None,
    items: Annotated[float | None, typer.Option(min=1, help="Items of the catalogue.")] = None,
    interactions: Annotated[
        float, typer.Option(min=0, help="What is remembered of a shopper, on average.")
    ] = 50,
    shoppers_a_day: Annotated[
        float | None,
        typer.Option(min=0, help="Who come within a day; else all of them.", show_default=False),
    ] = None,
    busy: Annotated[
        float,
        typer.Option(min=0.05, max=1, help="The share of what it can do that anything is to do."),
    ] = 0.6,
    worker_gb: Annotated[float, typer.Option(min=0.1, help="The most memory a worker can have.")] = 64,
    start_minutes: Annotated[float, typer.Option(min=0.1, help="How long its start may take.")] = 15,
    triton_cores: Annotated[float, typer.Option(min=0.1, help="CPU cores of one Triton.")] = 8,
    redis_shard_gb: Annotated[float, typer.Option(min=0.1, help="Memory of one Redis.")] = 32,
    gpu_lists_per_s: Annotated[
        float | None,
        typer.Option(min=0.1, help="Lists a second that a GPU's Triton serves; not measured here."),
    ] = None,
    core_price: Annotated[float | None, typer.Option(min=0, help="Of a core for an hour.")] = None,
    gb_price: Annotated[float | None, typer.Option(min=0, help="Of a GB of memory for an hour.")] = None,
    gpu_price: Annotated[float | None, typer.Option(min=0, help="Of a GPU for an hour.")] = None,
    costs: CostsFile = None,
    json: Json = False,
) -> None:
    """Plan for a demand: partitions, workers, Redis, Triton, the first bottleneck, and what lists cost.

    The costs were measured on one machine, which is named, and with catalogues of a certain size: `measure`
    on machines like yours, and `check` what is foretold of a run against what it found.

    \b
    Examples:
      streamrec plan --shoppers 50e6 --events-per-s 100e3 --items 10e6
      streamrec plan --shoppers 1e6 --events-per-s 500 --items 50e3 --core-price 0.04 --gb-price 0.005
      streamrec plan measure --items 50000 --out big.json
      streamrec plan check big.json
    """
    if context.invoked_subcommand is not None:
        return
    if shoppers is None or events_per_s is None or items is None:
        raise typer.BadParameter("say how many", param_hint="--shoppers, --events-per-s and --items")
    from stream.planning.costs import costs_of
    from stream.planning.plan import Demand, Given, make_plan
    from stream.planning.run import read_runs

    demand = Demand(
        shoppers=int(shoppers),
        events_per_s=events_per_s,
        items=int(items),
        interactions=int(interactions),
        shoppers_a_day=int(shoppers if shoppers_a_day is None else shoppers_a_day),
    )
    given = Given(
        busy=busy,
        worker_gb=worker_gb,
        triton_cores=triton_cores,
        redis_shard_gb=redis_shard_gb,
        start_minutes=start_minutes,
        gpu_lists_per_s=gpu_lists_per_s,
        core_price=core_price,
        gb_price=gb_price,
        gpu_price=gpu_price,
    )
    found = costs_of(read_runs(costs), demand.items)
    made = make_plan(demand, given, found)
    if json:
        print_json({"demand": demand, "given": given, "machines": found.machines, "plan": made})
    else:
        _print_plan(demand, made, found)


@app.command()
def measure(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write what was found here.", dir_okay=False)
    ],
    seconds: Annotated[float, typer.Option(min=2, help="How long each rate is kept up.")] = 20,
    rate: Annotated[
        list[float] | None,
        typer.Option(min=0.1, help="Events a second; several times for several.", show_default="10 and 30"),
    ] = None,
    backlog: Annotated[int, typer.Option(min=100, help="Events that are worked off at once.")] = 2_000,
    items: Annotated[
        int, typer.Option(min=600, help="Products; those beyond 600 are given vectors by chance.")
    ] = 600,
    workers: Annotated[int, typer.Option(min=1, max=8, help="Workers to share the events.")] = 1,
) -> None:
    """Measure costs on this machine: Kafka, Redis, Triton and workers are started for it and stopped again.

    Takes a few minutes. Run it where nothing else works, since what shares the caches slows the rest.

    \b
    Examples:
      streamrec plan measure --out small.json
      streamrec plan measure --items 50000 --workers 2 --out big.json
    """
    from stream.cli.local import Bars
    from stream.planning.measuring import Options, measure
    from stream.planning.run import write_run

    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"{out.parent}: no such folder", param_hint="--out")
    options = Options(seconds, tuple(rate or (10.0, 30.0)), backlog, items, workers)
    with Bars() as bars:
        run = measure(options, bars)
    write_run(out, run)
    print(f"{out}: `streamrec plan --costs {out} …` plans with it")


@app.command()
def check(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN.json…", help="What `streamrec plan measure` wrote.")
    ],
    costs: CostsFile = None,
    json: Json = False,
) -> None:
    """Print what the costs foretell of runs beside what these found, and by how much they are off.

    \b
    Examples:
      streamrec plan check new.json
      streamrec plan check new.json --costs small.json --json
    """
    from stream.planning.check import check
    from stream.planning.run import read_runs

    known = read_runs(costs)
    compared = {
        (str(path), number): (run, check(run, known))
        for path in runs
        for number, run in enumerate(read_runs(path))
    }
    if json:
        print_json(
            [
                {"file": path, "items": run.items, "workers": run.workers, "figures": figures}
                for (path, _), (run, figures) in compared.items()
            ]
        )
        return
    from rich.console import Console

    console = Console(highlight=False)
    for (path, _), (run, figures) in compared.items():
        title = f"{path}: {run.items:,} items, {run.workers} workers, {run.measured_at}, on {run.machine}"
        console.print(title, soft_wrap=True)
        console.print(_comparison(figures))


def _comparison(figures: tuple[Compared, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None)
    for column, justify in (("", "left"), ("foretold", "right"), ("found", "right"), ("off by", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for one in figures:
        table.add_row(
            f"{one.what} ({one.unit})", f"{one.foretold:,.1f}", f"{one.found:,.1f}", f"{one.error:+.0%}"
        )
    return table


def _print_plan(demand: Demand, plan: Plan, costs: Costs) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    redis = (
        f"states {plan.redis_states_gb:,.1f}, lists kept {plan.redis_kept_lists_gb:,.1f}, "
        f"items {plan.redis_items_gb:,.1f} GB, and room"
    )
    triton = f"{plan.triton_cores:,.0f} cores; {plan.triton_because}"
    waits = f"p50 {plan.wait_p50_ms:.0f}, p99 {plan.wait_p99_ms:.0f} ms"
    waits = f"batches of {plan.mean_batch:.1f}; {waits} in a worker"
    rows = (
        ("lists a second", f"{plan.lists_per_s:,.0f}", f"of {demand.events_per_s:,.0f} events"),
        ("partitions", f"{plan.partitions:,}", "room for twice the workers"),
        (
            "workers",
            f"{plan.workers:,}",
            f"one core each, for {plan.events_per_s_a_worker:,.0f} events/s and bursts",
        ),
        ("  CPU of a list", f"{plan.worker_cpu_ms_a_list:,.1f} ms", waits),
        ("  memory of each", f"{plan.worker_gb:,.1f} GB", "the whole catalogue"),
        ("  start of each", f"{plan.worker_start_minutes:,.1f} min", "reads the whole catalogue"),
        ("Redis memory", f"{plan.redis_gb:,.1f} GB", redis),
        ("Redis shards", f"{plan.redis_shards:,}", f"{plan.redis_cores:,.1f} cores"),
        (
            "GPUs" if plan.gpus else "Tritons",
            f"{plan.tritons:,}",
            plan.triton_because if plan.gpus else triton,
        ),
        ("Kafka", f"{plan.kafka_cores:,.0f} cores", "of brokers, one copy of each partition"),
        (
            "in all",
            f"{plan.cores:,.0f} cores",
            f"{plan.memory_gb:,.0f} GB of memory, without Kafka's and Triton's",
        ),
    )
    for row in rows:
        table.add_row(*row)
    if plan.cost_a_million_lists is not None:
        table.add_row("a million lists", f"{plan.cost_a_million_lists:,.2f}", "in the currency of the prices")
    console = Console(highlight=False)
    console.print(table)
    first = plan.limits[0]
    verdict = "the first bottleneck" if first.room >= 1 else "DOES NOT FIT"
    console.print(
        f"{verdict}: {first.what}: {first.need} of {first.have}; "
        f"there is room for about {first.room:,.2g} times the {first.grows_with}",
        style="bold" if first.room >= 1 else "bold red",
        soft_wrap=True,
    )
    share = ", ".join(f"{name} {of:.0%}" for name, of in plan.shares.items() if of >= 0.005)
    console.print(f"CPU goes to: {share}", soft_wrap=True)
    for note in plan.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for machine in costs.machines:
        console.print(f"costs measured on: {machine}", style="dim", soft_wrap=True)
