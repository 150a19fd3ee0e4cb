"""The command line `model-factory`: makes and measures the model files that Triton serves."""

from __future__ import annotations

import typer

from model_factory import encoder_export, search_evaluation

app = typer.Typer(
    name="model-factory",
    help="Make and measure the models of model_repository/.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

export = typer.Typer(help="Turn published weights into what Triton serves.", no_args_is_help=True)
export.command("encoder")(encoder_export.export_encoder)
app.add_typer(export, name="export")

evaluate = typer.Typer(help="Measure what serves against human judgements.", no_args_is_help=True)
evaluate.command("search")(search_evaluation.evaluate_search)
app.add_typer(evaluate, name="evaluate")


def main() -> None:
    """Run the command line."""
    app()
