"""Recipes: all that a training depends on besides its data, as one TOML file that is checked before it runs.

A recipe is a frozen `msgspec.Struct`. What every training has (seed, optimiser, budget, validation, machine)
is `RunRecipe`; a trainer adds its own tables by inheriting from it, and reads a file with

    recipe = read("encoder", EncoderRecipe, ["budget.steps=100", "method.kind='lora'"])

The first argument is a file, or the name of one of `recipes/*.toml`. An unknown key, a value of the wrong
type or out of bounds ends as `typer.BadParameter` that names file, key and cure.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer
from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a recipe; a key that it does not know is an error."""


class Optimiser(Table):
    """AdamW; biases and norms are not decayed."""

    learning_rate: Positive = 5e-5
    weight_decay: NotNegative = 0.01
    warmup: Share = 0.1
    """Share of the budget in which the rate rises from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: NotNegative = 1.0
    """Longest gradient; 0 clips none."""

    def rate(self, progress: float) -> float:
        """Return the learning rate after `progress`, 0 to 1, of the budget."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        rest = min(1.0, (progress - self.warmup) / max(1e-9, 1 - self.warmup))
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "linear":
            return self.learning_rate * (1 - rest)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * rest))


class Budget(Table):
    """How long a training lasts: whatever is given first reaches its end, and the schedule follows that.

    Minutes make a run depend on the machine's speed: with steps or epochs alone it can be repeated exactly.
    """

    steps: Count | None = None
    epochs: Positive | None = None
    minutes: Positive | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None and self.minutes is None:
            raise ValueError("give at least one of steps, epochs, minutes")

    def last_step(self, steps_per_epoch: int) -> int | None:
        """Return the step at which steps or epochs end the run; None where only minutes do."""
        ends = [] if self.steps is None else [self.steps]
        if self.epochs is not None:
            ends.append(max(1, round(self.epochs * steps_per_epoch)))
        return min(ends, default=None)

    def progress(self, step: int, elapsed_s: float, steps_per_epoch: int) -> float:
        """Return the share of the budget, 0 to 1, that is spent after `step` steps."""
        last = self.last_step(steps_per_epoch)
        by_steps = 0.0 if last is None else step / last
        by_time = 0.0 if self.minutes is None else elapsed_s / (60 * self.minutes)
        return min(1.0, max(by_steps, by_time))


class Validation(Table):
    """When the model is measured during training, and when that ends the run."""

    every_steps: Count = 200
    patience: Count | None = None
    """Measurements without a gain after which the run stops early; none: it never does."""
    least_gain: NotNegative = 0.0
    keep: Literal["best", "last"] = "best"
    """Which weights the run ends with."""


class Machine(Table):
    """What may differ from machine to machine."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU (weights stay 32 bits), fp32 on a CPU."""
    threads: Annotated[int, Meta(ge=0)] = 0
    """Of the CPU; 0 takes all cores."""
    checkpoint_every_steps: Count = 100


class RunRecipe(Table):
    """What every training's recipe holds, see `runs.fit`."""

    seed: int = 7
    optimiser: Optimiser = Optimiser()
    budget: Budget = Budget(epochs=1.0)
    validation: Validation = Validation()
    machine: Machine = Machine()


class Model(Table):
    """What is trained."""

    base: str | None = None
    """Hugging Face folder of the weights to start from; none: the published MiniLM, see `find_weights`."""
    layers: Literal["all"] | tuple[Annotated[int, Meta(ge=0)], ...] = "all"
    """Layers of the base to keep, counted from 0."""
    max_tokens: Annotated[int, Meta(ge=8, le=512)] = 64
    freeze_word_embeddings: bool = True
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    average_with_base: Share = 0.0
    """Weight of the base in the mean of the base's and the trained weights that the run ends with."""

    def __post_init__(self) -> None:
        if self.layers != "all" and (
            not self.layers or list(self.layers) != sorted(set(self.layers))  # type: ignore[comparison-overlap]
        ):
            raise ValueError('layers must rise, as in [0, 2, 5], or be "all"')


Kind = Literal["full", "lora", "adalora", "adapter", "prefix"]


class Method(Table):
    """Which weights learn, see `methods`."""

    kind: Kind = "full"
    rank: Count = 16
    """Of LoRA; of AdaLoRA on average when it is done."""
    alpha: Positive = 32.0
    modules: tuple[str, ...] = ("query", "key", "value", "dense")
    """Linear maps that LoRA and AdaLoRA change, by the ends of their names."""
    adapter_width: Count = 48
    prefix_tokens: Count = 16


class Objective(Table):
    """Pairs that belong together; the others of the batch are the wrong answers."""

    weight: NotNegative = 1.0
    """In the draw of each step's objective."""
    batch_size: Annotated[int, Meta(ge=2)] = 64
    hard_negatives: Annotated[int, Meta(ge=0)] = 1
    """Mined negatives of each pair that join the batch, where it has that many."""
    similar: Count = 1
    """Pairs of a batch, at most, that share category and first word, so that wrong answers are close ones."""


