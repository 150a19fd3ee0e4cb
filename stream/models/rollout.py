"""Promotion and rollback under live traffic, step by step; whatever fails, the old version goes on.

1. The files are those of the manifest. 2. The figures are not worse. 3. Triton loads the version beside the
one that serves. 4. It answers as it did when it was made. 5. An encoder is announced as a candidate, and
the workers fill a second index. 6. The record is written that lets workers take it over. 7. All of them
say that they have, and a list names it.

One at a time changes the versions of a model (`stream.ports.ModelLocks`), from whatever machine.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stream.adapters import redis_client, triton_servers
from stream.adapters.kafka_reading import partitions
from stream.adapters.model_records import read_records, write_record
from stream.adapters.redis_locks import RedisModelLocks
from stream.adapters.redis_workers import RedisWorkerReports
from stream.adapters.triton_repository import TritonRepository
from stream.config import Config
from stream.core.events import RecommendationList
from stream.core.versions import Serving, order
from stream.errors import ModelRefused
from stream.models import canary, gate, manifest
from stream.models.repository import version_folder
from stream.models.reranker_version import refuse_other_features
from stream.ports import ModelLocks, WorkerReport, WorkerReports

POLL_S = 0.2
WORKERS_FOLLOW_S = 30.0
LISTS_WATCHED_S = 10.0


class Outcome(NamedTuple):
    """What a promotion or a rollback came to.

    `workers` are those that use the version now; `confirmed_by` is the list that named it first, None where
    none was made meanwhile.
    """

    model: str
    active: str
    previous: str
    comparisons: list[gate.Comparison]
    workers: list[str]
    confirmed_by: str | None


class Rollout:
    """Let versions take over.

    Args:
        repository: the model repository on disk, the same that Triton reads.
        told: is given a sentence for each step that is done.
        filled: is given how many items of how many have a candidate's vector, of all workers the least.
    """

    def __init__(
        self,
        config: Config,
        repository: Path,
        triton: TritonRepository,
        reports: WorkerReports,
        locks: ModelLocks,
        told: Callable[[str], None] = lambda _: None,
        filled: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._config = config
        self._repository = repository
        self._triton = triton
        self._reports = reports
        self._locks = locks
        self._told = told
        self._filled = filled
        self._written: dict[str, Serving] = {}
        self._named = {
            config.triton.encoder: "encoder",
            config.triton.reranker: "reranker",
            config.triton.cross_encoder: "cross_encoder",
        }

    async def load(self, model: str, version: str) -> None:
        """Load a version beside the others and put it to the test; it serves nobody.

        Raises:
            ModelRefused: and it is not loaded.
            ModelBusy: somebody else changes the versions of this model.
            Unavailable: Triton, Kafka or Redis did not answer.
        """
        async with self._locks.held(model, f"load {model} {version}"):
            folder = self._checked(model, version)
            await self._record(model)
            await self._load(model, version, folder)

    async def promote(
        self, model: str, version: str, *, margin: float = 0.0, timeout_s: float = 3600.0, forced: str = ""
    ) -> Outcome:
        """Let a version take over.

        Args:
            margin: how much worse than the active version it may have measured.
            timeout_s: how long the workers may take to fill an encoder's second index.
            forced: why the gate is overruled; "" to heed it.

        Raises:
            ModelRefused: and the old version goes on.
            ModelBusy: as `load`.
            Unavailable: as `load`.
        """
        async with self._locks.held(model, f"promote {model} {version}"):
            return await self._promote(model, version, margin, timeout_s, forced)

    async def rollback(self, model: str) -> Outcome:
        """Let the version before take over again, at once. Raises as `promote`."""
        async with self._locks.held(model, f"rollback {model}"):
            return await self._rollback(model)

    async def _promote(
        self, model: str, version: str, margin: float, timeout_s: float, forced: str
    ) -> Outcome:
        folder = self._checked(model, version)
        before = await self._record(model)
        if before.active == version:
            raise ModelRefused(f"version {version} of {model} serves already")
        comparisons = self._pass_gate(model, before.active, version, margin, forced)
        loaded_now = await self._load(model, version, folder)
        try:
            if model == self._config.triton.encoder:
                await self._fill(before, version, timeout_s)
            after = Serving(version, previous=before.active, at_ms=_now_ms(), forced=forced)
            async with self._lists() as confirm:
                await self._write(model, after)
                workers = await self._followed(model, after)
                confirmed_by = await confirm(model, version)
        except BaseException:
            await asyncio.shield(self._restore(model, before, loaded_now and version))
            raise
        return Outcome(model, version, before.active, comparisons, workers, confirmed_by)

    async def _rollback(self, model: str) -> Outcome:
        before = await self._record(model)
        if not before.previous:
            raise ModelRefused(
                f"no version of {model} served before version {before.active}: `streamrec models list` shows "
                "which there are, `streamrec models promote` lets one take over"
            )
        if before.previous not in await self._triton.ready(model):
            await self._load(model, before.previous, self._checked(model, before.previous))
        after = Serving(before.previous, previous=before.active, at_ms=_now_ms(), at_once=True)
        async with self._lists() as confirm:
            await self._write(model, after)
            self._told(f"version {after.active} of {model} serves again; waiting for the workers to say so")
            workers = await self._followed(model, after)
            confirmed_by = await confirm(model, after.active)
        return Outcome(model, after.active, after.previous, [], workers, confirmed_by)

    async def retire(self, model: str, versions: Collection[str]) -> list[str]:
        """Take those of some versions out of Triton that neither serve nor served last, and return them.

        Raises as `load`.
        """
        async with self._locks.held(model, f"retire {model}"):
            record = await self._record(model)
            gone = [one for one in versions if one not in (record.active, record.previous, record.candidate)]
            ready = await self._triton.ready(model)
            left = [version for version in ready if version not in gone]
            if left and len(left) < len(ready):
                await self._triton.load(model, left)
            return gone

    def _checked(self, model: str, version: str) -> Path:
        folder = version_folder(self._repository, model, version)
        manifest.verify(folder)
        if model == self._config.triton.reranker:
            refuse_other_features(folder)
        self._told(f"the files of version {version} of {model} are those of its manifest")
        return folder

    async def _record(self, model: str) -> Serving:
        """What is in force; written down where nothing was, so that what is loaded next serves nobody."""
        records = await read_records(self._config)
        if model in records:
            return records[model]
        ready = await self._triton.ready(model)
        if not ready:
            raise ModelRefused(f"Triton serves no version of {model}: start it with the model, then promote")
        serving = Serving(max(ready, key=order), at_ms=_now_ms())
        await self._write(model, serving)
        return serving

    async def _write(self, model: str, serving: Serving) -> None:
        self._written[model] = serving
        await write_record(self._config, model, serving)

    def _pass_gate(
        self, model: str, active: str, version: str, margin: float, forced: str
    ) -> list[gate.Comparison]:
        try:
            candidate = manifest.read(self._repository / model / version)
            known = candidate.rivals.get(active) or manifest.read(self._repository / model / active).measured
            found = gate.gate(candidate.measured, known, margin)
        except ModelRefused as error:
            if not forced:
                raise ModelRefused(
                    f"{error}\nversion {active} of {model} goes on; --margin allows a worse figure, --force "
                    "REASON overrules"
                ) from None
            self._told(f"overruled, {forced}: {error}")
            return []
        for one in found:
            self._told(f"{one.metric}: {one.candidate:.4f}, version {active} has {one.active:.4f}")
        return found

    async def _load(self, model: str, version: str, folder: Path) -> bool:
        """Load and test a version; return whether it was not loaded before."""
        before = await self._triton.ready(model)
        loads = version not in before
        try:
            if loads:
                await self._triton.load(model, [*before, version])
                self._told(f"Triton loaded version {version} of {model} beside {', '.join(before) or 'none'}")
            expected = manifest.read(folder).canary
            if expected is None:
                raise ModelRefused(
                    f"{folder / manifest.NAME} has no canary: requests with the answers they must get; "
                    "`model-factory export` records them"
                )
            for ask in self._triton.askers(model, version):
                await canary.check(expected, ask)
        except ModelRefused as error:
            if loads:
                await self._unload(model, version)
            raise ModelRefused(f"version {version} of {model}: {error}") from None
        self._told(f"version {version} of {model} answers as it did when it was made")
        return loads

    async def _unload(self, model: str, version: str) -> None:
        others = [one for one in await self._triton.ready(model) if one != version]
        if others:
            await self._triton.load(model, others)

    async def _restore(self, model: str, before: Serving, unload: str | bool) -> None:
        """Put what was in force before in force again, unless somebody else has decided meanwhile."""
        found = (await read_records(self._config)).get(model)
        if found not in (before, self._written.get(model)):
            self._told(f"somebody else decided on {model} meanwhile: that is left in force")
            return
        await self._write(model, msgspec.structs.replace(before, at_ms=_now_ms(), at_once=True))
        if unload:
            await self._unload(model, str(unload))
        self._told(f"version {before.active} of {model} goes on")

    async def _fill(self, before: Serving, version: str, timeout_s: float) -> None:
        """Announce a candidate and wait until every worker has its vectors."""
        model = self._config.triton.encoder
        announced = Serving(before.active, before.previous, candidate=version, at_ms=_now_ms())
        await self._write(model, announced)
        self._told(f"version {version} is a candidate: the workers encode the items with it too")
        end_s = time.monotonic() + timeout_s
        while True:
            workers = await self._reports.living()
            if not workers:
                self._told("no worker runs: those that start will go over when they have the vectors")
                return
            left = [_left(worker, model, announced) for worker in workers]
            most = max((count for count in left if count is not None), default=0)
            total = max(worker.items for worker in workers)
            self._filled(0 if None in left else total - most, total)
            if all(count == 0 for count in left):
                self._told(f"all {len(workers)} workers have version {version} of {total} items")
                return
            if time.monotonic() > end_s:
                raise ModelRefused(
                    f"after {timeout_s:.0f} s {most} of {total} items have no vector of version {version} "
                    "yet: promote again with a longer --timeout, it goes on where it was"
                )
            await asyncio.sleep(POLL_S)

    async def _followed(self, model: str, record: Serving) -> list[str]:
        """Wait until every living worker uses the version of a record, and return their names."""
        end_s = time.monotonic() + WORKERS_FOLLOW_S
        while True:
            workers = await self._reports.living()
            late = [
                worker.worker
                for worker in workers
                if worker.at_ms.get(model, 0) < record.at_ms or worker.serving.get(model) != record.active
            ]
            if not late:
                return [worker.worker for worker in workers]
            if time.monotonic() > end_s:
                raise ModelRefused(
                    f"after {WORKERS_FOLLOW_S:.0f} s {len(late)} of {len(workers)} workers do not use "
                    f"version {record.active} of {model}: {', '.join(late)}; their logs say why"
                )
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def _lists(self) -> AsyncIterator[Any]:
        """Watch the lists from now on; gives a function that waits for one that names a version."""
        topic = self._config.topics.recommendations
        async with partitions(self._config.kafka, topic, at_end=True) as (reader, _):

            async def confirm(model: str, version: str) -> str | None:
                name, without, end_s = self._named.get(model, model), 0, time.monotonic() + LISTS_WATCHED_S
                while time.monotonic() < end_s:
                    for batch in (await reader.getmany(timeout_ms=500)).values():
                        for message in batch:
                            made = _list(message.value)
                            if made is not None and made.model_versions.get(name) == version:
                                self._told(f"list {made.recommendation_id} was made by version {version}")
                                return made.recommendation_id
                            without += made is not None and name in made.degraded
                if without:
                    raise ModelRefused(
                        f"{without} lists were made without the {name} and none by version {version}"
                    )
                self._told(
                    f"no list was made in {LISTS_WATCHED_S:.0f} s, so none names version {version} yet"
                )
                return None

            yield confirm


def _left(worker: WorkerReport, model: str, announced: Serving) -> int | None:
    """How many items a worker lacks before it can go over; None where it has not heard of the candidate."""
    if worker.at_ms.get(model, 0) < announced.at_ms or announced.candidate not in worker.missing:
        return None
    lacks = worker.missing[announced.candidate]
    return 0 if lacks <= worker.missing.get(announced.active, 0) else lacks


def _list(value: bytes | None) -> RecommendationList | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=RecommendationList)
    except msgspec.DecodeError:
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_rollout(
    config: Config,
    repository: Path,
    told: Callable[[str], None] = lambda _: None,
    filled: Callable[[int, int], None] = lambda done, total: None,
) -> AsyncIterator[Rollout]:
    """Give a `Rollout` that is connected to Redis and Triton while the block runs."""
    owner = f"{getpass.getuser()} on {socket.gethostname()} (process {os.getpid()})"
    async with redis_client.connect(config.redis) as redis:
        servers = triton_servers.connect(config.triton)
        try:
            yield Rollout(
                config,
                repository,
                TritonRepository(servers, config.triton),
                RedisWorkerReports(redis, config.redis.key_prefix),
                RedisModelLocks(redis, config.redis.key_prefix, owner),
                told=told,
                filled=filled,
            )
        finally:
            await servers.close()
