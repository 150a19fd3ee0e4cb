"""Search for a recipe's values: grid, random or Bayesian (TPE), by Optuna; the command `search-params`."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from model_factory.training import cross_encoder, encoder, runs
from model_factory.training.cross_encoder import CrossEncoderRecipe
from model_factory.training.pairs import Corpus, data_hash
from model_factory.training.recipe import EncoderRecipe, RunRecipe, read, read_tables
from model_factory.training.validation import METRIC, Judge

STUDY = "search-params"
STARTUP_TRIALS = 4
"""Trials that are never pruned, so that there is a median to fall behind."""


class Searched(StrEnum):
    """What is trained again and again."""

    encoder = "encoder"
    cross_encoder = "cross-encoder"

    @property
    def shipped(self) -> str:
        """Return the name of its shipped recipe, and of the space of that."""
        return self.name

    def read(self, recipe: str, changes: list[str]) -> RunRecipe:
        """Read and check one of its recipes."""
        kinds: dict[Searched, type[RunRecipe]] = {
            Searched.encoder: EncoderRecipe,
            Searched.cross_encoder: CrossEncoderRecipe,
        }
        return read(recipe, kinds[self], changes)

    def trainer(self) -> Callable[..., dict[str, Any]]:
        """Return what trains it, and reads for all trials only once what they share."""
        if self is Searched.encoder:
            return partial(encoder.train, read_data=Shared())
        return cross_encoder.train


class Sampler(StrEnum):
    """How the next trial's values are chosen."""

    grid = "grid"
    random = "random"
    tpe = "tpe"


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values that one key of a recipe may take."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: list[Any] | None = None

    def __post_init__(self) -> None:
        bounds = (self.low, self.high)
        if (self.choices is None) == (None in bounds) and (self.choices is None or bounds != (None, None)):
            raise ValueError("give either choices, or low and high")
        if self.choices is not None and not self.choices:
            raise ValueError("choices are empty")
        if self.low is not None and self.high is not None:
            if self.low > self.high:
                raise ValueError("low is above high")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("log needs low above 0 and no step")

    def suggest(self, trial: Any, key: str) -> Any:
        """Let Optuna choose; a list among the choices is told as JSON text, since it stores no lists."""
        if self.choices is not None:
            return trial.suggest_categorical(key, self._told())
        if self._whole():
            return trial.suggest_int(
                key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log
            )  # type: ignore[arg-type]
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def grid(self, key: str) -> list[Any]:
        """Return all values, where they can be counted."""
        if self.choices is not None:
            return self._told()
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self._whole() else None)
        if step is None or self.log:
            raise typer.BadParameter(f"A grid cannot count {key}: give choices, or low, high and step.")
        values = itertools.takewhile(
            lambda value: value <= self.high + 1e-9 * step,  # type: ignore[operator]
            (self.low + step * number for number in itertools.count()),
        )
        return [value if self._whole() else round(value, 12) for value in values]

    def _whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def _told(self) -> list[Any]:
        assert self.choices is not None
        return [json.dumps(choice) if isinstance(choice, list) else choice for choice in self.choices]


def search_params(
    model: Annotated[Searched, typer.Argument(help="What is trained.")],
    data: Annotated[Path, typer.Option(help="Folder that `model-factory prepare` wrote.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder of the trials, the plots and best.json.")],
    recipe: Annotated[
        str | None, typer.Option(help="A TOML file, or the name of a shipped recipe; else the model's own.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="A TOML file of keys and their ranges, or the name of a shipped one; else its own."
        ),
    ] = None,
    sampler: Annotated[Sampler, typer.Option(help="How values are chosen.")] = Sampler.tpe,
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier calls included.", min=1)] = 20,
    storage: Annotated[
        str | None, typer.Option(help="Where Optuna keeps the study; else study.db in the output.")
    ] = None,
    changes: Annotated[
        list[str], typer.Option("--set", help="A value of the recipe that all trials share.")
    ] = [],  # noqa: B006 - typer's way
) -> None:
    """Try values of a recipe, end early those that fall behind, and say which were best.

    Examples: model-factory search-params encoder --data data/prepared --output runs/search --trials 30
    --set budget.steps=400 --set validation.every_steps=50;
    model-factory search-params cross-encoder --data data/prepared --output runs/search-pairs

    The same command goes on with an interrupted search. Plots: history.png, importance.png, slice.png. An
    encoder is judged by the split validation. A cross-encoder is judged by graded queries that its folds held
    out and by the fit of products of the split validation; one whose made pairs fall behind learns no grade.
    The best of many trials flatters itself: judge it again on what took no part.
    """
    runs.require_train_extra("torch", "transformers", "tensorboard", "matplotlib", "pyarrow", "optuna")
    recipe = recipe or model.shipped
    model.read(recipe, changes)
    study = search(
        model,
        recipe,
        changes,
        data,
        output,
        read_space(space or model.shipped),
        sampler,
        trials,
        storage or f"sqlite:///{(output / 'study.db').resolve()}",
    )
    best = write_best(study, output)
    draw(study, output)
    runs.console.print(
        f"best {METRIC} {best['value']:.4f} in trial {best['trial']} of {len(study.trials)}; use"
    )
    runs.console.print("  " + " ".join(f"--set {change}" for change in best["set"]))


