"""`streamrec explain`: why an item is in a shopper's list, or why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, Json, print_json, run
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.lists.explaining import Explanation

FEATURES_SHOWN = 8
TIMEOUT_S = 60.0


def explain(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The shopper's id.")],
    item_id: Annotated[
        str | None, typer.Argument(metavar="[ITEM]", help="The product's id.", show_default=False)
    ] = None,
    why_not: Annotated[
        str | None,
        typer.Option("--why-not", metavar="ITEM", help="Say at which stage this product was lost."),
    ] = None,
    placement: Annotated[
        str | None, typer.Option("--placement", help="Of the list, where rules differ; else `home`.")
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option(
            "--worker",
            metavar="URL",
            help="Of a worker's status server; else telemetry.host and telemetry.port.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show why a product is in a shopper's list, or what kept it out.

    A running worker makes the shopper's list again from what is known now, without saving or publishing
    anything, and takes the product's score apart: what each feature, the search and each rule adds beside
    the mean candidate. It also tells what would have to change.

    \b
    Examples:
      streamrec explain shopper-0001 85048
      streamrec explain shopper-0001 --why-not 22111
      streamrec explain shopper-0001 85048 --json
    """
    if (item_id is None) == (why_not is None):
        raise typer.BadParameter("name one product: `streamrec explain USER ITEM`, or --why-not ITEM")
    found = run(_asked(load_config(config), worker, user_id, item_id or why_not or "", placement))
    if json:
        print_json(found)
        return
    print("\n".join(why_not_lines(found) if why_not is not None else lines(found)))


def lines(found: Explanation) -> list[str]:
    """An explanation as people read it."""
    said = why_not_lines(found)
    if found.reason:
        said.append(f"the shopper reads: {found.reason}  (source {found.source})")
        said.append(f"named by: {', '.join(found.sources) or 'nothing'}")
    if found.pinned_by:
        said.append(f"placed by the rule {found.pinned_by}")
    if found.explored:
        said.append(f"tried out: it had this place with probability {found.propensity:.3f}")
    if found.score is not None:
        parts = found.score.contributions
        said.append(
            f"score {found.score.score:.3f} = {found.score.mean_score:.3f} of the mean candidate, and "
            + ("exactly" if found.score.exact else "by walks through the model")
        )
        for part in parts[:FEATURES_SHOWN]:
            beside = (
                "" if part.value is None or part.mean is None else f"  {part.value:.3f}, mean {part.mean:.3f}"
            )
            said.append(f"  {part.by:+8.3f}  {part.name:<22}{beside}")
        rest = parts[FEATURES_SHOWN:]
        if rest:
            said.append(f"  {sum(part.by for part in rest):+8.3f}  {len(rest)} more")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found.model_versions.items()))
    said.append(f"models: {versions or 'none'}")
    if found.degraded:
        said.append(f"without: {', '.join(found.degraded)}")
    return said + [f"rules: {warning}" for warning in found.warnings]


def why_not_lines(found: Explanation) -> list[str]:
    """What became of an item, and what would have to change."""
    name = f"{found.item_id} {found.title}".strip()
    place = f", place {found.place}" if found.place else ""
    return [
        f"{name}  for {found.user_id}: {found.fate.said}{place}",
        f"what would have to change: {found.change.said}",
    ]


async def _asked(
    config: Config, worker: str | None, user_id: str, item_id: str, placement: str | None
) -> Explanation:
    import msgspec
    from aiohttp import ClientError, ClientSession, ClientTimeout

    from stream.errors import Unavailable
    from stream.lists.explaining import Explanation

    host = "127.0.0.1" if config.telemetry.host in ("0.0.0.0", "::") else config.telemetry.host
    url = (worker or f"http://{host}:{config.telemetry.port}").rstrip("/")
    asked = {"user": user_id, "item": item_id} | ({"placement": placement} if placement else {})
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=TIMEOUT_S)) as client,
            client.get(f"{url}/explain", params=asked) as answer,
        ):
            body = await answer.read()
            if answer.status != 200:
                raise Unavailable(
                    f"the worker at {url} does not answer: {body.decode(errors='replace').strip()}"
                )
            return msgspec.json.decode(body, type=Explanation)
    except (ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(
            f"no worker answers at {url} ({error or type(error).__name__}): start one with "
            "`streamrec worker` or `streamrec local up --workers 1`, or name another's status server "
            "with --worker"
        ) from None
