"""Who a shopper is and what a shopper searched for is in no log line, no metric and no reason."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from builders import raw_click, raw_search
from prometheus_client import generate_latest
from shops import Shop

from stream import agents
from stream.agents import BatchAgent
from stream.config import load_config, load_with_origin
from stream.core.policy import DAY_MS, Policy
from stream.errors import ConfigError, ModelUnavailable, StateUnavailable
from stream.ports import RawMessage
from stream.privacy import pseudonyms
from stream.privacy.erasing import mark
from stream.privacy.pseudonyms import JsonLogFormatter, LogFormatter, pseudonym, use_key
from stream.process.life import log_unhandled, set_up_log
from stream.secret import Secret

USER = "canary-user@example.org"
QUERY = "canary query mug"
CANARY = "canary"


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "_key", b"k" * 32)
    monkeypatch.setattr(agents, "FIRST_PAUSE_S", 0.0001)
    monkeypatch.setattr(agents, "LONGEST_PAUSE_S", 0.001)


class Log(logging.Handler):
    """Formats every record of every logger as a worker does, as text and as JSON."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(LogFormatter("%(levelname)s %(name)s: %(message)s"))
        self.text = ""
        self.json: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = JsonLogFormatter().format(record)
        assert "\n" not in line
        assert CANARY not in line
        self.json.append(json.loads(line))
        self.text += self.format(record) + "\n"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Any:
    handler = Log()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def _metrics(shop: Shop) -> str:
    return generate_latest(shop.telemetry.registry).decode()


def test_a_workers_use_cases_put_no_id_and_no_query_into_a_log_line_or_a_metric(log: Log) -> None:
    shop = Shop()
    agent = BatchAgent("events", shop.worker.handle, shop.publisher, shop.telemetry, 8)

    def give(*messages: RawMessage) -> None:
        asyncio.run(agent._finish(messages))

    give(raw_click(USER, "mug", offset=1, session_id="canary-session", event_id="canary-event"))
    give(raw_search(USER, QUERY, offset=2), raw_click(USER, "cup", "add_to_cart", offset=3))
    give(raw_search(USER, QUERY, offset=4, result_item_ids=["mug", "pot"], placement="results"))
    shown = shop.publisher.lists[-1]
    seen = {"items": [{"item_id": one.item_id} for one in shown.items[:2]]}
    give(raw_click(USER, None, "view_item_list", offset=5, recommendation_id=shown.recommendation_id, **seen))
    give(raw_click(USER, "mug", "purchase", offset=6, recommendation_id=shown.recommendation_id))
    give(raw_click(USER, "jar", offset=6, event_id="canary-event"))
    for offset in range(30):  # no person is so fast
        give(raw_click(USER, "pan", offset=10 + offset, at_ms=shop.now_ms + offset, event_id=f"e{offset}"))
    # What cannot be read, and what crashes the core.
    give(raw_click(USER, "mug", "canary_type", offset=50)._replace(key=b"canary-key"))
    give(raw_click(USER, "mug", offset=51)._replace(value=b'{"user_id": "canary", broken'))
    shop.learn()
    give(raw_click(USER, "tin", offset=52))
    # What is away or fails says so, with whatever it has in its mouth.
    shop.encoder.failure = ModelUnavailable("encoder", "error", "encoder: away")
    shop.reranker.failure = ModelUnavailable("reranker", "error", "reranker: away")
    give(raw_search(USER, f"{QUERY} again", offset=53))
    shop.remove("tin")
    shop.put_right()
    asyncio.run(mark(shop.states, USER, shop.now_ms + 100, shop.now_ms + DAY_MS))
    give(raw_click(USER, "mug", offset=54))

    async def crash(messages: Sequence[RawMessage]) -> None:
        raise ValueError(f"{USER} searched for {QUERY}")

    crashing = BatchAgent("events", crash, shop.publisher, shop.telemetry, 8)
    message = raw_search(USER, QUERY, offset=60)
    asyncio.run(crashing._finish([message]))
    assert CANARY not in log.text
    assert pseudonym(USER) in log.text
    assert CANARY not in _metrics(shop)
    assert "streamrec_erased_events_total 1.0" in _metrics(shop)
    assert {letter.code for letter in shop.publisher.dead_letters} == {
        *("unknown_event_type", "not_json", "internal")
    }
    assert CANARY not in shop.publisher.dead_letters[-1].reason