def search(
    model: Searched,
    recipe: str,
    changes: list[str],
    data: Path,
    output: Path,
    space: Mapping[str, Range],
    sampler: Sampler,
    trials: int,
    storage: str,
) -> Any:
    """Run trials until the study has so many that ended; return the study."""
    import optuna

    output.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = model.read(recipe, changes).seed
    samplers: dict[Sampler, Callable[[], Any]] = {
        Sampler.grid: lambda: optuna.samplers.GridSampler(
            {key: values.grid(key) for key, values in space.items()}, seed=seed
        ),
        Sampler.random: lambda: optuna.samplers.RandomSampler(seed=seed),
        Sampler.tpe: lambda: optuna.samplers.TPESampler(seed=seed),
    }
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        sampler=samplers[sampler](),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
    )
    _claim(
        study,
        {
            "model": model.value,
            "recipe": recipe,
            "set": sorted(changes),
            "data": data_hash(data),
            "sampler": sampler.value,
        },
    )
    _end_killed(study, again=sampler is not Sampler.grid)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    done = len(study.get_trials(deepcopy=False, states=ended))
    if done and sampler is not Sampler.grid:
        study.sampler.reseed_rng()  # not the draws of the first call once more
    train = model.trainer()

    def objective(trial: Any) -> float:
        chosen = {key: values.suggest(trial, key) for key, values in space.items()}
        said = model.read(recipe, [*changes, *map(override, chosen.items())])
        folder = output / f"trial-{trial.number:04}"

        def report(step: int, value: float) -> None:
            if step:
                trial.report(value, step)
                if trial.should_prune():
                    raise optuna.TrialPruned(f"behind the median at step {step}")

        try:
            summary = train(data, folder, said, report=report)
        finally:
            for checkpoints in list(folder.rglob("checkpoints")):
                shutil.rmtree(checkpoints, ignore_errors=True)
            for weights in list(folder.rglob("model.safetensors")):
                weights.unlink()
        return float(summary["figures"][METRIC])

    if trials > done:
        study.optimize(objective, n_trials=trials - done)
    return study


class Shared:
    """Reads and tokenises once for all trials that read the same."""

    def __init__(self) -> None:
        self._key: object = None
        self._read: tuple[Corpus, Judge] | None = None

    def __call__(self, data: Path, recipe: EncoderRecipe, base: Path) -> tuple[Corpus, Judge]:
        learnt = [name for name, table in recipe.objectives.given() if table.weight]
        distil = recipe.objectives.distil and recipe.objectives.distil.vectors
        key = (data, base, recipe.model.max_tokens, bool(recipe.robust), recipe.seed, learnt, distil)
        if self._read is None or key != self._key:
            self._key, self._read = key, encoder.tokenise(data, recipe, base)
        return self._read


def override(chosen: tuple[str, Any]) -> str:
    """Return a chosen value as `--set` takes it."""
    key, value = chosen
    is_list = isinstance(value, str) and value.startswith("[")
    return f"{key}={value if is_list else json.dumps(value)}"


def read_space(space: str) -> dict[str, Range]:
    """Read the ranges of a space, by dotted key."""
    shipped = resources.files("model_factory") / "recipes" / "spaces" / f"{space}.toml"
    name, tables = read_tables(space, shipped)
    found = dict(_ranges(tables, name))
    if not found:
        raise typer.BadParameter(
            f"{name} names no key to search: optimiser.warmup = {{ choices = [0.0, 0.1] }}"
        )
    return found


def write_best(study: Any, output: Path) -> dict[str, Any]:
    """Write best.json and trials.json; return what best.json says."""
    from optuna.trial import TrialState

    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state is TrialState.COMPLETE else None,
            "validations": trial.intermediate_values,
            "set": list(map(override, trial.params.items())),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    runs.write_atomically(output / "trials.json", (json.dumps(rows, indent=2) + "\n").encode())
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        raise typer.BadParameter("No trial ended: ask for more with --trials.")
    best = max(complete, key=lambda row: row["value"])
    runs.write_atomically(output / "best.json", (json.dumps(best, indent=2) + "\n").encode())
    return best


def draw(study: Any, output: Path) -> None:
    """Draw history.png, slice.png and, from two complete trials on, importance.png."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    import optuna
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    drawn = {"history": plots.plot_optimization_history, "slice": plots.plot_slice}
    if len({trial.value for trial in complete}) > 1:
        drawn["importance"] = plots.plot_param_importances
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for name, plot in drawn.items():
            axes = np.ravel(plot(study))[0]
            axes.figure.savefig(output / f"{name}.png", dpi=120, bbox_inches="tight")
            pyplot.close(axes.figure)


def _claim(study: Any, said: dict[str, Any]) -> None:
    """Refuse to mix trials of another recipe or other data into a study."""
    before = study.user_attrs.get("search")
    if before is None:
        study.set_user_attr("search", said)
    elif before != said:
        changed = ", ".join(key for key in said if said[key] != before.get(key))
        raise typer.BadParameter(
            f"This study was begun with another {changed}: "
            "name another --output or --storage, or go on as before."
        )


def _end_killed(study: Any, *, again: bool) -> None:
    """Mark trials that a killed search left behind as failed, and try their values `again`."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if again and trial.params:
            study.enqueue_trial(trial.params)


def _ranges(tables: Mapping[str, Any], name: str, path: str = "") -> Any:
    for key, value in tables.items():
        dotted = f"{path}.{key}" if path else key
        if not isinstance(value, dict):
            raise typer.BadParameter(f"{name}: {dotted} needs a range, as in {{ low = 0.1, high = 0.9 }}.")
        if value and all(isinstance(inner, dict) for inner in value.values()):
            yield from _ranges(value, name, dotted)
            continue
        try:
            yield dotted, msgspec.convert(value, Range)
        except msgspec.ValidationError as error:
            raise typer.BadParameter(
                f"{name}: {dotted}: {error}. Keys: low, high, log, step, choices."
            ) from None
