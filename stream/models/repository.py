"""The model repository on disk: MODEL/VERSION/, written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.core.versions import order
from stream.errors import ModelRefused

DEFAULT = Path(__file__).parents[2] / "model_repository"


def models(repository: Path) -> list[str]:
    """The models of a repository, by name."""
    return sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))


def versions(repository: Path, model: str) -> list[str]:
    """The versions of a model, lowest first."""
    found = (path.name for path in (repository / model).glob("*") if path.name.isdigit() and path.is_dir())
    return sorted(found, key=order)


def version_folder(repository: Path, model: str, version: str) -> Path:
    """Return where a version lies.

    Raises:
        ModelRefused: there is no such model or version; says which there are.
    """
    if model not in models(repository):
        raise ModelRefused(
            f"{repository} has no model {model}; it has: {', '.join(models(repository)) or 'none'}"
        )
    folder = repository / model / version
    if version not in versions(repository, model):
        there = ", ".join(versions(repository, model)) or "none"
        raise ModelRefused(f"{repository / model} has no version {version}; it has: {there}")
    return folder


@contextmanager
def new_version(model: Path, version: str) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes MODEL/VERSION when the block ends well.

    It is renamed into place, so that a server which looks meanwhile sees all of it or nothing.

    Raises:
        ModelRefused: that version is there already. Numbers are not used twice: caches go by them.
    """
    place = model / version
    if not version.isdigit() or int(version) < 1:
        raise ModelRefused(f"a version is a whole number from 1, got {version!r}")
    if place.exists():
        raise ModelRefused(f"{place} exists: give the next number, versions are never written over")
    model.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".making-{version}-", dir=model))
    try:
        yield making
        making.chmod(0o755)
        making.rename(place)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
