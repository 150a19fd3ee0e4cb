"""One HTML page of a run or of a search for the highest rate: nothing is loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stream.evaluation.page_parts import STYLE, pyplot, svg, table
from traffic.figures import Histogram, Interval
from traffic.result import Machine, Result, Run, Saturation, Settings, Times
from traffic.saturation import CONFIDENCE

TAIL = np.concatenate([np.linspace(0, 90, 19), 100 - np.geomspace(10, 0.01, 40)])
"""Percents of the curve of percentiles, denser towards the end."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}.held {{ color: #176b2c }} .broken {{ color: #b00020; font-weight: bold }}</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def page(found: Result) -> str:
    """Lay out a result. Raises `WrongFile` where matplotlib is missing."""
    if isinstance(found, Saturation):
        title, parts = "Highest rate", list(_saturation(found))
    else:
        title = f"Load: {found.settings.profile}, {found.settings.rate:g} events a second"
        parts = list(_run(found))
    return _PAGE.format(title=html.escape(title), style=STYLE, body="\n".join(parts))


def _run(run: Run) -> Iterator[str]:
    yield _when(run.began_ms)
    yield from _shown(run)
    yield _about(run.settings, run.machine)


def _shown(run: Run) -> Iterator[str]:
    yield _section("verdict", "Held or not", _checks(run))
    yield _section("counts", "What came of the events", _counts(run))
    yield _section("latency", "Times", _times(run), _latency_plot(run), _tail_plot(run))
    yield _section("throughput", "Throughput", _throughput_plot(run))
    if any(one.lag is not None for one in run.samples):
        yield _section("lag", "Lag of the workers' group", _lag_plot(run), _slope(run))
    if run.stages:
        yield _section("stages", "Stages of the workers", _stages(run))
    if run.batches:
        yield _section("batches", "Batches", _batches(run))
    if run.workers:
        rows = [(html.escape(name), f"{value:g}") for name, value in run.workers.items()]
        yield _section("workers", "What the workers counted", table([], rows))
    if run.used:
        yield _section("processes", "CPU and memory", _use(run), *_use_plots(run))
    if run.notes:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in run.notes)
        yield _section("notes", "Notes", f"<ul>{notes}</ul>")


def _saturation(found: Saturation) -> Iterator[str]:
    yield _when(found.began_ms)
    highest = found.highest
    said = (
        f"<p><strong>{highest.value:.1f} events a second</strong> hold the SLO; with {found.confidence:.0%} "
        f"the highest rate lies between {highest.low:.1f} and {highest.high:.1f}.</p>"
    )
    if not found.bounded:
        all_held = all(probe.held for probe in found.probes)
        said += (
            "<p class='broken'>No rate was found that fails: search higher.</p>"
            if all_held
            else "<p class='broken'>No rate was found that holds: search lower.</p>"
        )
    note = (
        f'<p class="note">Bisection by what is known of the rate; {len(found.probes)} probes of '
        f"{found.settings.seconds:g} s each. The bounds allow for one probe in twenty to be wrong.</p>"
    )
    yield _section("highest", "Found", said, note)
    rows = [
        (
            f"{probe.rate:.1f}",
            _held(probe.held),
            _interval(probe.latency_p99_ms),
            "-" if probe.lag_slope is None else _interval(probe.lag_slope),
            html.escape(probe.why),
        )
        for probe in found.probes
    ]
    heads = ["events a second", "", "latency p99, ms", "lag, messages a second", "broken"]
    yield _section("probes", "Probes", _probes_plot(found), table(heads, rows))
    if found.best is not None:
        yield f"<h2>The highest rate that held in a probe: {found.best.settings.rate:.1f} a second</h2>"
        yield from _shown(found.best)
    yield _about(found.settings, found.machine)


def _checks(run: Run) -> str:
    rows = [
        (
            html.escape(check.said),
            "not seen" if check.found is None else _interval(check.found),
            f"{check.limit:g}",
            _held(check.held),
        )
        for check in run.checks
    ]
    return table(["", "found", "limit", ""], rows) if rows else "<p>No limit is set.</p>"


def _counts(run: Run) -> str:
    names = {
        "sent": "events sent",
        "answered": "answered",
        "named": "- by a list that names the event",
        "coalesced": "- by a list with a later trigger in the same partition",
        "coalesced_across_topics": "- by a list with a later trigger in the other topic",
        "unanswered": "unanswered",
        "not_acknowledged": "not taken by Kafka",
        "lists": "lists read",
        "lists_repeated": "lists that readers drop: their sequence is not higher",
        "degraded": "lists made without a part",
        "unreadable_lists": "lists that could not be read",
        "shoppers": "shoppers who acted",
    }
    rows = [(said, str(run.counts[name])) for name, said in names.items() if name in run.counts]
    clocks = html.escape("; ".join(run.clocks) or "unknown")
    note = (
        "A list may answer several events. Which of several lists first took an event of the other topic "
        f"into account cannot be told; the first that may have is taken. Kafka's timestamps: {clocks}."
    )
    return table([], rows) + f'<p class="note">{note}</p>'


