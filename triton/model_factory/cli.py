"""The command line `model-factory`: makes and measures the model files that Triton serves."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: many small products, not few large ones

import typer

from model_factory import gpu, making, record
from model_factory.compression import comparison as step_comparison
from model_factory.compression import cross_encoder_export, distil, prune, quantise, teachers
from model_factory.compression import export as model_export
from model_factory.evaluation import pairs as pairs_evaluation
from model_factory.evaluation import personal_search as personal_search_evaluation
from model_factory.evaluation import robustness as robustness_evaluation
from model_factory.evaluation import search as search_evaluation
from model_factory.evaluation import speed as speed_evaluation
from model_factory.preparation import command
from model_factory.training import comparison, search_params
from model_factory.training import cross_encoder as cross_encoder_training
from model_factory.training import encoder as encoder_training

app = typer.Typer(
    name="model-factory",
    help="Make and measure the models of model_repository/.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("prepare")(command.prepare)
app.command("search-params")(search_params.search_params)

app.command("fetch-teachers")(teachers.fetch_teachers)
app.command("distil")(distil.distil)
app.command("prune")(prune.prune)
app.command("quantise")(quantise.quantise)
app.command("compare")(step_comparison.compare)
app.command("gpu")(gpu.gpu)
app.command("record")(record.record)

make = typer.Typer(help="Go the whole way from data to a model.", no_args_is_help=True)
make.command("encoder")(making.make_encoder)
app.add_typer(make, name="make")

export = typer.Typer(help="Turn published weights into what Triton serves.", no_args_is_help=True)
export.command("encoder")(model_export.export_encoder)
export.command("cross-encoder")(cross_encoder_export.export_cross_encoder)
app.add_typer(export, name="export")

evaluate = typer.Typer(help="Measure what serves against human judgements.", no_args_is_help=True)
evaluate.command("search")(search_evaluation.evaluate_search)
evaluate.command("personal-search")(personal_search_evaluation.evaluate_personal_search)
evaluate.command("speed")(speed_evaluation.evaluate_speed)
evaluate.command("pairs")(pairs_evaluation.evaluate_pairs)
evaluate.command("robustness")(robustness_evaluation.evaluate_robustness)
app.add_typer(evaluate, name="evaluate")

train = typer.Typer(help="Learn weights from data.", no_args_is_help=True)
train.command("encoder")(encoder_training.train_encoder)
train.command("cross-encoder")(cross_encoder_training.train_cross_encoder)
train.command("methods")(comparison.compare_methods)
app.add_typer(train, name="train")


def main() -> None:
    """Run the command line."""
    app()
