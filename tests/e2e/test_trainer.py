"""The trainer on a real stack: what it learns is served, and a kill changes nothing of what it learnt."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_rerankers import add_version
from prometheus_client.parser import text_string_to_metric_families

from stream.adapters import trainer_checkpoint
from stream.adapters.kafka_reading import partition_of
from stream.adapters.model_records import read_records
from stream.adapters.trainer_checkpoint import Checkpoint
from stream.core import list_log
from stream.core.events import RecommendationList, Trigger
from stream.core.policy import DAY_MS, MINUTE_MS
from stream.core.ranking import FEATURES
from stream.local.stack import Stack

REPOSITORY = Path(__file__).parents[2] / "model_repository"
ROLL_LISTS = 20
ROLLBACK_LISTS = 12
SLOW_S = 300.0
ITEMS = [f"item-{number:03d}" for number in range(60)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the reranker alone."""
    copy = tmp_path_factory.mktemp("models")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "reranker", copy / "reranker", ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Stack]:
    """Servers of their own, on that repository."""
    with Stack(tmp_path_factory.mktemp("stack"), models=repository) as stack:
        stack.up(owned=True)
        yield stack


class TrainerProcess:
    """`streamrec trainer` as an operator starts it."""

    def __init__(self, engine: Any, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        env = {f"STREAMREC_TRAINER__{name.upper()}": value for name, value in settings.items()}
        env["STREAMREC_TRAINER__FOLDER"] = str(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        env["STREAMREC_TRAINER__PORT"] = str(self.port)
        self.started = asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("streamrec")), "trainer", *options),
            env={**os.environ, **engine.env, **env},
            stdout=self.log.open("ab"),
            stderr=asyncio.subprocess.STDOUT,
        )

    async def __aenter__(self) -> TrainerProcess:
        self.process = await self.started
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        print(f"--- {self.log.name}\n{self.log.read_text()[-4000:]}")

    def is_ready(self) -> bool:
        assert self.process.returncode is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry all of `labels`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            read = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in read for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def checkpoint(self) -> Checkpoint | None:
        assert self.process.returncode is None, self.log.read_text()[-3000:]
        return trainer_checkpoint.read(self.folder)


class Visits:
    """Shoppers who come one after the other, each when the session of the one before has ended.

    Nothing depends on when signals arrive: the shop has no more items than a list has places, so that all
    that a shopper did not touch are candidates, and each visit settles earlier ones of its partition.

    Attributes:
        lists: those that answered the events, all of them.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._began_ms = time.time_ns() // 1_000_000 - 60 * DAY_MS
        self._gap_ms = int(2 * engine.config.policy.session_gap_minutes * MINUTE_MS)
        self._sessions = 0
        self._visits = 0
        self.lists: list[dict[str, Any]] = []

    async def one(self, *sessions: tuple[str, ...]) -> list[dict[str, Any]]:
        """Let the next shopper look at the items of some sessions, and return the lists that answered."""
        user = f"shopper-{self._visits}"
        self._visits += 1
        made = []
        for session in sessions:
            at_ms = self._began_ms + self._sessions * self._gap_ms
            self._sessions += 1
            assert at_ms < time.time_ns() // 1_000_000, "no time is left before now"
            for step, item in enumerate(session):
                click = await self._engine.click(user, item, event_time=at_ms + 1_000 * step)
                made.append(await self._engine.list_for(click))
        self.lists += made
        return made


@pytest.mark.timeout(900)
def test_what_the_trainer_learnt_is_served_and_no_list_is_lost(
    run: Any, wait_until: Any, repository: Path, tmp_path: Path
) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        items = await engine.load_shop(engine.config.policy.list_length)
        visits = Visits(engine)

        async def visit() -> str:
            """Let a shopper touch two items, and return the version that made the last list."""
            number = len(visits.lists)
            made = await visits.one((items[number % len(items)], items[(number + 7) % len(items)]))
            assert all(set(one["degraded"]) <= {"reranker"} for one in made)  # on a slow machine
            return str(made[-1]["model_versions"].get("reranker", ""))

        first = await wait_until(visit, what="a list by the version that serves")
        settings = {"roll_minutes": "0", "roll_lists": str(ROLL_LISTS), "roll_margin": "1"}
        settings |= {"checkpoint_s": "0.2"}
        options = ("--repository", str(repository))
        async with TrainerProcess(engine, tmp_path / "trainer", *options, **settings) as trainer:

            async def newer() -> str | None:
                trainer.checkpoint()  # fails where it has ended
                version = await visit()
                return version if version not in ("", first) else None

            version = await wait_until(newer, 600.0, "a list by a new version")
            assert (repository / "reranker" / version / "MANIFEST.json").is_file()
            saved = await wait_until(
                lambda: (saved := trainer.checkpoint()) and version in saved.made and saved,
                what="the checkpoint after a version was made",
            )
            assert saved.outcomes["learnt"] >= ROLL_LISTS
            assert saved.outcomes["no_candidate"] == 0

    run(body)


@pytest.mark.timeout(900)
def test_a_version_that_is_surely_worse_than_the_one_before_is_taken_back(
    run: Any, wait_until: Any, repository: Path, tmp_path: Path
) -> None:
    async def body(engine: Any) -> None:
        engine.env["STREAMREC_POLICY__EXPLORATION"] = '{"slots": 0}'
        await engine.worker().ready()
        items = await engine.load_shop(engine.config.policy.list_length)
        visits = Visits(engine)
        good = add_version(repository, liking=1.0)
        bad = add_version(repository, liking=-1.0)
        await promote(engine, repository, good)
        settings = {"rollback_lists": str(ROLLBACK_LISTS), "checkpoint_s": "0.2"}
        options = ("--repository", str(repository))
        async with TrainerProcess(engine, tmp_path / "trainer", *options, **settings) as trainer:
            await wait_until(trainer.is_ready, SLOW_S, "the trainer follows the stream")
            await promote(engine, repository, bad)

            async def shop_around() -> list[str]:
                """Let a shopper come back for what they know; return the versions that made the lists."""
                known, other = (items[(len(visits.lists) + place) % len(items)] for place in (0, 7))
                made = await visits.one((known,), (other, known))
                return [one["model_versions"].get("reranker", "") for one in made]

            assert set(await shop_around()) <= {bad, ""}

            async def taken_back() -> bool:
                assert trainer.process.returncode is None
                return good in await shop_around()

            await wait_until(taken_back, 600.0, "lists by the version before")
            await wait_until(
                lambda: trainer.metric("streamrec_trainer_versions_total", outcome="taken back") == 1,
                what="the trainer counts what it took back",
            )
            assert trainer.metric("streamrec_trainer_versions_total") == 1
            said = re.search(
                rf"MRR@20 of version {bad} is (\S+) below that of version {good} on (\d+) lists",
                trainer.log.read_text(),
            )
            assert said, "its log says why"
            assert float(said[1]) == pytest.approx(1 - 1 / (len(items) - 1), abs=1e-3)
            assert int(said[2]) >= ROLLBACK_LISTS
        record = (await read_records(engine.config))["reranker"]
        assert (record.active, record.previous) == (good, bad)
        assert (await shop_around())[-1] == good

    run(body)


async def promote(engine: Any, repository: Path, version: str) -> None:
    """Let a version of the reranker take over, whatever its figures are."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("streamrec")), "models", "promote", "reranker", version),
        *("--force", "a test", "--repository", str(repository)),
        env={**os.environ, **engine.env},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


