"""`MANIFEST.json` and `MODEL_CARD.md`, which lie beside a version's files; see `stream.models.manifest`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from model_factory import canaries
from stream.models.manifest import CARD, NAME, save, sha256

__all__ = ["CARD", "NAME", "sha256", "update", "write"]


def write(folder: Path, files: Iterable[str], packages: Iterable[str], **said: Any) -> None:
    """Write the manifest and the card of a version, with the hash of every file that lies there.

    A few requests are put to the model, and its answers recorded: what it must answer where it serves.

    Args:
        folder: of one version of the model.
        files: names that must be among its files.
        packages: whose versions are recorded as what made the files.
        said: `model`, `version` (else the folders' names), `origin`, `licence`, `made`, `data_sha256`,
            `parameters`, `figures`, `measured`, as JSON values.

    Raises:
        FileNotFoundError: one of `files` is missing.
    """
    for name in files:
        (folder / name).stat()
    model = said.get("model") or folder.parent.name
    made = canaries.record(model, folder)
    save(
        folder,
        {
            **said,
            "model": model,
            "version": said.get("version") or folder.name,
            "commit": _commit(),
            "made_with": {package: version(package) for package in packages},
            **({"canary": msgspec.to_builtins(made)} if made else {}),
        },
    )


def update(folder: Path, **said: Any) -> None:
    """Change what a manifest says, hash the files anew, and write the card anew."""
    save(folder, {**json.loads((folder / NAME).read_text()), **said})


def _commit() -> str:
    """The commit of the code, with "+" where it was changed since; "" outside of a checkout."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
