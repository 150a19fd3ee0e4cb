"""The command line: one module for each group of commands, put together in `root`."""

from stream.cli.root import app, main

__all__ = ["app", "main"]
