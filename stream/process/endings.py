"""How a worker ends: its exit codes, which tell whoever started it what to do next."""

from __future__ import annotations

from enum import IntEnum


class Ending(IntEnum):
    """An exit code of `streamrec worker`."""

    DRAINED = 0
    """Told to stop, and all that was begun is finished and committed."""
    CUT_SHORT = 1
    """Told to stop, and not drained in time: what was not committed will be delivered again."""
    NO_PORT = 2
    """The port of the status server is taken."""
    GAVE_UP = 3
    """Faust gave up: start it again."""
    FORGOTTEN = 4
    """Redis came back older or empty, or a topic was made anew: start it again to fold what is missing."""


START_AGAIN = (Ending.GAVE_UP, Ending.FORGOTTEN)