def _times(run: Run) -> str:
    named: Mapping[str, Times] = {
        "latency: meant to be sent to list read": run.latency,
        "freshness: event appended to list appended": run.freshness,
        "Kafka: sent to acknowledged": run.acknowledge,
        "generators: meant to be sent to sent": run.late,
    }
    names = list(run.latency.percentiles)
    rows = [
        (html.escape(said), *(_interval(times.percentiles[name]) for name in names), f"{times.most_ms:.1f}")
        for said, times in named.items()
    ]
    note = (
        '<p class="note">Milliseconds, with 95 % bounds from drawing the intervals of the run again. Events '
        "without an answer count in the latency with how long they had waited.</p>"
    )
    return table(["ms", *names, "most"], rows) + note


def _latency_plot(run: Run) -> str:
    figure, axes = _axes()
    at_s = [one.at_s + run.interval_s / 2 for one in run.slices]
    parts = [Histogram.of(one.latency) for one in run.slices]
    for percent, style in ((50, "-"), (95, "--"), (99, "-")):
        heights = [part.percentile_ms(percent) if part.count else float("nan") for part in parts]
        axes.plot(at_s, heights, style, label=f"latency p{percent}", marker="." if len(at_s) < 40 else None)
    fresh = [Histogram.of(one.freshness) for one in run.slices]
    axes.plot(at_s, [one.percentile_ms(99) if one.count else float("nan") for one in fresh], ":",
              label="freshness p99", color="gray")  # fmt: skip
    for check in run.checks:
        if check.name == "latency_p99_ms":
            axes.axhline(check.limit, color="#b00020", linewidth=0.8, label="limit of p99")
    axes.set(xlabel="s, by when events were meant to be sent", ylabel="ms")
    _logarithmic(axes)
    axes.legend(fontsize="small", ncols=3)
    return svg(figure, "Latency over time")


def _tail_plot(run: Run) -> str:
    figure, axes = _axes()
    for name, times in (("latency", run.latency), ("freshness", run.freshness)):
        if times.count:
            whole = Histogram.of(times.histogram)
            axes.plot(1 / (1 - TAIL / 100), [max(0.1, whole.percentile_ms(one)) for one in TAIL], label=name)
    ticks = {"50 %": 2, "90 %": 10, "99 %": 100, "99.9 %": 1_000, "99.99 %": 10_000}
    axes.set(xlabel="of all events", ylabel="ms", xscale="log")
    _logarithmic(axes)
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.set_xticks([], minor=True)
    axes.legend()
    return svg(figure, "Percentiles of latency and freshness")


def _throughput_plot(run: Run) -> str:
    figure, axes = _axes()
    at_s = [one.at_s + run.interval_s / 2 for one in run.slices]
    answered = [one.sent - one.unanswered for one in run.slices]
    for label, style, counted in (
        ("events sent", "-", [one.sent for one in run.slices]),
        ("of these answered", "--", answered),
        ("lists read", "-", [one.lists for one in run.slices]),
    ):
        axes.plot(at_s, [count / run.interval_s for count in counted], style, label=label)
    axes.set(xlabel="s", ylabel="a second", ylim=(0, None))
    axes.legend()
    return svg(figure, "Events and lists a second")


def _lag_plot(run: Run) -> str:
    figure, axes = _axes()
    points = [(one.at_s, one.lag) for one in run.samples if one.lag is not None]
    axes.plot([at_s for at_s, _ in points], [lag for _, lag in points])
    axes.set(xlabel="s", ylabel="messages not committed", ylim=(0, None))
    return svg(figure, "Lag over time")


def _slope(run: Run) -> str:
    if run.lag_slope is None:
        return '<p class="note">Too few looks to tell whether it grows.</p>'
    return (
        f"<p>It grows by {_interval(run.lag_slope)} messages a second. "
        "<small>Workers commit once a second, so some lag is always there.</small></p>"
    )


def _stages(run: Run) -> str:
    rows = [
        (
            html.escape(name),
            str(one.count),
            *(f"{value:.1f}" for value in (one.mean_ms, one.p50_ms, one.p95_ms, one.p99_ms)),
        )
        for name, one in run.stages.items()
    ]
    note = (
        '<p class="note">Milliseconds of a batch, from the workers\' Prometheus histograms, interpolated '
        "within their buckets. <em>freshness</em> is the worker's own figure of a list, from the event "
        "appended to the list acknowledged.</p>"
    )
    return table(["stage", "count", "mean", "p50", "p95", "p99"], rows) + note