@pytest.mark.timeout(900)
def test_a_trainer_that_is_killed_learns_on_as_if_nothing_had_happened(
    run: Any, wait_until: Any, tmp_path: Path
) -> None:
    async def body(engine: Any) -> None:
        partitions = engine.config.kafka.partitions
        names = (f"shopper-{number}" for number in count())
        users = list(islice((name for name in names if partition_of(name.encode(), partitions) == 0), 150))
        await follow(engine, users[:70])
        settings = {"checkpoint_s": "0.05"}
        async with TrainerProcess(engine, tmp_path / "killed", "--no-roll", **settings) as killed:
            await wait_until(
                lambda: (saved := killed.checkpoint()) and saved.outcomes["learnt"] > 100, SLOW_S, "it learns"
            )
            await follow(engine, users[70:110], begin=70)
            killed.process.kill()
            await killed.process.wait()
        await follow(engine, users[110:], begin=110)  # something is left to learn, however fast it was
        before = trainer_checkpoint.read(tmp_path / "killed")
        assert before is not None
        for folder in ("killed", "never-killed"):
            async with TrainerProcess(engine, tmp_path / folder, "--no-roll", "--once") as trainer:
                assert await trainer.process.wait() == 0
        killed_at, other = (trainer_checkpoint.read(tmp_path / name) for name in ("killed", "never-killed"))
        assert killed_at is not None
        assert other is not None
        assert before.outcomes["learnt"] < killed_at.outcomes["learnt"]
        assert killed_at.outcomes == other.outcomes
        assert (killed_at.clicks, killed_at.lists) == (other.clicks, other.lists)
        one, two = (trainer_checkpoint.learner_of(saved.learner).state() for saved in (killed_at, other))
        assert all(np.array_equal(values, two[name]) for name, values in one.items())

    run(body)


async def follow(engine: Any, users: list[str], begin: int = 0) -> None:
    """Send what shoppers touched, three items each and an hour apart, and lists that answer it."""
    for number, user in enumerate(users, begin):
        random = np.random.default_rng(number)
        at_ms = 1_700_000_000_000 + number * 60 * MINUTE_MS
        for step, item in enumerate(random.permutation(ITEMS)[:3].tolist()):
            click = {"event_id": f"{user}-{step}", "event_type": "view_item", "event_time": at_ms + step}
            click |= {"user_id": user, "item_id": item}
            place = await engine.send(engine.config.topics.clicks, user, click)
            rows = random.standard_normal((len(ITEMS), len(FEATURES))).astype(np.float32)
            topic = engine.config.topics.clicks
            made = RecommendationList(
                schema_version=1,
                recommendation_id=f"{user}-{step}",
                user_id=user,
                placement="home",
                sequence=step + 1,
                generated_at=at_ms + step,
                expires_at=at_ms + step + 1,
                trigger=Trigger(f"{user}-{step}", topic, place.partition, place.offset, at_ms + step),
                model_versions={},
                degraded=[],
                items=[],
            )
            logged = list_log.logged(made, ITEMS, np.zeros(len(ITEMS), bool), FEATURES, rows)
            await engine.send(engine.config.topics.list_log, user, list_log.encode(logged))
