"""From a shop's files to an encoder that can be served, in one command; the command `make encoder`.

OUTPUT/data/      of `prepare`
OUTPUT/teachers/  of `fetch-teachers`
OUTPUT/targets/   of `distil --align --only-vectors`
OUTPUT/start/, nearer/, last/   of `train encoder`, each from the one before
OUTPUT/version/   of `export encoder`
OUTPUT/steps.json seconds of each step
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from model_factory import manifest, served
from model_factory.compression import distil, export, teachers
from model_factory.compression.graph import Precision
from model_factory.preparation import command
from model_factory.training import encoder, runs
from model_factory.training.recipe import EncoderRecipe, read


class Stage(NamedTuple):
    """One of the trainings."""

    name: str
    recipe: str
    share: float
    """Of the minutes."""


STAGES = (
    Stage("start", "encoder", 8 / 126),
    Stage("nearer", "encoder_finish", 40 / 126),
    Stage("last", "encoder_last", 78 / 126),
)
FIRST_COUNTS_TWICE = "2,1,1"
"""What the published encoder and the two fetched teachers count."""


def make_encoder(
    data: Annotated[
        Path, typer.Argument(help="Folder in the layout that `prepare --data` reads.", exists=True)
    ],
    output: Annotated[Path, typer.Argument(help="Folder of all that is made; version/ is the result.")],
    minutes: Annotated[float, typer.Option(help="Of training, in all.", min=0.01)] = 42.0,
    threads: Annotated[int, typer.Option(help="Threads of teachers and training.", min=1)] = 2,
    given: Annotated[
        list[Path],
        typer.Option(
            "--teacher", help="Folder of a teacher, repeatable; else the published encoder and two fetched."
        ),
    ] = [],  # noqa: B006 - typer's way
    weights: Annotated[
        str | None, typer.Option(help="What each given teacher counts, as in 2,1,1; else all the same.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Hugging Face folder to start from; else the published MiniLM.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="int8 for a CPU, fp16 for a GPU.")] = "int8",
    changes: Annotated[
        list[str], typer.Option("--set", help="A value of the recipes of all three trainings.")
    ] = [],  # noqa: B006 - typer's way
) -> None:
    """Make the encoder that ships out of a shop's files: prepare, learn from teachers and offers, export.

    Example: model-factory make encoder ../shared/data made

    The same command goes on with an interrupted one, and leaves out what is done. With the 42 minutes of
    training that are the default it ends within 90 minutes on two cores, shared ones too.
    Serve the result: cp -r made/version model_repository/encoder/NUMBER, record its figures, then promote it.
    """
    runs.require_train_extra("torch", "transformers", "tensorboard", "matplotlib", "pyarrow", "onnx", "jgo")
    targets = output / "targets" / distil.TARGETS
    shared = [f"objectives.distil.vectors={targets}", f"machine.threads={threads}", *changes]
    recipes = [
        read(stage.recipe, EncoderRecipe, [*shared, f"budget.minutes={stage.share * minutes}", *start])
        for stage, start in zip(STAGES, _starts(output, base), strict=True)
    ]
    products = data / command.LAYOUT["products"]
    if not products.is_file():
        raise typer.BadParameter(f"{data} holds no {command.LAYOUT['products']}, whose texts are compared.")
    prepared, fetched = output / "data", output / "teachers"
    steps = Steps(output)
    steps.take("prepare", prepared / "data.json", lambda: command.prepare(prepared, data))
    if not given:
        names = list(teachers.PUBLISHED)
        last = fetched / names[-1] / "teacher.json"
        steps.take("fetch-teachers", last, lambda: teachers.fetch_teachers(fetched, names))
    teaching = given or [served.PUBLISHED_ENCODER, *(fetched / name for name in teachers.PUBLISHED)]
    steps.take(
        "distil",
        targets,
        lambda: distil.distil(
            prepared,
            targets.parent,
            teaching,
            weights if given else FIRST_COUNTS_TWICE,
            align=True,
            only_vectors=True,
            kinds=["product", "offer"],
            threads=threads,
        ),
    )
    for stage, recipe in zip(STAGES, recipes, strict=True):
        run = output / stage.name
        steps.take(
            f"train {stage.name}",
            run / "model" / "training.json",
            lambda run=run, recipe=recipe: encoder.train(prepared, run, recipe, resume=run.exists()),
        )
    version = output / "version"
    steps.take(
        "export",
        version / manifest.NAME,
        lambda: export.export_encoder(
            products, model=output / STAGES[-1].name / "model", output=version, precision=precision
        ),
    )
    runs.console.print(f"wrote {version} in {steps.seconds() / 60:.1f} minutes")


class Steps:
    """What is done, and the seconds it took, in OUTPUT/steps.json."""

    def __init__(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._file = output / "steps.json"
        self._took: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def take(self, name: str, result: Path, do: Callable[[], object]) -> None:
        """Do a step unless its result is there; the seconds are those of the call that ended it."""
        if result.exists():
            runs.console.print(f"{name}: {result} is there already")
            return
        runs.console.rule(name)
        began_s = time.monotonic()
        do()
        self._took[name] = round(time.monotonic() - began_s, 1)
        runs.write_atomically(self._file, (json.dumps(self._took, indent=2) + "\n").encode())

    def seconds(self) -> float:
        """Return the sum."""
        return sum(self._took.values())


def _starts(output: Path, base: Path | None) -> list[list[str]]:
    """Return what each training starts from, as a change of its recipe."""
    before = [output / stage.name / "model" for stage in STAGES[:-1]]
    return [[f"model.base={base}"] if base else [], *([f"model.base={folder}"] for folder in before)]