def test_json_lines_tell_of_which_event_and_shopper_they_are_by_hashes(log: Log) -> None:
    shop = Shop()

    async def crash(messages: Sequence[RawMessage]) -> None:
        raise ValueError(f"{USER} searched for {QUERY}")

    shop.handle(raw_click(USER, "mug", offset=7, partition=3, event_id="canary-event"))
    asyncio.run(
        BatchAgent("events", crash, shop.publisher, shop.telemetry, 8)._finish([raw_click(USER, offset=8)])
    )
    (made,) = [line for line in log.json if line["logger"] == "stream.lists.recommender"]
    assert made["user"] == pseudonym(USER)
    assert made["event"] == pseudonym("canary-event")
    assert (made["topic"], made["partition"], made["offset"], made["level"]) == ("clicks", 3, 7, "debug")
    (aside,) = [line for line in log.json if line["level"] == "error"]
    assert (aside["user"], aside["offset"]) == (pseudonym(USER), 8)
    assert "test_privacy.py" in aside["message"]


def test_a_process_logs_as_the_settings_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(pseudonyms, "_key", b"k" * 32)
    level = logging.getLogger().level
    try:
        set_up_log(load_config(env={"STREAMREC_TELEMETRY__LOG_FORMAT": "json"}).telemetry)
    finally:
        logging.getLogger().setLevel(level)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"]) == ("info", "stream.process.life")
    assert line["message"].startswith("ids are hashed with a key of this process")


def test_a_state_that_is_away_is_waited_for_without_naming_anybody(log: Log) -> None:
    shop = Shop()
    failures: list[Exception | None] = [StateUnavailable("Redis did not read 1 states: gone"), None]

    async def handle(messages: Sequence[RawMessage]) -> None:
        shop.states.failure = failures.pop(0)
        await shop.worker.handle(messages)

    agent = BatchAgent("events", handle, shop.publisher, shop.telemetry, 8)
    asyncio.run(agent._finish([raw_click(USER)]))
    assert shop.publisher.lists
    assert "nothing is acknowledged" in log.text
    assert CANARY not in log.text + _metrics(shop)


def test_of_an_exception_the_log_shows_kind_and_lines_and_not_its_text(log: Log) -> None:
    try:
        raise KeyError(USER)
    except KeyError as error:
        logging.getLogger("stream.worker").exception("popularity: failed, going on")
        logging.getLogger("faust.agents").error("crashed: %r", error)
        logging.getLogger("mode").error("%s, %s", "crashed", error)
        log_unhandled(None, {"message": "task failed", "exception": error})  # type: ignore[arg-type]
    assert CANARY not in log.text
    assert log.text.count("KeyError at") == 3
    assert "test_privacy.py" in log.text


def test_a_name_in_the_log_is_the_same_for_a_key_and_another_for_another() -> None:
    use_key(Secret("one"))
    name = pseudonym("ann")
    assert pseudonym("ann") == name == pseudonym(b"ann")
    assert pseudonym("bob") != name
    use_key(Secret("two"))
    assert pseudonym("ann") != name
    use_key(Secret("one"))
    assert pseudonym("ann") == name
    assert len(name) == pseudonyms.LETTERS


def test_without_a_key_the_one_that_the_process_drew_stays() -> None:
    name = pseudonym("ann")
    use_key(Secret())
    assert pseudonym("ann") == name


def test_the_key_comes_from_a_file_or_a_setting_and_is_never_shown(tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2\n")
    loaded = load_with_origin(env={"STREAMREC_TELEMETRY__HASH_KEY_FILE": str(file)})
    assert loaded.config.telemetry.hash_key.reveal() == "hunter2"
    assert "hunter2" not in repr(loaded)
    with pytest.raises(ConfigError, match=r"telemetry\.hash_key_file: the hash key is set by"):
        load_config(
            env={
                "STREAMREC_TELEMETRY__HASH_KEY_FILE": str(file),
                "STREAMREC_TELEMETRY__HASH_KEY": "other",
            }
        )


def _visit(shop: Shop, user: str, offset: int) -> None:
    shop.handle(raw_click(user, "pan", offset=offset), raw_click(user, "jug", offset=offset + 1))


@pytest.mark.parametrize(("min_shoppers", "crowd", "shown"), [(2, 1, False), (2, 8, True), (1, 1, True)])
def test_what_too_few_shoppers_brought_together_is_no_reason(
    min_shoppers: int, crowd: int, shown: bool
) -> None:
    shop = Shop(Policy(min_shoppers=min_shoppers))
    for number in range(crowd):
        for visit in range(3 if crowd == 1 else 1):
            _visit(shop, f"crowd-{number}", 10 * number + 2 * visit)
    shop.learn()
    shop.now_ms += 10_000  # a row is read anew
    [made] = shop.handle(raw_click("asker", "pan", offset=900))
    reasons = {one.item_id: one.reason for one in made.items}
    assert ("because you" in reasons["jug"]) is shown
    assert bool(len(asyncio.run(shop.learnt.rows(["pan"]))["pan"].slots)) is shown
