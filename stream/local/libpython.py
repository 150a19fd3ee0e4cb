"""Find the shared libpython that Triton's Python stub is linked against."""

import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

from stream.errors import LocalStackError
from stream.local import cache
from stream.local.fetching import Fetching

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NAME = f"libpython{PYTHON}.so.1.0"


def find_libpython(fetching: Fetching) -> Path:
    """Return the libpython of the running Python's version.

    Looked for beside the running Python, then where the system's loader looks; if there is none,
    Debian's package is unpacked into the cache, which needs no root.

    Raises:
        LocalStackError: it is nowhere; names the command that installs it.
    """
    for folder in _folders():
        if (folder / NAME).exists():
            return folder / NAME
    place = cache.cache_folder() / f"libpython-{PYTHON}-{platform.machine()}"
    with suppress(LocalStackError):
        cache.built(place, lambda folder: _unpack(folder, fetching), fetching)
        return place / NAME
    fetching.go_on()
    raise LocalStackError(
        f"Triton's Python backend needs {NAME}, which this system lacks. Install it with "
        f"`sudo apt-get update && sudo apt-get install libpython{PYTHON}`."
    )


def _folders() -> list[Path]:
    """Return where a libpython may lie, the running Python's own places first."""
    folders = []
    with suppress(TypeError):
        folders.append(Path(sysconfig.get_config_var("LIBDIR")))
        folders.append(folders[0] / (sysconfig.get_config_var("MULTIARCH") or ""))
    folders.append(Path(sys.base_prefix) / "lib")
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if ldconfig:
        with suppress(OSError, subprocess.TimeoutExpired):
            known = subprocess.run(
                [ldconfig, "-p"], capture_output=True, text=True, timeout=10, check=False
            ).stdout
            folders += [
                Path(found).parent
                for found in re.findall(rf"^\s*{re.escape(NAME)} .*=> (.+)$", known, re.MULTILINE)
            ]
    return folders


def _unpack(folder: Path, fetching: Fetching) -> None:
    """Download Debian's or Ubuntu's package of libpython and take the library out of it."""
    failed = f"The package of {NAME} could not be fetched"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise LocalStackError(f"{failed}: there is no apt-get")
    with fetching.step(f"libpython {PYTHON}") as step, tempfile.TemporaryDirectory(dir=folder) as scratch:
        for package in (f"libpython{PYTHON}", f"libpython{PYTHON}t64"):
            with suppress(LocalStackError):
                fetching.run(["apt-get", "download", package], failed=failed, step=step, cwd=Path(scratch))
                break
        for archive in Path(scratch).glob("*.deb"):
            fetching.run(["dpkg-deb", "--extract", str(archive), scratch], failed=failed, step=step)
        found = next((path for path in Path(scratch).rglob(NAME) if path.is_file()), None)
        if found is None:
            raise LocalStackError(f"{failed}: it does not hold the library")
        shutil.copyfile(found, folder / NAME)
