"""Bring the models of the image into the folder that Triton serves, then become the command that follows.

Usage: seed_models.py FROM TO COMMAND...

The folder is a volume, so that versions can be added under a running server. What the image brings it may
replace: configurations, code, and versions that an image brought before. A version that somebody added stays,
and where the image brings another one of the same number, nothing is changed and the server does not start.
Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

SEEDED = ".seeded.json"
"""Beside the models: which versions an image brought, with what their manifests were."""


def main() -> None:
    """Seed, then run the command in place of this program."""
    source, target, *command = sys.argv[1:]
    try:
        seed(Path(source), Path(target))
    except (OSError, FileExistsError) as error:
        sys.exit(f"seed_models.py: {error}")
    os.execvp(command[0], command)


def seed(source: Path, target: Path) -> None:
    """Bring the models of one folder into another; each version, and each file, is there whole or not at all.

    Raises:
        FileExistsError: a version that was added has the number of one that is brought, and is another.
    """
    note = target / SEEDED
    before: dict[str, str] = json.loads(note.read_text()) if note.exists() else {}
    brought = {
        f"{version.parent.name}/{version.name}": (version / "MANIFEST.json").read_text()
        for version in source.glob("*/[0-9]*")
    }
    for name, said in brought.items():
        there = target / name / "MANIFEST.json"
        if there.exists() and there.read_text() not in (said, before.get(name)):
            raise FileExistsError(
                f"{target / name} was added, and this image brings another version {name}: give the added "
                "one a higher number, and promote it again"
            )
    for config in source.glob("*/config.pbtxt"):
        for path in config.parent.iterdir():
            _place(path, target / config.parent.name / path.name)
    note.write_text(json.dumps({**before, **brought}))


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".seeding-", dir=target.parent) as folder:
        made = Path(folder) / target.name
        if source.is_dir():
            shutil.copytree(source, made)
            if target.exists():
                target.rename(Path(folder) / "before")
        else:
            shutil.copy(source, made)
        made.rename(target)


if __name__ == "__main__":
    main()
