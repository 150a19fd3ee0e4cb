"""Things that are fetched or built once and then shared by every stack of a user.

A thing is built under a temporary name and renamed into place, so an interrupted build leaves
nothing that looks whole; a lock lets two stacks that need the same thing build it once.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.local.fetching import Fetching


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/streamrec`, or `~/.cache/streamrec`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamrec"


def key(*parts: object) -> str:
    """Return a short stable name for what a cached thing is made from."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def built(path: Path, build: Callable[[Path], None], fetching: Fetching) -> Path:
    """Return `path`, after having `build` fill it if it is not there yet.

    Args:
        path: the folder to have; its name must change whenever its content would.
        build: fills the folder it is given, or raises; that folder then becomes `path`.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock"), meanwhile=fetching.go_on):
        if path.exists():
            return path
        for interrupted in path.parent.glob(f"{path.name}.partial-*"):
            shutil.rmtree(interrupted, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial-", dir=path.parent))
        try:
            build(partial)
            partial.chmod(0o755)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return path


@contextmanager
def locked(path: Path, meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; it ends with the process at the latest.

    Args:
        meanwhile: called again and again while somebody else holds it, and may raise.

    Raises:
        BlockingIOError: somebody else holds it, and there is nothing to do meanwhile.
    """
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if meanwhile is None:
                    raise
                meanwhile()
                time.sleep(0.05)
        yield
