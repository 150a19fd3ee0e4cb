"""Another version of a model takes over while events come, and goes back; what must not serve does not.

Version 2 of the encoder turns every vector by the same rotation. Cosines within a version are then the same
as in version 1, and between the two there is no likeness left: a list from mixed versions would show.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from model_factory import canaries, manifest
from model_factory.served import highest_version

from stream.adapters.redis_locks import RedisModelLocks
from stream.adapters.triton_repository import TritonRepository
from stream.adapters.triton_servers import connect
from stream.local.stack import Stack
from stream.models.repository import new_version

REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODELS = ("encoder", "reranker", "cross_encoder")
QUERIES = (
    "red mug",
    "a lamp for the garden",
    "something soft for the sofa",
    "tea water",
    "wall time",
    "pictures",
)

SHELL = """
import numpy as np
import triton_model


class TritonPythonModel(triton_model.TritonPythonModel):
    def initialize(self, args):
        super().initialize(args)
        encode = self._encoder.encode
        # Each text by itself, so that its vector does not depend on its neighbours in a batch.
        self._encoder.encode = lambda texts: np.roll(
            np.concatenate([encode([text]) for text in texts]), {turn}, axis=1
        )
"""


def make(model: Path, version: int, *, turn: int, says: int | None = None, figure: float = 0.7) -> Path:
    """Add a version whose vectors are turned by `turn`, and whose manifest says by `says`."""
    with new_version(model, str(version)) as folder:
        for name in ("model.onnx", "tokenizer.json", manifest.NAME):
            shutil.copy(REPOSITORY / "encoder" / "1" / name, folder / name)
        (folder / "model.py").write_text(SHELL.format(turn=turn))
        canary = msgspec.to_builtins(canaries.record("encoder", folder))
        turned = np.roll(canary["answers"], turn if says is None else says, axis=1)
        manifest.update(
            folder,
            version=str(version),
            canary={**canary, "answers": turned.tolist()},
            measured=[{"metric": "nDCG@10", "data": "the same", "value": figure}],
        )
    return model / str(version)


def make_alike(model: Path, version: int, figure: float = 0.7) -> Path:
    """Add a version with the weights of the newest, which only its number and its figure tell apart."""
    with new_version(model, str(version)) as folder:
        shutil.copytree(
            highest_version(REPOSITORY / model.name),
            folder,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        manifest.update(
            folder,
            version=str(version),
            measured=[{"metric": "nDCG@10", "data": "the same", "value": figure}],
        )
    return model / str(version)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own, with version 1 of each model."""
    copy = tmp_path_factory.mktemp("models")
    for model in MODELS:
        shutil.copytree(
            REPOSITORY / model,
            copy / model,
            ignore=shutil.ignore_patterns("__pycache__", "[0-9]*"),
        )
        config = copy / model / "config.pbtxt"
        config.write_text(config.read_text().replace("count: 2", "count: 1"))
    make(copy / "encoder", 1, turn=0)
    for model in ("reranker", "cross_encoder"):
        make_alike(copy / model, 1)
    return copy


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Stack]:
    """Real servers on that repository."""
    with Stack(tmp_path_factory.mktemp("stack"), models=repository) as stack:
        stack.up(owned=True)
        yield stack


