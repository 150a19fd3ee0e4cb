"""Fetch pinned jars from Maven Central: `python -m stream.local.jars LOCK FOLDER`.

A process of its own, so that it can be ended at any moment; it prints one line for each jar.
"""

import hashlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def fetch(lock: Path, folder: Path) -> None:
    """Fetch every jar that `lock` names into `folder`.

    Args:
        lock: lines of `group:artifact:version sha256`.

    Raises:
        SystemExit: jgo is missing, or a jar could not be fetched or is not the pinned one; says so.
    """
    try:
        from jgo.maven import MavenContext
    except ImportError:
        raise SystemExit("jgo is not installed: `pip install 'streamrec[local]'` installs it") from None
    maven = MavenContext(repo_cache=folder / "maven")

    def fetch_one(line: str) -> None:
        coordinates, sha256 = line.split()
        group, artifact, version = coordinates.split(":")
        try:
            jar = maven.project(group, artifact).at_version(version).artifact().resolve()
        except Exception as error:  # whatever jgo and its HTTP client raise
            raise SystemExit(f"{coordinates} could not be fetched: {error}") from error
        if hashlib.sha256(jar.read_bytes()).hexdigest() != sha256:
            raise SystemExit(f"{coordinates} is not the pinned file: its sha256 differs")
        jar.rename(folder / jar.name)
        print(artifact, flush=True)

    with ThreadPoolExecutor(8) as threads:
        done = threads.map(fetch_one, lock.read_text().splitlines())
        try:
            list(done)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    shutil.rmtree(folder / "maven")


if __name__ == "__main__":
    fetch(Path(sys.argv[1]), Path(sys.argv[2]))
