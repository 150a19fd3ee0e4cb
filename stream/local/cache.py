"""Things that are fetched or built once and then shared by every stack of a user.

A thing is built under a temporary name and renamed into place, so an interrupted build leaves
nothing that looks whole; a lock lets two stacks that need the same thing build it once.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/streamrec`, or `~/.cache/streamrec`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamrec"


def key(*parts: object) -> str:
    """Return a short stable name for what a cached thing is made from."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def built(path: Path, build: Callable[[Path], None]) -> Path:
    """Return `path`, after having `build` fill it if it is not there yet.

    Args:
        path: the folder to have; its name must change whenever its content would.
        build: fills the folder it is given, or raises; that folder then becomes `path`.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock")):
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
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; it ends with the process at the latest.

    Raises:
        BlockingIOError: somebody else holds it and `wait` is false.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
