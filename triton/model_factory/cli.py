"""The command line `model-factory`: makes and measures the model files that Triton serves."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: many small products, not few large ones

import typer

from model_factory import reranker
from model_factory.compression import export as model_export
from model_factory.evaluation import pairs as pairs_evaluation
from model_factory.evaluation import search as search_evaluation
from model_factory.preparation import command

app = typer.Typer(
    name="model-factory",
    help="Make and measure the models of model_repository/.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("prepare")(command.prepare)

export = typer.Typer(help="Turn published weights into what Triton serves.", no_args_is_help=True)
export.command("encoder")(model_export.export_encoder)
app.add_typer(export, name="export")

evaluate = typer.Typer(help="Measure what serves against human judgements.", no_args_is_help=True)
evaluate.command("search")(search_evaluation.evaluate_search)
evaluate.command("pairs")(pairs_evaluation.evaluate_pairs)
evaluate.command("reranker")(reranker.evaluate_reranker)
app.add_typer(evaluate, name="evaluate")

train = typer.Typer(help="Learn weights from data.", no_args_is_help=True)
train.command("reranker")(reranker.train_reranker)
app.add_typer(train, name="train")


def main() -> None:
    """Run the command line."""
    app()
