"""The demo's figures: which list answers which event, and how fresh it is."""

from __future__ import annotations

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from stream.adapters.kafka_sender import Sent
from stream.core.events import ClickMessage, RecommendationList, RecommendedItem, SearchMessage, Trigger
from stream.demo.measure import Measurements
from stream.demo.run import Batches, _by_model
from stream.demo.view import Figures, LiveView, PlainView


def _event(number: int, user: str = "ann") -> ClickMessage:
    return ClickMessage(f"e{number}", "view_item", 1_000, user, item_id="mug")


def _list(
    offset: int,
    user: str = "ann",
    sequence: int = 1,
    degraded: tuple[str, ...] = (),
    item_id: str = "cup",
) -> RecommendationList:
    item = RecommendedItem(item_id, 1, 0.5, "session", "because you viewed Red Mug")
    trigger = Trigger(f"e{offset}", "clicks", 0, offset, 1_000)
    return RecommendationList(1, "r", user, "default", sequence, 0, 0, trigger, {}, list(degraded), [item])


def test_freshness_is_the_brokers_time_from_event_to_list_whichever_is_told_first() -> None:
    measured = Measurements()
    assert measured.event(_event(0), Sent("clicks", 0, 0, 1_000)) is None
    first = measured.list(_list(0), 1_012)
    assert measured.list(_list(1, sequence=2), 2_020) is None
    second = measured.event(_event(1), Sent("clicks", 0, 1, 2_000))
    assert first is not None
    assert second is not None
    assert (first.freshness_ms, first.before) == (12, None)
    assert (second.freshness_ms, second.before) == (20, first.after)
    assert measured.freshness_ms()["max"] == 20
    assert measured.freshness_ms()["p50"] == 16


def test_a_list_answers_the_earlier_events_of_its_shopper_and_of_nobody_else() -> None:
    measured = Measurements()
    for offset in range(3):
        measured.event(_event(offset), Sent("clicks", 0, offset, 1_000 + offset))
    measured.event(_event(9, "bob"), Sent("clicks", 0, 9, 1_000))
    assert measured.unanswered == 4
    measured.list(_list(1), 1_010)
    assert measured.unanswered == 2
    assert (measured.events, measured.users, measured.lists) == (4, 2, 1)


def test_reordered_results_and_corrections_answer_no_event() -> None:
    measured = Measurements()
    measured.event(_event(0), Sent("clicks", 0, 0, 1_000))
    assert measured.list(replace(_list(0), reordered=True), 1_005) is None
    assert measured.unanswered == 1
    assert measured.list(_list(0, sequence=2), 1_010) is not None
    assert measured.list(_list(0, sequence=3), 9_000) is None
    assert (measured.lists, measured.unanswered, measured.freshness_ms()["max"]) == (1, 0, 10)
    assert measured.last_lists["ann"].sequence == 3


def test_what_was_left_out_is_counted_by_part() -> None:
    measured = Measurements()
    measured.list(_list(0, degraded=("reranker", "encoder")), 0)
    measured.list(_list(1, degraded=("reranker",)), 0)
    assert measured.degraded == {"reranker": 2, "encoder": 1}


def test_the_mean_batch_is_counted_from_the_demos_beginning_over_all_models() -> None:
    before = Batches({"encoder": 100, "reranker": 5}, {"encoder": 10, "reranker": 5})
    after = Batches({"encoder": 100, "reranker": 25, "new": 4}, {"encoder": 10, "reranker": 15, "new": 2})
    assert after.mean_since(before) == {"reranker": 2.0, "new": 2.0}
    assert after.overall_since(before) == 2.0
    assert before.overall_since(before) is None


def test_triton_counters_are_summed_over_versions() -> None:
    text = (
        "# HELP nv_inference_count x\n"
        'nv_inference_count{model="encoder",version="1"} 3\n'
        'nv_inference_count{model="encoder",version="2"} 4\n'
        'nv_inference_exec_count{model="encoder",version="1"} 9\n'
    )
    assert _by_model(text, "nv_inference_count") == {"encoder": 7.0}


FIGURES = Figures(
    6.0, 60.0, 10, 2, 9, 1.5, {"p50": 10, "p95": 20, "p99": 30, "max": 31}, 1.5, {"reranker": 1}, 0
)


def test_the_plain_view_prints_who_did_what_the_list_and_the_reasons() -> None:
    out = io.StringIO()
    view = PlainView(Console(file=out, width=300), {"mug": "Red Mug", "cup": "Blue Cup"})
    measured = Measurements()
    measured.event(_event(0), Sent("clicks", 0, 0, 1_000))
    refresh = measured.list(_list(0), 1_012)
    assert refresh is not None
    view.refresh(refresh)
    view.figures(FIGURES)
    text = out.getvalue()
    assert "ann looked at Red Mug -> list after 12 ms: 1. Blue Cup (because you viewed Red Mug)" in text
    assert "freshness p50 10 p95 20 p99 30 max 31 ms" in text
    assert "left out: reranker ×1" in text


def test_the_live_view_shows_the_list_before_and_after_and_says_what_the_data_are() -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True)
    view = LiveView(console, {"mug": "[Red] Mug", "cup": "Blue Cup"}, "SYNTHETIC shop, seed 1")
    measured = Measurements()
    measured.event(_event(0), Sent("clicks", 0, 0, 1_000))
    refresh = measured.list(_list(0), 1_012)
    assert refresh is not None
    view.refresh(refresh)
    search = SearchMessage("e1", 1_000, "ann", "[red] mugs")
    measured.event(search, Sent("clicks", 0, 1, 2_000))
    second = measured.list(_list(1, sequence=2, degraded=("reranker",)), 2_015)
    assert second is not None
    view.refresh(second)
    view.start()
    view.figures(FIGURES)
    view.stop()
    text = out.getvalue()
    for expected in ("SYNTHETIC shop", "before", "Blue Cup", "because you viewed Red Mug", "[Red] Mug"):
        assert expected in text
    assert "searched for “[red] mugs”  without reranker" in text


def test_the_spotlight_moves_to_a_list_in_which_something_new_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.demo.view.SPOTLIGHT_S", -1.0)
    out = io.StringIO()
    view = LiveView(
        Console(file=out, width=160, force_terminal=True), {"cup": "Blue Cup", "jug": "Tall Jug"}, "label"
    )
    measured = Measurements()
    for offset, (user, item) in enumerate([("ann", "cup"), ("ann", "cup"), ("bob", "cup"), ("bob", "jug")]):
        measured.event(_event(offset, user), Sent("clicks", 0, offset, 1_000 + offset))
        refresh = measured.list(_list(offset, user, offset, item_id=item), 1_010 + offset)
        assert refresh is not None
        view.refresh(refresh)
    view.start()
    view.figures(FIGURES)
    view.stop()
    shown = out.getvalue()
    assert "Tall Jug" in shown
