"""The command line. Each module of this package is one group of commands and loads its libraries when run."""

from __future__ import annotations

import sys

import typer

from stream.cli import (
    catalog,
    configuration,
    dead_letters,
    evaluate,
    evaluate_compare,
    evaluate_diversity,
    evaluate_fidelity,
    evaluate_off_policy,
    evaluate_release,
    explain,
    local,
    models,
    plan,
    privacy,
    publish,
    rebuild,
    replay,
    report,
    rules,
    schema,
    top,
    topics,
    trainer,
    user,
    watch,
    worker,
)
from stream.errors import StreamrecError

app = typer.Typer(
    name="streamrec",
    help="Streaming real-time recommendations: clicks and searches in, refreshed lists out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(local.app, name="local")
app.add_typer(topics.app, name="topics")
app.command("schema")(schema.write_schema)
app.command("worker")(worker.run)
app.add_typer(catalog.app, name="catalog")
app.command("publish")(publish.publish)
app.command("watch")(watch.watch)
app.command("top")(top.top)
app.command("replay")(replay.replay)
app.command("report")(report.report)
app.add_typer(rules.app, name="rules")
app.add_typer(dead_letters.app, name="dead-letters")
app.command("explain")(explain.explain)
app.add_typer(user.app, name="user")
app.add_typer(privacy.app, name="privacy")
app.command("rebuild")(rebuild.rebuild)
app.add_typer(models.app, name="models")
app.add_typer(plan.app, name="plan")
evaluate.app.command("compare")(evaluate_compare.compare)
evaluate.app.command("diversity")(evaluate_diversity.diversity)
evaluate.app.command("off-policy")(evaluate_off_policy.off_policy)
evaluate.app.command("release")(evaluate_release.release)
evaluate.app.command("fidelity")(evaluate_fidelity.fidelity)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(trainer.app, name="trainer")
app.command("config")(configuration.show)


def main() -> None:
    """Run a command; a user's mistake is one message on stderr and exit code 1, or 2 for wrong usage."""
    try:
        app()
    except StreamrecError as error:
        print(f"streamrec: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
