"""Every error streamrec raises on purpose.

::

    StreamrecError
    ├── InvalidMessage        a message that can never be used; goes to the dead letters with its code
    ├── ConfigError           a setting that is wrong, with its place and the cure
    ├── TopicMismatch         a topic exists with a shape that would break co-partitioning
    ├── InvalidRule           a rule for lists that cannot be read, with its place and the cure
    ├── WrongFile             a file to import is not what the importer reads
    ├── DoesNotFit            a demand that no number of machines meets, with what is in the way
    ├── LocalStackError       Kafka, Redis or Triton on this machine could not be started or stopped
    ├── ModelRefused          a version of a model may not serve: wrong files, worse figures, wrong answers
    ├── ReleaseRefused        nothing is released of the shared signals: no budget, no period, or made already
    ├── TrainerRefused        a trainer cannot go on: its checkpoint, folder or versions are not its own
    └── Unavailable           a part did not answer; trying again later is right
        ├── StateUnavailable      Redis: consuming stops until it is back
        ├── ModelUnavailable      Triton: lists go on without it and say so
        ├── ModelBusy             somebody else is changing which versions of a model serve
        └── PublishUnavailable    Kafka: nothing is acknowledged until it is back
"""

from __future__ import annotations

import traceback

PACKAGE = __name__.partition(".")[0]


class StreamrecError(Exception):
    """The root of every error raised on purpose."""


class InvalidMessage(StreamrecError):
    """A message that can never be used.

    Args:
        code: a stable word for machines, one of `stream.core.events.ErrorCode`.
        message: names the field and the reason, for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ConfigError(StreamrecError):
    """A setting is wrong; the message says which, where it came from and what would be right."""


class TopicMismatch(StreamrecError):
    """A topic exists with a shape that would break co-partitioning; the message shows the difference."""


class InvalidRule(StreamrecError):
    """A rule for lists cannot be read; the message says which, what is wrong with it and the cure."""


class WrongFile(StreamrecError):
    """A file to import is not what the importer reads."""


class DoesNotFit(StreamrecError):
    """A demand that no number of machines meets; the message says what is in the way."""


class LocalStackError(StreamrecError):
    """Kafka, Redis or Triton on this machine could not be started or stopped."""


class ModelRefused(StreamrecError):
    """A version of a model may not serve; the message names cause and cure, and the old one goes on."""


class TrainerRefused(StreamrecError):
    """A trainer cannot begin or go on; the message names cause and cure."""


class ReleaseRefused(StreamrecError):
    """Nothing may be released of the shared signals now; the message names cause and cure."""


class Unavailable(StreamrecError):
    """A part did not answer; trying again later is right."""


class StateUnavailable(Unavailable):
    """Redis did not answer, so nothing can be folded or saved."""


class ModelUnavailable(Unavailable):
    """Triton did not answer in time; `reason` is a short stable word for metrics and `degraded`."""

    def __init__(self, model: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.model = model
        self.reason = reason


class ModelBusy(Unavailable):
    """Somebody else is changing which versions of a model serve; the message says who and since when."""


class PublishUnavailable(Unavailable):
    """The broker did not acknowledge what was sent."""


def place_of(error: BaseException) -> str:
    """Say where an error came from, as module:function:line: the last place in this package's own code.

    Nothing of the error's text is told: it may hold what shoppers sent.
    """
    places = [
        f"{module}:{frame.f_code.co_qualname}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (module := frame.f_globals.get("__name__", "")).partition(".")[0] == PACKAGE
    ]
    return places[-1] if places else "unknown"
