"""Learning from the stream: each list once, in order, scored before it is learnt from; resumable anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from builders import NOW_MS

from stream.adapters import trainer_checkpoint
from stream.adapters.trainer_checkpoint import LAYOUT, Checkpoint
from stream.core import list_log
from stream.core.events import ClickEvent, ImpressionEvent, Line, RecommendationList, Source, Trigger
from stream.core.following import Following
from stream.core.learning import Learning, OnlineLearner
from stream.core.list_log import LoggedList
from stream.core.policy import MINUTE_MS
from stream.core.running_figures import RunningFigures
from stream.core.stream_learning import LEARNER, WAITING, StreamLearner
from stream.errors import TrainerRefused

NAMES = ("likes", "noise", "more_noise")
GAP_MS = 30 * MINUTE_MS
ITEMS = [f"item-{number}" for number in range(12)]


def click(user: str, item: str, offset: int, at_ms: int, kind: str = "view_item") -> ClickEvent:
    lines = (Line(item, 1, None),)
    source = Source("clicks", 0, offset, at_ms)
    return ClickEvent(f"c{offset}", user, at_ms, source, kind, lines, None, None)  # type: ignore[arg-type]


def logged(
    user: str, offset: int, at_ms: int, likes: str, seen: tuple[str, ...] = (), names: tuple[str, ...] = NAMES
) -> LoggedList:
    """A list that answers a click, whose first feature tells what the shopper will touch next."""
    rows = np.random.default_rng(offset).standard_normal((len(ITEMS), len(names))).astype(np.float32)
    rows[:, 0] += [3.0 * (item == likes) for item in ITEMS]
    made = RecommendationList(
        schema_version=1,
        recommendation_id=f"r{offset}",
        user_id=user,
        placement="home",
        sequence=offset + 1,
        generated_at=at_ms,
        expires_at=at_ms + 1,
        trigger=Trigger(f"c{offset}", "clicks", 0, offset, at_ms),
        model_versions={},
        degraded=[],
        items=[],
    )
    return list_log.logged(made, ITEMS, np.array([item in seen for item in ITEMS]), names, rows)


def fresh() -> StreamLearner:
    learner = OnlineLearner(
        NAMES, seed=1, learning=Learning(hidden=4, rate=0.02, standardising=10, averaged=20)
    )
    return StreamLearner(learner, Following(GAP_MS), RunningFigures(500), "clicks")


Message = tuple[str, int, ClickEvent | LoggedList]


def stream(sessions: int) -> list[Message]:
    """Clicks and the lists that answer them: three touches a session, of one shopper each."""
    random = np.random.default_rng(7)
    messages: list[Message] = []
    offset = 0
    for session in range(sessions):
        at_ms = NOW_MS + session * MINUTE_MS
        items = random.permutation(ITEMS)[:3].tolist()
        for step, item in enumerate(items):
            moment = at_ms + step
            likes = items[step + 1] if step < 2 else ITEMS[0]
            messages.append(("clicks", offset, click(f"user-{session}", item, offset, moment)))
            messages.append(
                ("lists", offset, logged(f"user-{session}", offset, moment, likes, tuple(items[: step + 1])))
            )
            offset += 1
    messages.append(("clicks", offset, click("late", ITEMS[0], offset, NOW_MS + 10**9)))
    return messages


def feed(learner: StreamLearner, messages: list[Message], each: Callable[[], object] = lambda: None) -> None:
    for topic, offset, message in messages:
        if isinstance(message, LoggedList):
            learner.take_list(0, offset, message)
        else:
            assert topic == "clicks"
            learner.take_click(message)
        learner.work()
        each()


def test_every_list_is_learnt_from_once_where_a_new_item_followed() -> None:
    learner = fresh()
    feed(learner, stream(40))
    assert learner.outcomes == {"learnt": 80, "no_target": 40, "no_candidate": 0, "other_features": 0}
    assert learner.learner.lists == 80


def test_it_learns_what_shoppers_do_next() -> None:
    learner = fresh()
    feed(learner, stream(150))
    ranks = [entry[LEARNER] for _, entry in learner.figures.entries()]
    assert np.mean(ranks[-100:]) < 1.5 < np.mean(ranks[:20])


def test_a_list_is_scored_before_it_is_learnt_from() -> None:
    learner = fresh()
    before: list[int] = []
    learner.contestants = {"spy": lambda rows: before.append(learner.learner.lists) or np.zeros(len(rows))}  # type: ignore[func-returns-value, dict-item]
    feed(learner, stream(20))
    assert before == list(range(40))


def test_candidates_that_all_score_alike_are_no_hits() -> None:
    learner = fresh()
    learner.contestants = {"flat": lambda rows: np.zeros(len(rows), np.float32)}
    feed(learner, stream(10))
    assert {entry["flat"] for _, entry in learner.figures.entries()} == {len(ITEMS) - 1, len(ITEMS) - 2}


def test_what_is_no_candidate_is_a_miss_for_all_and_teaches_nothing() -> None:
    learner = fresh()
    learner.contestants = {"1": lambda rows: rows[:, 0]}
    learner.take_click(click("ann", ITEMS[0], 0, NOW_MS))
    learner.take_list(0, 0, logged("ann", 0, NOW_MS, ITEMS[1]))
    learner.take_click(click("ann", "unheard-of", 1, NOW_MS + 5))
    learner.take_click(click("bob", ITEMS[0], 2, NOW_MS + 2 * GAP_MS))
    assert learner.work() == 1
    assert learner.outcomes["no_candidate"] == 1
    assert learner.learner.lists == 0
    assert learner.figures.entries() == [("ann", {LEARNER: 0, "1": 0})]


def test_a_list_ranked_by_other_features_teaches_nothing() -> None:
    learner = fresh()
    learner.take_click(click("ann", ITEMS[0], 0, NOW_MS))
    learner.take_list(0, 0, logged("ann", 0, NOW_MS, ITEMS[1], names=("other", "features", "here")))
    learner.take_click(click("ann", ITEMS[1], 1, NOW_MS + 5))
    learner.take_click(click("bob", ITEMS[0], 2, NOW_MS + 2 * GAP_MS))
    learner.work()
    assert learner.outcomes["other_features"] == 1
    assert learner.learner.lists == 0


def test_what_leaves_the_cart_or_comes_into_view_is_not_what_followed() -> None:
    learner = fresh()
    learner.take_click(click("ann", ITEMS[0], 0, NOW_MS))
    learner.take_list(0, 0, logged("ann", 0, NOW_MS, ITEMS[2]))
    learner.take_click(click("ann", ITEMS[1], 1, NOW_MS + 1, "remove_from_cart"))
    source = Source("clicks", 0, 2, NOW_MS + 2)
    learner.take_click(ImpressionEvent("v", "ann", NOW_MS + 2, source, (ITEMS[3],), None, None))
    learner.take_click(click("ann", ITEMS[2], 3, NOW_MS + 3, "add_to_cart"))
    learner.contestants = {"1": lambda rows: np.arange(len(rows), dtype=np.float32)}
    learner.take_click(click("bob", ITEMS[0], 4, NOW_MS + 2 * GAP_MS))
    learner.work()
    assert learner.figures.entries()[0][1]["1"] == len(ITEMS) - 2


def test_how_the_two_topics_are_interleaved_changes_no_bit() -> None:
    messages = stream(30)
    mixed, apart = fresh(), fresh()
    feed(mixed, messages)
    clicks = [message for message in messages if message[0] == "clicks"]
    lists = [message for message in messages if message[0] == "lists"]
    for begin in range(0, 100, 20):
        feed(apart, lists[begin : begin + 20])
        feed(apart, clicks[begin : begin + 20])
    assert same(mixed, apart)


def same(one: StreamLearner, other: StreamLearner) -> bool:
    states = one.learner.state(), other.learner.state()
    bits = all(np.array_equal(value, states[1][name]) for name, value in states[0].items())
    return bits and one.outcomes == other.outcomes and one.figures.entries() == other.figures.entries()


@pytest.mark.parametrize("kill_at", range(0, 130, 13))
def test_a_trainer_that_was_killed_goes_on_to_the_bit(kill_at: int, tmp_path: Path) -> None:
    messages = stream(20)
    whole, killed = fresh(), fresh()
    feed(whole, messages)
    feed(killed, messages[:kill_at])
    taken = {
        topic: [offset for kind, offset, _ in messages[:kill_at] if kind == topic]
        for topic in ("clicks", "lists")
    }
    ends = {topic: max(offsets, default=-1) + 1 for topic, offsets in taken.items()}
    oldest = killed.oldest(0)
    trainer_checkpoint.write(
        tmp_path, checkpoint_of(killed, ends["clicks"], ends["lists"] if oldest is None else oldest)
    )
    feed(killed, messages[kill_at : kill_at + 9])  # lost with the process

    saved = trainer_checkpoint.read(tmp_path)
    assert saved is not None
    resumed = fresh()
    resumed.learner = trainer_checkpoint.learner_of(saved.learner)
    resumed.following.restore(saved.touches)
    resumed.figures = RunningFigures(500, saved.figures)
    resumed.outcomes = saved.outcomes
    starts = {"clicks": saved.clicks[0], "lists": saved.lists[0]}
    feed(resumed, [message for message in messages if message[1] >= starts[message[0]]])
    assert same(whole, resumed)


def checkpoint_of(learner: StreamLearner, clicks: int, lists: int) -> Checkpoint:
    return Checkpoint(
        layout=LAYOUT,
        learner=trainer_checkpoint.learner_bytes(learner.learner),
        clicks={0: clicks},
        lists={0: lists},
        touches=learner.following.state(),
        figures=learner.figures.entries(),
        outcomes=dict(learner.outcomes),
    )


def test_no_more_lists_are_held_than_there_is_room_for() -> None:
    learner = fresh()
    for offset in range(WAITING):
        assert learner.wants_lists(0)
        learner.take_list(0, offset, logged("ann", offset, NOW_MS, ITEMS[1]))
    assert not learner.wants_lists(0)
    assert learner.wants_lists(1)


def test_clicks_are_read_no_further_ahead_than_the_lists_need() -> None:
    learner = fresh()
    learner.take_click(click("ann", ITEMS[0], 0, NOW_MS))
    learner.take_list(0, 0, logged("ann", 0, NOW_MS, ITEMS[1]))
    assert learner.wants_clicks(0)
    learner.take_click(click("bob", ITEMS[0], 1, NOW_MS + 5 * GAP_MS))
    assert not learner.wants_clicks(0)
    learner.work()
    assert learner.wants_clicks(0)


def test_a_damaged_checkpoint_is_refused_with_its_place_and_the_cure(tmp_path: Path) -> None:
    trainer_checkpoint.write(tmp_path, checkpoint_of(fresh(), 1, 1))
    path = tmp_path / trainer_checkpoint.NAME
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(TrainerRefused, match=r"checkpoint is damaged .*remove it"):
        trainer_checkpoint.read(tmp_path)
    path.write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(checkpoint_of(fresh(), 1, 1), layout=9)))
    with pytest.raises(TrainerRefused, match="layout 9"):
        trainer_checkpoint.read(tmp_path)


def test_a_folder_without_a_checkpoint_is_a_beginning(tmp_path: Path) -> None:
    assert trainer_checkpoint.read(tmp_path) is None


def test_one_trainer_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    with (
        trainer_checkpoint.alone(tmp_path / "made"),
        pytest.raises(TrainerRefused, match="another trainer"),
        trainer_checkpoint.alone(tmp_path / "made"),
    ):
        pass
    with trainer_checkpoint.alone(tmp_path / "made"):
        pass
