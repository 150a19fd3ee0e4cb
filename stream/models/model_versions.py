"""Which versions of the models serve, as this worker knows it from the topic `model-versions`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from stream.core import versions
from stream.core.versions import Serving
from stream.errors import InvalidMessage

log = logging.getLogger(__name__)


class ModelVersions:
    """The newest record of each model.

    Args:
        changed: is given each model whose record changed, and the record.
        skipped: is told of each record that this release cannot read.
    """

    def __init__(
        self, changed: Callable[[str, Serving], None], skipped: Callable[[], None] = lambda: None
    ) -> None:
        self._changed = changed
        self._skipped = skipped
        self._records: dict[str, Serving] = {}

    def __contains__(self, model: str) -> bool:
        return model in self._records

    def active(self, model: str) -> str:
        """The version that makes the lists, "" where nobody said which."""
        return self._records[model].active if model in self._records else ""

    def at_ms(self, model: str) -> int:
        """When the record in force was made, in epoch ms; 0 where there is none."""
        return self._records[model].at_ms if model in self._records else 0

    def apply(self, changes: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Take in what lay on the topic; a damaged record leaves the one before it in force."""
        for key, value in changes:
            if key is None or value is None:
                continue
            try:
                self.take(key.decode(), versions.decode(value))
            except (InvalidMessage, UnicodeDecodeError) as error:
                log.warning("a record of model versions is skipped: %s", error)
                self._skipped()

    def take(self, model: str, serving: Serving) -> None:
        """Take in one record."""
        if self._records.get(model) != serving:
            self._records[model] = serving
            self._changed(model, serving)