class Distillation(Table):
    """Texts with a teacher's vectors, see `encoder.TeacherVectors`."""

    vectors: str
    """File .npz with `texts` [n], `vectors` [n, any width] and perhaps `is_query` [n]."""
    weight: NotNegative = 1.0
    batch_size: Annotated[int, Meta(ge=4)] = 96
    neighbours: Annotated[int, Meta(ge=0)] = 3
    """Texts of a batch, for each anchor, that lie close to it for the teacher."""
    similarities: NotNegative = 1.0
    """Weight of the divergence between the teacher's and the model's similarities in the batch."""
    cosine: NotNegative = 0.0
    """Weight of 1 - cosine with the teacher's own vector, which must be as wide as the model's."""
    temperature: Positive = 0.05
    """Of the model's similarities."""
    teacher_temperature: Positive = 0.05


class Objectives(Table):
    """What a model learns from; a missing table is not learnt from."""

    query: Objective | None = None
    same_product: Objective | None = None
    bought_together: Objective | None = None
    distil: Distillation | None = None

    def __post_init__(self) -> None:
        if not any(objective is not None and objective.weight for _, objective in self.given()):
            raise ValueError("give at least one objective a weight, as in [objectives.same_product]")

    def given(self) -> list[tuple[str, Objective | Distillation]]:
        """Return the objectives that have a table, by name."""
        tables = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, table) for name, table in tables if table is not None]


class Contrast(Table):
    """InfoNCE (van den Oord et al., 2018) over the batch."""

    temperature: Positive = 0.05
    symmetric: bool = True
    """The anchors also compete for each positive."""
    within: bool = False
    """Other anchors are wrong answers to an anchor too, and other positives to a positive."""
    gradient_cache: bool = False
    """Batches of any size in the memory of one chunk, for one more forward (GradCache, Gao et al., 2021)."""
    chunk_tokens: Annotated[int, Meta(ge=64)] = 2_048
    """Padded tokens of one forward; a batch's texts are sorted by length and cut into such chunks."""


class EncoderRecipe(RunRecipe, frozen=True, kw_only=True):
    """The recipe of `train encoder`."""

    model: Model = Model()
    method: Method = Method()
    objectives: Objectives
    contrast: Contrast = Contrast()
    robust: Share = 0.0
    """Share of the inputs that are perturbed: typing errors, stuffing, look-alike letters."""

    def __post_init__(self) -> None:
        if self.contrast.gradient_cache and self.model.dropout:
            raise ValueError("contrast.gradient_cache encodes twice, so model.dropout must be 0")


Recipe = TypeVar("Recipe", bound=RunRecipe)


def read(recipe: str | Path, kind: type[Recipe], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        recipe: a TOML file, or the name of a shipped one.
        kind: what the file must hold.
        overrides: `key=value`, the key dotted, the value as TOML writes it; quotes of a text may be left out.

    Raises:
        typer.BadParameter: with file, key and cure.
    """
    name, tables = read_tables(recipe, resources.files("model_factory") / "recipes" / f"{recipe}.toml")
    for override in overrides:
        _set(tables, override)
    return check(tables, kind, name)


def check(tables: Mapping[str, Any], kind: type[Recipe], name: str) -> Recipe:
    """Return the recipe that `tables` hold; `name` tells the reader of an error where they come from."""
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(_explain(str(error), kind, name)) from None


def shipped() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("model_factory") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def read_tables(name: str | Path, of_package: Traversable) -> tuple[str, dict[str, Any]]:
    """Read a TOML file, or the shipped one of that name; return its name for people and its tables."""
    path = Path(name)
    if not path.is_file() and not of_package.is_file():
        raise typer.BadParameter(f"No file {name}, and none of that name is shipped: {', '.join(shipped())}.")
    told, file = (str(name), path) if path.is_file() else (f"shipped {name}", of_package)
    try:
        return told, tomllib.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{told} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise typer.BadParameter(f"{told} is not TOML: {error}.") from None


def _set(tables: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key.strip():
        raise typer.BadParameter(
            f"--set {override}: write key=value, as in --set optimiser.learning_rate=1e-4."
        )
    *path, last = key.strip().split(".")
    for part in path:
        tables = tables.setdefault(part, {})
        if not isinstance(tables, dict):
            raise typer.BadParameter(f"--set {override}: {part} is a value, not a table.")
    try:
        tables[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tables[last] = value.strip()


def _explain(error: str, kind: type[Struct], name: str) -> str:
    """Turn msgspec's message into one with file, key and cure."""
    said, _, path = error.partition(" - at `$")
    path = path.removesuffix("`").removeprefix(".")
    if "unknown field" not in said:
        if "missing required field" in said:
            return f"{name}: {said}{f' in [{path}]' if path else ''}; add it to the file, or with --set."
        return f"{name}: {path or 'recipe'}: {said}. Change it in the file, or with --set KEY=VALUE."
    unknown = said.split("`")[1]
    known = [field.name for field in msgspec.structs.fields(_table(kind, path))]
    close = difflib.get_close_matches(unknown, known, n=1)
    cure = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}."
    return f"{name}: unknown key {'.'.join(filter(None, (path, unknown)))}; {cure}"


def _table(kind: type[Struct], path: str) -> type[Struct]:
    """Return the table that lies at a dotted path."""
    for part in filter(None, path.split(".")):
        field = next(f for f in msgspec.structs.fields(kind) if f.name == part)
        options = getattr(field.type, "__args__", (field.type,))
        kind = next(option for option in options if isinstance(option, type) and issubclass(option, Struct))
    return kind
