"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("streamrec"))
TIMEOUT_S = 300
WIDE = {"COLUMNS": "250"}
"""So that tables are not folded."""


def streamrec(
    *arguments: str, env: Mapping[str, str], stdin: str = "", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run `streamrec` with more variables; it has to end with the given code."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        input=stdin.encode(),
        capture_output=True,
        env={**os.environ, **WIDE, **env},
        timeout=TIMEOUT_S,
    )
    assert done.returncode == code, done.stderr.decode()
    return done
