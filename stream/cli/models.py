"""`streamrec models`: which versions serve, and letting another one take over under live traffic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.models.rollout import Outcome

app = typer.Typer(
    help="See which versions of the models serve, and let another take over under live traffic.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="encoder, reranker or cross_encoder.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="The number of its folder.")]
Repository = Annotated[
    Path | None,
    typer.Option(
        "--repository",
        metavar="DIR",
        help="The model repository that Triton reads; else the checkout's.",
        show_default=False,
        exists=True,
        file_okay=False,
    ),
]


@app.command("list")
def list_versions(repository: Repository = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the versions on disk, whether Triton has them loaded, and which serve.

    \b
    Examples:
      streamrec models list
      streamrec models list --json
    """
    from stream.models import manifest
    from stream.models.repository import models, versions

    settings, folder = load_config(config), _folder(repository)
    loaded, records, away = run(_known(settings))
    rows = []
    for model in sorted({*models(folder), *loaded, *records}):
        known = {*versions(folder, model), *loaded.get(model, {})}
        for version in sorted(known, key=lambda one: (len(one), one)):
            place = folder / model / version
            said = manifest.read(place) if (place / manifest.NAME).is_file() else None
            state = loaded.get(model, {}).get(version)
            rows.append(
                {
                    "model": model,
                    "version": version,
                    "on_disk": place.is_dir(),
                    "in_triton": state.state if state else None,
                    "why": state.reason if state else "",
                    "role": _role(records.get(model), version),
                    "measured": [
                        {"metric": one.metric, "value": one.value} for one in (said.measured if said else [])
                    ],
                }
            )
    for reason in away:
        say(reason)
    if json:
        print_json(rows)
        return
    print(f"{'model':<16}{'version':<9}{'role':<11}{'in triton':<13}{'on disk':<9}measured")
    for row in rows:
        figures = ", ".join(f"{one['metric']} {one['value']:.4f}" for one in row["measured"][:3])
        print(
            f"{row['model']:<16}{row['version']:<9}{row['role'] or '-':<11}{row['in_triton'] or '-':<13}"
            f"{'yes' if row['on_disk'] else 'no':<9}{figures}"
        )
    for row in rows:
        if row["why"]:
            print(f"{row['model']} {row['version']}: {row['why']}")


@app.command()
def show(model: Model, version: Version, repository: Repository = None, json: Json = False) -> None:
    """Show the model card of a version; with --json its manifest.

    \b
    Examples:
      streamrec models show encoder 1
      streamrec models show encoder 1 --json
    """
    import msgspec

    from stream.models import manifest
    from stream.models.repository import version_folder

    folder = version_folder(_folder(repository), model, version)
    said = manifest.read(folder)
    if json:
        print_json(msgspec.json.decode((folder / manifest.NAME).read_bytes()))
    else:
        print(manifest.card(model, version, said), end="")


@app.command()
def verify(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="All, if left out.")] = None,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="All, if left out.")] = None,
    repository: Repository = None,
    json: Json = False,
) -> None:
    """Compare the sha256 of every file with the manifests; exit code 1 where one differs, with its name.

    \b
    Examples:
      streamrec models verify
      streamrec models verify encoder 2
    """
    from stream.errors import ModelRefused
    from stream.models import manifest
    from stream.models.repository import models, version_folder, versions

    folder = _folder(repository)
    found = []
    for name in [model] if model else models(folder):
        if version is not None:
            version_folder(folder, name, version)
        for number in [version] if version else versions(folder, name):
            place = version_folder(folder, name, number)
            try:
                faults = manifest.faults(place)
            except ModelRefused as error:
                faults = [str(error)]
            found.append({"model": name, "version": number, "faults": faults})
    if json:
        print_json(found)
    else:
        for one in found:
            print(f"{one['model']} {one['version']}: {'not as in its manifest' if one['faults'] else 'ok'}")
            for fault in one["faults"]:
                print(f"  {fault}")
    if any(one["faults"] for one in found):
        raise typer.Exit(1)