def _batches(run: Run) -> str:
    rows = [
        (
            html.escape(name),
            str(one.count),
            f"{one.mean:.2f}",
            "-" if one.queue_ms is None else f"{one.queue_ms:.2f}",
            "-" if one.compute_ms is None else f"{one.compute_ms:.2f}",
        )
        for name, one in run.batches.items()
    ]
    return table(["", "batches", "mean size", "queue, ms a request", "compute, ms a request"], rows)


def _use(run: Run) -> str:
    rows = [
        (
            html.escape(name),
            f"{one.cpu_s:.1f}",
            "-" if one.cpu_ms_per_list is None else f"{one.cpu_ms_per_list:.2f}",
            f"{one.most_memory_mb:.0f}",
            "-" if one.memory_growth_mb_an_hour is None else _interval(one.memory_growth_mb_an_hour),
            str(one.most_open_files),
        )
        for name, one in run.used.items()
    ]
    heads = ["", "CPU, s", "CPU, ms a list", "most memory, MB", "growth, MB an hour", "most files open"]
    return table(heads, rows) + '<p class="note">Each with its children; <em>load</em> is this load test.</p>'


def _use_plots(run: Run) -> Iterator[str]:
    kinds: Sequence[tuple[str, str, Callable[[Any], Mapping[str, float]]]] = (
        ("CPU over time", "cores", lambda one: one.cpu),
        ("Memory over time", "MB", lambda one: one.memory_mb),
        ("Open files over time", "files and sockets", lambda one: one.open_files),
    )
    for label, unit, of_sample in kinds:
        figure, axes = _axes()
        for name in run.used:
            points = [(one.at_s, of_sample(one)[name]) for one in run.samples if name in of_sample(one)]
            axes.plot([at_s for at_s, _ in points], [value for _, value in points], label=name)
        axes.set(xlabel="s", ylabel=unit, ylim=(0, None))
        axes.legend(fontsize="small", ncols=3)
        yield svg(figure, label)


def _probes_plot(found: Saturation) -> str:
    figure, axes = _axes()
    for held, marker, colour in ((True, "o", "#176b2c"), (False, "x", "#b00020")):
        some = [probe for probe in found.probes if probe.held is held]
        axes.plot(
            [probe.rate for probe in some],
            [probe.latency_p99_ms.value for probe in some],
            marker,
            color=colour,
            label="held" if held else "broken",
        )
    axes.axvspan(found.highest.low, found.highest.high, alpha=0.2, label=f"highest rate, {CONFIDENCE:.0%}")
    axes.set(xlabel="events a second", ylabel="latency p99, ms", xscale="log")
    _logarithmic(axes)
    _by_factors(axes.xaxis)
    axes.legend()
    return svg(figure, "Latency of each probe")


def _about(settings: Settings, machine: Machine) -> str:
    where = f"{machine.cores} cores, {machine.processor}, {machine.memory_mb} MB, {machine.system}"
    rows = [
        ("machine of the generators", where),
        *((name.replace("_", " "), _plain(getattr(settings, name))) for name in settings.__struct_fields__),
    ]
    cells = [(html.escape(name), html.escape(value)) for name, value in rows]
    return _section("settings", "Settings", table([], cells))


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _section(name: str, title: str, *parts: str) -> str:
    return f'<section id="{name}"><h2>{html.escape(title)}</h2>\n' + "\n".join(parts) + "</section>"


def _when(began_ms: int) -> str:
    return f'<p class="note">begun {datetime.fromtimestamp(began_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC</p>'


def _held(held: bool) -> str:
    return '<span class="held">held</span>' if held else '<span class="broken">broken</span>'


def _interval(found: Interval) -> str:
    def said(value: float) -> str:
        return f"{value:.0f}" if abs(value) >= 1_000 else f"{value:.3g}"

    if found.low is None or found.high is None:
        return said(found.value)
    return f"{said(found.value)} <small>({said(found.low)} to {said(found.high)})</small>"


def _logarithmic(axes: Any) -> None:
    """Have heights grow by factors."""
    axes.set_yscale("log")
    _by_factors(axes.yaxis)


def _by_factors(axis: Any) -> None:
    """Write the numbers of a logarithmic axis out."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _axes() -> tuple[Any, Any]:
    figure, axes = pyplot().subplots(figsize=(8, 3.4), layout="constrained")
    axes.grid(alpha=0.3)
    return figure, axes
