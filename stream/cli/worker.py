"""`streamrec worker`: take events, make lists."""

from __future__ import annotations

import typer

from stream.cli.options import ConfigFile
from stream.config import load_config


def run(config: ConfigFile = None) -> None:
    """Take clicks and searches and publish lists until told to stop.

    SIGTERM and Ctrl-C drain what is being worked on and commit, within ten seconds. Metrics and health
    are served on telemetry.host and telemetry.port. Start as many workers as the topics have partitions,
    at most: they share the shoppers.

    \b
    Examples:
      streamrec worker
      STREAMREC_TELEMETRY__PORT=9465 streamrec worker --config streamrec.toml
    """
    settings = load_config(config)
    from stream.worker import run_worker

    raise typer.Exit(run_worker(settings))