async def models(engine: Any, repository: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `streamrec models` and return its exit code, and what it printed and said."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("streamrec")),
        "models",
        *arguments,
        "--repository",
        str(repository),
        env={**os.environ, **engine.env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), said.decode()


async def served(engine: Any) -> list[str]:
    """The versions of the encoder that Triton answers for."""
    client = connect(engine.config.triton)
    try:
        return sorted(await TritonRepository(client, engine.config.triton).ready("encoder"))
    finally:
        await client.close()


def scores(made: dict[str, Any]) -> dict[str, float]:
    """The items of a list with their scores."""
    return {item["item_id"]: item["score"] for item in made["items"]}


@pytest.mark.timeout(900)
def test_an_encoder_takes_over_under_load_and_goes_back_without_a_list_lost_or_mixed(
    run: Any, repository: Path, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        engine.env["STREAMREC_TRITON__CROSS_ENCODER_BEST"] = "0"
        engine.env["STREAMREC_POLICY__EXPLORATION"] = '{"slots": 0}'  # lists are compared
        for _ in range(2):
            await engine.worker().ready()
        await engine.load_shop(96)
        first_worker = engine.workers[0]
        await wait_until(lambda: first_worker.metric("streamrec_catalogue_items") >= 96)
        await wait_until(
            lambda: all(
                worker.metric("streamrec_catalogue_items_without_vector") == 0 for worker in engine.workers
            )
        )
        alone = {
            query: await engine.list_for(await engine.search(f"before-{number}", query))
            for number, query in enumerate(QUERIES)
        }
        sent: list[dict[str, Any]] = []

        async def keep_searching() -> None:
            """Search as fast as lists come: four that wait for theirs, at any time."""
            for number in numbers:
                event = await engine.search(f"shopper-{number}", QUERIES[number % len(QUERIES)])
                sent.append(event)
                await engine.list_for(event)

        numbers = itertools.count()
        searching = asyncio.gather(*(keep_searching() for _ in range(4)))
        await engine.list_for(await wait_until(lambda: sent and sent[0]))

        async def list_by(version: str) -> None:
            """Expect that a search which comes now is answered by a version."""
            made = await engine.list_for(await engine.search(f"asker-{len(sent)}", QUERIES[0]))
            assert made["model_versions"]["encoder"] == version

        make(repository / "encoder", 2, turn=1, figure=0.71)
        code, out, said = await models(engine, repository, "promote", "encoder", "2", "--json")
        assert code == 0, said
        outcome = json.loads(out)
        assert (outcome["active"], outcome["previous"], len(outcome["workers"])) == ("2", "1", 2)
        assert outcome["confirmed_by"]
        await list_by("2")
        code, out, said = await models(engine, repository, "rollback", "encoder", "--json")
        assert code == 0, said
        await list_by("1")
        searching.cancel()

        lists = [await engine.list_for(event) for event in sent]
        versions = [made["model_versions"]["encoder"] for made in lists]
        assert [version for version, _ in itertools.groupby(sorted(versions))] == ["1", "2"]
        for event, made in zip(sent, lists, strict=True):
            assert made["degraded"] == []
            assert scores(made) == pytest.approx(scores(alone[event["search_query"]]), abs=1e-2)

    run(body)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["reranker", "cross_encoder"])
def test_a_reranker_or_cross_encoder_takes_over_under_load_and_goes_back_without_a_list_lost_or_without_it(
    run: Any, repository: Path, wait_until: Any, model: str
) -> None:
    async def body(engine: Any) -> None:
        engine.env["STREAMREC_TRITON__CROSS_ENCODER_BEST"] = "3"  # of ten, one instance would be overloaded
        await engine.worker().ready()
        await engine.load_shop(36)
        await wait_until(lambda: engine.workers[0].metric("streamrec_catalogue_items_without_vector") == 0)
        sent: list[dict[str, Any]] = []

        async def keep_searching() -> None:
            """Search as fast as lists come: two that wait for theirs, at any time."""
            for number in numbers:
                query = f"red mug {number}"  # another one each time: none is remembered
                event = await engine.search(f"shopper-{number}", query)
                sent.append(event)
                await engine.list_for(event)

        numbers = itertools.count()
        searching = asyncio.gather(*(keep_searching() for _ in range(2)))
        await engine.list_for(await wait_until(lambda: sent and sent[0]))

        async def list_by(version: str) -> None:
            """Expect that a search which comes now is answered by a version."""
            asker = f"asker-{version}-{len(sent)}"
            made = await engine.list_for(await engine.search(asker, f"red mug for {asker}"))
            assert made["model_versions"].get(model) == version, made["degraded"]

        await list_by("1")
        make_alike(repository / model, 2, figure=0.71)
        code, out, said = await models(engine, repository, "promote", model, "2", "--json")
        assert code == 0, said
        outcome = json.loads(out)
        assert (outcome["active"], outcome["previous"], len(outcome["workers"])) == ("2", "1", 1)
        assert outcome["confirmed_by"]
        await list_by("2")
        code, out, said = await models(engine, repository, "rollback", model, "--json")
        assert code == 0, said
        await list_by("1")
        searching.cancel()

        lists = [await engine.list_for(event) for event in sent]
        assert {made["model_versions"].get(model) for made in lists} == {"1", "2"}
        assert [made["degraded"] for made in lists if model in made["degraded"]] == []

    run(body)


@pytest.mark.timeout(900)
def test_who_changes_versions_while_another_does_is_told_who_and_changes_nothing(
    run: Any, repository: Path
) -> None:
    async def body(engine: Any) -> None:
        locks = RedisModelLocks(engine.redis, engine.config.redis.key_prefix, "ann on a")
        before = await served(engine)
        for command in (("promote", "encoder", "21"), ("rollback", "encoder"), ("load", "encoder", "21")):
            async with locks.held("encoder", "promote encoder 20"):
                code, _, said = await models(engine, repository, *command)
            assert code == 1
            assert "promote encoder 20, by ann on a, since 20" in said
        assert await served(engine) == before
        code, _, said = await models(engine, repository, "rollback", "encoder")
        assert (code, "no version of encoder served before" in said) == (1, True)

    run(body)


@pytest.mark.timeout(900)
def test_a_version_with_a_wrong_file_or_worse_figures_or_wrong_answers_is_refused(
    run: Any, repository: Path
) -> None:
    async def body(engine: Any) -> None:
        before = await served(engine)
        damaged = make(repository / "encoder", 11, turn=1)
        with (damaged / "tokenizer.json").open("a") as file:
            file.write(" ")
        code, _, said = await models(engine, repository, "promote", "encoder", "11")
        assert code == 1
        assert str(damaged / "tokenizer.json") in said
        code, out, _ = await models(engine, repository, "verify", "encoder", "11")
        assert code == 1
        assert str(damaged / "tokenizer.json") in out

        make(repository / "encoder", 12, turn=1, figure=0.6)
        code, _, said = await models(engine, repository, "promote", "encoder", "12", "--margin", "0.05")
        assert code == 1
        assert "worse by more than 0.05" in said
        assert await served(engine) == before

        make(repository / "encoder", 13, turn=2, says=1, figure=0.8)
        code, _, said = await models(engine, repository, "promote", "encoder", "13")
        assert code == 1
        assert "differs from the answer in the manifest" in said
        assert await served(engine) == before

        broken = make(repository / "encoder", 14, turn=1, figure=0.8)
        (broken / "model.py").write_text("raise RuntimeError('broken on purpose')\n")
        manifest.update(broken)
        code, _, said = await models(engine, repository, "load", "encoder", "14")
        assert code == 1
        assert "broken on purpose" in said
        assert await served(engine) == before
        code, out, _ = await models(engine, repository, "list", "--json")
        assert code == 0
        active = [row["version"] for row in json.loads(out) if row["role"] == "active"]
        assert active == [before[-1]]

    run(body)
