"""New versions of the reranker out of what a trainer learnt, let in through the gate, and taken back."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from stream.core.learning import OnlineLearner
from stream.core.running_figures import Figures
from stream.core.stream_learning import Score
from stream.core.versions import difference, order
from stream.errors import ModelRefused, Unavailable
from stream.models import reranker_version
from stream.models.loading import load_reranker
from stream.models.manifest import Measured
from stream.models.repository import new_version, versions
from stream.models.rollout import Rollout

log = logging.getLogger(__name__)

OTHER_FEATURES = "the version that serves reads other features than this code computes, so no list is scored"


class Rolling:
    """Makes versions, promotes them, and takes them back.

    Args:
        model: the reranker's name in Triton.
        rollout: opens what promotes.
        keep: of the versions made here so many newest are left on disk.
    """

    def __init__(
        self,
        model: str,
        repository: Path,
        rollout: Callable[[], AbstractAsyncContextManager[Rollout]],
        keep: int,
        made: Collection[str] = (),
    ) -> None:
        self._model = model
        self._folder = repository / model
        self._repository = repository
        self._rollout = rollout
        self._keep = keep
        self.made = list(made)
        """The versions that were made here, oldest first."""

    def scorer(self, version: str, features: tuple[str, ...]) -> Score | None:
        """What scores rows as a version does; None where it cannot be read or reads other features."""
        try:
            network = load_reranker(self._folder / version)
        except (OSError, KeyError, ValueError) as error:
            log.warning("version %s of %s cannot be compared: %s", version, self._model, error)
            return None
        return None if difference(network.features, features) else network.score

    def learner_of(self, version: str) -> OnlineLearner | None:
        """The learner that a version was written by, None where it has none that can be read."""
        try:
            return reranker_version.read_learner(self._folder / version)
        except ModelRefused as error:
            log.info("learning begins anew: %s", error)
            return None

    async def roll(
        self,
        learner: OnlineLearner,
        active: str,
        data: str,
        own: Figures,
        rival: Figures | None,
        margin: float,
    ) -> str | None:
        """Write a version and let it take over from the active one; None where it was refused.

        Args:
            data: names the lists that both were measured on.
            rival: figures of the active version on these; None where it cannot score them.
        """
        used = [*versions(self._repository, self._model), *self.made]
        number = str(max(map(int, used), default=0) + 1)
        with new_version(self._folder, number) as making:
            reranker_version.write(
                making,
                learner,
                number,
                origin=f"learnt from the stream while version {active} served",
                made="streamrec trainer",
                training={"lists": learner.lists},
                measured=_measured(own, data),
                rivals={active: _measured(rival, data)} if rival else {},
                figures={"lists": own.lists, "hr_at_20": own.hr, "mrr_at_20": own.mrr},
            )
        self.made.append(number)
        async with self._rollout() as rollout:
            try:
                await rollout.promote(
                    self._model, number, margin=margin, forced="" if rival else OTHER_FEATURES
                )
            except ModelRefused as error:
                log.warning("version %s is refused: %s", number, error)
                number = ""
            await self._prune(rollout)
        return number or None

    async def back(self) -> str | None:
        """Let the version before serve again; None where that was refused."""
        async with self._rollout() as rollout:
            try:
                return (await rollout.rollback(self._model)).active
            except ModelRefused as error:
                log.warning("no rollback: %s", error)
                return None

    async def _prune(self, rollout: Rollout) -> None:
        """Unload versions made here that are not in force, and remove all but the newest from the disk."""
        try:
            gone = await rollout.retire(self._model, self.made)
        except (ModelRefused, Unavailable) as error:
            log.warning("old versions stay for now: %s", error)
            return
        for version in sorted(gone, key=order)[: -self._keep]:
            shutil.rmtree(self._folder / version, ignore_errors=True)
            self.made.remove(version)


def _measured(figures: Figures, data: str) -> list[dict[str, object]]:
    return [
        msgspec.to_builtins(Measured(f"next item {name}, running", data, value))
        for name, value in (("HR@20", figures.hr), ("MRR@20", figures.mrr))
    ]