@app.command()
def load(
    model: Model,
    version: Version,
    repository: Repository = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Load a version into Triton beside the one that serves, and put it to the test. It serves nobody yet.

    \b
    Examples:
      streamrec models load encoder 2
    """
    from stream.models.rollout import open_rollout

    async def work() -> None:
        async with open_rollout(load_config(config), _folder(repository), say) as rollout:
            await rollout.load(model, version)

    run(work())
    if json:
        print_json({"model": model, "loaded": version})
    else:
        print(
            f"version {version} of {model} is loaded; "
            f"`streamrec models promote {model} {version}` lets it serve"
        )


@app.command()
def promote(
    model: Model,
    version: Version,
    margin: Annotated[
        float, typer.Option(help="How much worse than the active version a figure may be.", min=0.0)
    ] = 0.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds that the workers may take to encode all items.", min=1.0)
    ] = 3600.0,
    force: Annotated[
        str,
        typer.Option(metavar="REASON", help="Overrule the gate; the reason is recorded.", show_default=False),
    ] = "",
    repository: Repository = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let a version take over under live traffic; whatever fails, the old one goes on.

    Its files must be those of its manifest, its figures not worse than the active version's by more than
    the margin (measured on the same data), and its answers those that the manifest records. An encoder
    takes over when every worker has a second index filled with its vectors. Exit code 1 where it is refused.

    \b
    Examples:
      streamrec models promote encoder 2
      streamrec models promote reranker 3 --margin 0.005
      streamrec models promote encoder 2 --force "half the size; agreed on by search and shop"
    """
    from stream.cli.progress import progress_bar
    from stream.models.rollout import open_rollout

    async def work(advance: Callable[[int, str], None]) -> Outcome:
        def filled(done: int, total: int) -> None:
            share = round(100 * done / total) if total else 100
            advance(share, f"{done:,} of {total:,} items")

        async with open_rollout(load_config(config), _folder(repository), say, filled) as rollout:
            return await rollout.promote(model, version, margin=margin, timeout_s=timeout, forced=force)

    with progress_bar(f"promoting {model} {version}", 100) as advance:
        outcome = run(work(advance))
    _print_outcome(outcome, json)


@app.command()
def rollback(
    model: Model, repository: Repository = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Let the version that served before take over again, at once.

    \b
    Examples:
      streamrec models rollback encoder
    """
    from stream.models.rollout import open_rollout

    async def work() -> Outcome:
        async with open_rollout(load_config(config), _folder(repository), say) as rollout:
            return await rollout.rollback(model)

    _print_outcome(run(work()), json)


def _folder(repository: Path | None) -> Path:
    from stream.models.repository import DEFAULT

    folder = repository or DEFAULT
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is missing: name the model repository with --repository")
    return folder


def _role(record: Any, version: str) -> str | None:
    for role in ("active", "candidate", "previous"):
        if record is not None and getattr(record, role) == version:
            return role
    return None


async def _known(config: Config) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What Triton has loaded, what the records say, and who did not answer."""
    from stream.adapters.model_records import read_records
    from stream.adapters.triton_repository import TritonRepository
    from stream.adapters.triton_servers import connect
    from stream.errors import Unavailable

    away = []
    loaded: dict[str, Any] = {}
    records: dict[str, Any] = {}
    servers = connect(config.triton)
    try:
        loaded = await TritonRepository(servers, config.triton).versions()
    except Unavailable as error:
        away.append(str(error))
    finally:
        await servers.close()
    try:
        records = await read_records(config)
    except Unavailable as error:
        away.append(str(error))
    return loaded, records, away


def _print_outcome(outcome: Outcome, json: bool) -> None:
    if json:
        print_json({**outcome._asdict(), "comparisons": [one._asdict() for one in outcome.comparisons]})
        return
    print(
        f"version {outcome.active} of {outcome.model} serves, {len(outcome.workers)} workers use it; "
        f"`streamrec models rollback {outcome.model}` goes back to version {outcome.previous}"
    )
