"""Commands that run to their end while a stack is prepared: pip, apt, a Java tool."""

import subprocess
from collections import deque
from pathlib import Path

from stream.errors import LocalStackError
from stream.local.processes import die_with_parent
from stream.local.progress import Step


def run(
    argv: list[str],
    *,
    failed: str,
    step: Step,
    cwd: Path | None = None,
    end_at: str | None = None,
) -> None:
    """Run a command to its end, noting its output on `step`.

    Args:
        failed: what to say when it fails; its last lines are added.
        end_at: ask it to end (SIGTERM) once it prints this; its exit code then says nothing.

    Raises:
        LocalStackError: it could not be started or its exit code was not zero.
    """
    last: deque[str] = deque(maxlen=12)
    asked_to_end = False
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    except OSError as error:
        raise LocalStackError(f"{failed}: {argv[0]}: {error.strerror}") from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line := line.strip():
                    last.append(line)
                    step.note(line)
                    if end_at and end_at in line:
                        asked_to_end = True
                        process.terminate()
            process.wait()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 and not asked_to_end:
        lines = "\n".join(f"  {line}" for line in last)
        raise LocalStackError(f"{failed} (exit code {process.returncode}):\n{lines}")
