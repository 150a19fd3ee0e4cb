"""`MANIFEST.json` beside a version's files: their hashes, where they come from, how good they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from stream.errors import ModelRefused

NAME = "MANIFEST.json"
CARD = "MODEL_CARD.md"


class File(msgspec.Struct, frozen=True):
    """One file of a version."""

    bytes: int
    sha256: str


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure by which versions are compared: only the same metric on the same data says anything."""

    metric: str
    data: str
    """Names the data beyond doubt: a hash of it, or of the files and the split."""
    value: float
    interval: tuple[float, float] | None = None
    """95 %, where there is one."""
    higher_is_better: bool = True


class Canary(msgspec.Struct, frozen=True):
    """Requests with what the version answered when it was made.

    `inputs` are data types of Triton by name. Each request holds values by input, without the batch; each
    answer the numbers of `output`, flat. `compare` is how near they must be: a cosine of at least `limit`,
    or no number further off than `limit`.
    """

    inputs: dict[str, str]
    output: str
    requests: list[dict[str, list[Any]]]
    answers: list[list[float]]
    compare: Literal["cosine", "difference"]
    limit: float


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said of one version. `figures` are for people, `measured` for the gate."""

    files: dict[str, File]
    model: str = ""
    task: str = ""
    origin: Any = None
    """What it was made from: a published model, another version, nothing."""
    licence: str = ""
    made: str = ""
    """The command, and what is special."""
    data_sha256: str | None = None
    """Of the prepared data it learnt from, where it learnt."""
    training: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    measured: list[Measured] = []
    rivals: dict[str, list[Measured]] = {}
    """What other versions measured on the same data, by version: the gate goes by it where it is said."""
    figures: Any = None
    canary: Canary | None = None
    commit: str = ""
    """Of the code that made it."""
    made_with: dict[str, str] = {}


def read(folder: Path) -> Manifest:
    """Read the manifest of a version's folder.

    Raises:
        ModelRefused: there is none, or it is damaged.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ModelRefused(f"{path} is missing: `model-factory export` writes it with the files") from None
    except msgspec.DecodeError as error:
        raise ModelRefused(f"{path} is damaged: {error}") from None


def faults(folder: Path) -> list[str]:
    """What differs between a version's files and its manifest, as sentences; none where all is well.

    Raises as `read`.
    """
    said = read(folder).files
    found = [f"{folder / name} is missing" for name in said if not (folder / name).is_file()]
    for name, file in said.items():
        path = folder / name
        if path.is_file() and (digest := sha256(path)) != file.sha256:
            found.append(f"{path} has the sha256 {digest[:12]}…, its manifest says {file.sha256[:12]}…")
    found += [f"{path} is not in the manifest" for path in content(folder) if path.name not in said]
    return found


def save(folder: Path, said: dict[str, Any]) -> None:
    """Write the manifest of a version, with the hash of every file that lies there, and its card.

    Args:
        said: all that a manifest says but its `files`, as JSON values, with `model` and `version`.
    """
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in content(folder)}
    text = json.dumps({**said, "files": files}, indent=2, ensure_ascii=False)
    (folder / NAME).write_text(_numbers_in_lines(text) + "\n")
    (folder / CARD).write_text(card(said["model"], str(said["version"]), read(folder)))


def _numbers_in_lines(text: str) -> str:
    """Put the numbers of a list, which a canary has hundreds of, beside each other."""
    lines: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if lines and bare.rstrip(",").lstrip("-").replace(".", "").replace("e-", "").isdigit():
            lines[-1] += ("" if lines[-1].endswith("[") else " ") + bare
        elif lines and bare in ("]", "],") and lines[-1][-1].isdigit():
            lines[-1] += bare
        else:
            lines.append(line)
    return "\n".join(lines)


def verify(folder: Path) -> None:
    """Refuse a version whose files are not those of its manifest.

    Raises:
        ModelRefused: names each file, and the cure.
    """
    found = faults(folder)
    if found:
        raise ModelRefused(
            "\n".join(found)
            + f"\nnothing of {folder} may serve: copy it again, or export it as a new version"
        )


def content(folder: Path) -> list[Path]:
    """The files of a version that a manifest speaks of, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name not in (NAME, CARD))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def card(model: str, version: str, said: Manifest) -> str:
    """Write the model card of a version: its manifest, for people."""
    lines = [f"# {model}, version {version}", ""]
    if said.task:
        lines += [f"{said.task[0].upper()}{said.task[1:]}.", ""]
    lines += ["| | |", "| --- | --- |"]
    for name, value in (
        ("made from", said.origin),
        ("licence", said.licence),
        ("made by", said.made),
        ("data", said.data_sha256),
        ("code", said.commit),
        ("packages", ", ".join(f"{package} {number}" for package, number in said.made_with.items())),
    ):
        if value:
            lines.append(f"| {name} | {_cell(value)} |")
    for title, values in (("Parameters", said.parameters), ("Training", said.training)):
        if values:
            lines += ["", f"## {title}", "", "| parameter | value |", "| --- | --- |"]
            lines += [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    if said.measured:
        lines += ["", "## Measured", "", "| metric | value | 95 % | data |", "| --- | --- | --- | --- |"]
        for one in said.measured:
            interval = f"{one.interval[0]:.4f} to {one.interval[1]:.4f}" if one.interval else ""
            lines.append(f"| {_cell(one.metric)} | {one.value:.4f} | {interval} | {_cell(one.data)} |")
    lines += ["", "## Files", "", "| file | bytes | sha256 |", "| --- | --- | --- |"]
    lines += [f"| {name} | {file.bytes:,} | `{file.sha256}` |" for name, file in said.files.items()]
    if said.figures is not None:
        shown = msgspec.json.format(msgspec.json.encode(said.figures), indent=2).decode()
        lines += ["", "## Figures", "", "```json", shown, "```"]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text.replace("|", "\\|").replace("\n", " ")
