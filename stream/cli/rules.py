"""`streamrec rules`: what a shop demands of its lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.config import load_config

if TYPE_CHECKING:
    from stream.core.rules import AnyRule

app = typer.Typer(
    help="Rules for lists: exclude, pin, boost, bury, cap, and more; in force within a second.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

RuleFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="TOML, or JSON where the name ends in .json; - reads JSON from stdin."
    ),
]
STDIN = "-"


@app.command()
def put(file: RuleFile, config: ConfigFile = None, json: Json = False) -> None:
    """Put rules in force; one with the id of an earlier rule takes its place.

    Nothing is put where any rule of the file is wrong.

    \b
    Examples:
      streamrec rules put spring.toml
      echo '{"id": "no-toys", "kind": "exclude", "where": {"categories": ["Toys"]}}' | streamrec rules put -
    """
    from stream.adapters.rule_records import write_records

    rules = _read(file)
    settings = load_config(config)
    run(write_records(settings, rules))
    if json:
        print_json({"put": [rule.id for rule in rules]})
    else:
        say(f"put {len(rules)} on {settings.topics.rules}: {', '.join(rule.id for rule in rules) or 'none'}")


@app.command("list")
def list_rules(config: ConfigFile = None, json: Json = False) -> None:
    """Show the rules that workers go by: those of rules.file, and over them those that were put.

    \b
    Examples:
      streamrec rules list
      streamrec rules list --json
    """
    from stream.adapters.rule_files import read_rules
    from stream.adapters.rule_records import read_records

    settings = load_config(config)
    put_rules, wrong = run(read_records(settings))
    found = {rule.id: (rule, f"file {settings.rules.file}") for rule in read_rules(settings.rules.file)}
    found |= {rule.id: (rule, f"topic {settings.topics.rules}") for rule in put_rules}
    shown = [{**_shown(rule), "from": origin} for _, (rule, origin) in sorted(found.items())]
    for sentence in wrong:
        say(f"skipped by workers: {sentence}")
    if json:
        print_json(shown)
        return
    for rule in shown:
        print(_line(rule))
    if not shown:
        say("no rules")


@app.command()
def remove(
    rule_id: Annotated[str, typer.Argument(metavar="ID", help="The rule.")],
    config: ConfigFile = None,
) -> None:
    """Take a rule that was put out of force; one of rules.file with the same id holds again.

    \b
    Example:
      streamrec rules remove no-toys
    """
    from stream.adapters.rule_records import remove_record

    settings = load_config(config)
    if not run(remove_record(settings, rule_id)):
        raise typer.BadParameter(
            f"{rule_id}: no such rule on {settings.topics.rules}; `streamrec rules list` shows them, "
            "and a rule of rules.file goes with its lines there",
            param_hint="ID",
        )
    say(f"removed {rule_id}")


@app.command()
def check(file: RuleFile, json: Json = False) -> None:
    """Say whether the rules of a file can be read, and how they are understood; sends nothing.

    \b
    Examples:
      streamrec rules check spring.toml
      streamrec rules check spring.toml --json
    """
    shown = [_shown(rule) for rule in _read(file)]
    if json:
        print_json(shown)
        return
    for rule in shown:
        print(_line(rule))
    say(f"{len(shown)} rules, all can be read")


def _read(file: str) -> list[AnyRule]:
    """The rules of a file or of stdin."""
    from stream.adapters.rule_files import read_rules
    from stream.core.rules.reading import read_json

    if file == STDIN:
        return read_json(typer.get_binary_stream("stdin").read(), "stdin")
    if not Path(file).is_file():
        raise typer.BadParameter(f"{file}: no such file", param_hint="FILE")
    return read_rules(file)


def _shown(rule: AnyRule) -> dict[str, Any]:
    from stream.core.rules.reading import shown

    return shown(rule)


def _line(rule: dict[str, Any]) -> str:
    """A rule as one line: id and kind, then everything else that was said."""
    more = (f"{name}={value}" for name, value in rule.items() if name not in ("id", "kind"))
    return f"{rule['id']}: {rule['kind']} {' '.join(more)}".rstrip()
