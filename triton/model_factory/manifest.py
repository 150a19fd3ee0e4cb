"""`MANIFEST.json`, which lies beside a model's files and says where they come from and what they can do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

NAME = "MANIFEST.json"


def write(folder: Path, files: Iterable[str], packages: Iterable[str], **said: Any) -> None:
    """Write the manifest of a model.

    Args:
        folder: of one version of the model.
        files: names in it whose size and sha256 are recorded.
        packages: whose versions are recorded as what made the files.
        said: `origin`, `licence`, `made`, `figures`, as JSON values.
    """
    manifest: Mapping[str, Any] = {
        **said,
        "made_with": {package: version(package) for package in packages},
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in files
        },
    }
    (folder / NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
