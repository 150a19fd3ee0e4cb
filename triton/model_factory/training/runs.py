"""Runs: a training's folder, its checkpoints, and the loop that every trainer shares.

A trainer builds its model and hands `fit` two functions: `backward(step)` does one step's forward and
backward pass and returns numbers to log, `loss` among them; `validate()` returns figures, higher better, of
which `metric` decides about early stopping.

    run = Run.open(folder, recipe, identity={"data": data_hash}, resume=resume)  # may refuse: BadParameter
    with machine(recipe) as device:  # seeds, threads
        model = ....to(device)
        outcome = fit(
            run, recipe, model, backward, validate,  # with their forwards in autocast(recipe)
            metric="ndcg_at_10", steps_per_epoch=400, parts={"sampler": sampler},
        )
        model.save_pretrained(run.model)
        run.finish(recipe, model, outcome, figures={})  # training.json, PNG

What `fit` keeps so that a killed run goes on exactly where it was: every weight that requires a gradient,
every buffer, the optimiser, the states of torch's, numpy's and Python's generators, each part (anything with
`state_dict` and `load_state_dict`: samplers, mostly), the spent time and the best weights so far. A part that
draws random numbers owns a generator whose state it keeps, or draws as a function of the seed and a count.

    FOLDER/run.json         recipe and identity; a resumed run must have the same
    FOLDER/checkpoints/     latest.pt, best.pt; each is written beside itself and renamed
    FOLDER/metrics.jsonl    {"step", "loss", ...} and {"step", "validation": {...}}
    FOLDER/tensorboard/, FOLDER/loss.png, FOLDER/validation.png
    FOLDER/model/           the result, with training.json
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from model_factory.training.recipe import RunRecipe

LOG_EVERY_STEPS = 10

console = Console(stderr=True)


class Part(Protocol):
    """What has a position that a resumed run goes on from."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from there."""


@dataclass
class Outcome:
    """How a run ended."""

    steps: int = 0
    best_step: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    """Of the weights that the model holds now."""
    stopped: str = "the budget is spent"
    wall_s: float = 0.0


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path
    identity: Mapping[str, Any]
    resumed: bool

    @classmethod
    def open(cls, folder: Path, recipe: RunRecipe, identity: Mapping[str, Any], *, resume: bool) -> Run:
        """Make the folder of a new run, or find that of one to go on with.

        Args:
            recipe: a resumed run's must be the one it began with, but for `machine` and the budget's minutes.
            identity: what else must be the same, such as the data's hash; JSON values.
        """
        said = {"recipe": msgspec.to_builtins(recipe), **identity}
        known = folder / "run.json"
        if not known.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(known, json.dumps(said, indent=2).encode())
            return cls(folder, identity, resumed=False)
        if not resume:
            raise typer.BadParameter(
                f"{folder} already holds a run: go on with it by --resume, or name another folder."
            )
        before = json.loads(known.read_text())
        changed = sorted(_differences(_comparable(before), _comparable(json.loads(json.dumps(said)))))
        if changed:
            raise typer.BadParameter(
                f"{folder} was begun with other values of {', '.join(changed)}: "
                "resume it with what it began with, or name another folder."
            )
        return cls(folder, identity, resumed=(folder / "checkpoints" / "latest.pt").exists())

    @property
    def model(self) -> Path:
        """Return the folder of the result."""
        return self.folder / "model"

    def finish(
        self, recipe: RunRecipe, model: Any, outcome: Outcome, figures: Mapping[str, Any], **said: Any
    ) -> dict[str, Any]:
        """Write model/training.json and the curves; return what training.json says.

        Args:
            model: as it was trained, whose parameters are counted.
            said: further JSON values.
        """
        summary: dict[str, Any] = {
            "recipe": msgspec.to_builtins(recipe),
            **self.identity,
            "seed": recipe.seed,
            "commit": commit(),
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "stopped": outcome.stopped,
            "wall_s": round(outcome.wall_s, 1),
            "device": _device_name(),
            "parameters": count_parameters(model),
            "peak_memory_bytes": peak_memory_bytes(),
            "figures": {**outcome.figures, **figures},
            **said,
        }
        self.model.mkdir(parents=True, exist_ok=True)
        written = json.dumps(summary, indent=2) + "\n"
        write_atomically(self.model / "training.json", written.encode())
        draw_curves(self.folder)
        return json.loads(written)  # type: ignore[no-any-return]


def require_train_extra(*modules: str) -> None:
    """Refuse to start where a library of the extra `train` is missing."""
    for module in modules or ("torch", "transformers", "tensorboard", "matplotlib", "pyarrow"):
        try:
            importlib.import_module(module)
        except ImportError:
            raise typer.BadParameter(f"{module} is missing: pip install 'streamrec[train]'") from None


@contextlib.contextmanager
def machine(recipe: RunRecipe) -> Iterator[str]:
    """Seed every generator, set the threads, and give the device: `cuda` where there is one, else `cpu`."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(recipe.machine.threads or os.cpu_count() or 1)
    random.seed(recipe.seed)
    np.random.seed(recipe.seed % 2**32)
    torch.manual_seed(recipe.seed)
    try:
        yield "cuda" if torch.cuda.is_available() else "cpu"
    finally:
        torch.set_num_threads(before)


def autocast(recipe: RunRecipe) -> Any:
    """Return the context of a forward pass in the recipe's precision."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = recipe.machine.precision
    half = precision == "bf16" or (precision == "auto" and device == "cuda")
    return torch.autocast(device, dtype=torch.bfloat16, enabled=half)


def fit(
    run: Run,
    recipe: RunRecipe,
    model: Any,
    backward: Callable[[int], Mapping[str, float]],
    validate: Callable[[], Mapping[str, float]],
    *,
    metric: str,
    steps_per_epoch: int,
    parts: Mapping[str, Part] | None = None,
    after_step: Callable[[int], None] | None = None,
    report: Callable[[int, float], None] | None = None,
    title: str = "training",
) -> Outcome:
    """Train until the budget is spent or validation stops gaining.

    Args:
        model: a `torch.nn.Module` on its device; what requires a gradient learns.
        backward: of step 0, 1, ...: adds gradients, returns numbers to log.
        validate: figures, higher better; also called before the first step.
        metric: the figure that early stopping and `validation.keep` go by.
        after_step: called with the number of done steps while the gradients are still there.
        report: called with step and metric at each validation; what it raises ends the run.

    Returns:
        The outcome; the model holds the weights that `validation.keep` asks for.
    """
    import torch
    from torch.utils.tensorboard import SummaryWriter

    parts = dict(parts or {})
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(_groups(trained, recipe), lr=recipe.optimiser.learning_rate, fused=True)
    progress = _Progress()
    if run.resumed:
        saved = load(run.folder / "checkpoints" / "latest.pt")
        _restore(saved, model, optimiser, parts)
        progress = _Progress(**saved["progress"])
    _forget_after(run.folder / "metrics.jsonl", progress.step)
    last = recipe.budget.last_step(steps_per_epoch)
    began_s = time.monotonic() - progress.elapsed_s

    def validated(step: int) -> None:
        model.eval()
        with torch.inference_mode():
            figures = {name: float(value) for name, value in validate().items()}
        model.train()
        log.validation(step, figures)
        progress.checked(step, figures, metric, recipe.validation.least_gain)
        if progress.best_step == step:
            save(run.folder / "checkpoints" / "best.pt", {"weights": _weights(model)})
        bar.update(task, metric=f"{metric} {figures[metric]:.4f} (best {progress.best:.4f})")
        if report is not None:
            report(step, figures[metric])

    def checkpoint() -> None:
        progress.elapsed_s = time.monotonic() - began_s
        save(
            run.folder / "checkpoints" / "latest.pt",
            {
                "weights": _weights(model),
                "optimiser": optimiser.state_dict(),
                "random": _random_states(),
                "parts": {name: part.state_dict() for name, part in parts.items()},
                "progress": vars(progress),
            },
        )

    writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=progress.step or None)
    model.train()
    with _Log(run.folder / "metrics.jsonl", writer) as log, _bar() as bar:
        task = bar.add_task(title, total=last, completed=progress.step, metric="", loss="")
        if progress.step == 0:
            validated(0)
        stopped = Outcome().stopped
        while True:
            spent = recipe.budget.progress(progress.step, time.monotonic() - began_s, steps_per_epoch)
            if spent >= 1.0:
                break
            if recipe.validation.patience is not None and progress.without_gain >= recipe.validation.patience:
                stopped = f"{metric} has not risen in {progress.without_gain} validations"
                break
            after_this = recipe.budget.progress(
                progress.step + 1, time.monotonic() - began_s, steps_per_epoch
            )
            rate = recipe.optimiser.rate((spent + after_this) / 2)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
            numbers = backward(progress.step)
            if recipe.optimiser.clip_norm:
                torch.nn.utils.clip_grad_norm_(trained.values(), recipe.optimiser.clip_norm)
            optimiser.step()
            progress.step += 1
            if after_step is not None:
                after_step(progress.step)
            log.step(progress.step, {**numbers, "learning_rate": rate})
            bar.update(task, completed=progress.step, loss=f"loss {numbers['loss']:.3f}")
            if last is None and recipe.budget.minutes:
                bar.update(task, total=max(progress.step, round(progress.step / max(spent, 1e-6))))
            ends = recipe.budget.progress(progress.step, time.monotonic() - began_s, steps_per_epoch) >= 1.0
            if ends or progress.step % recipe.validation.every_steps == 0:
                validated(progress.step)
                checkpoint()
            elif progress.step % recipe.machine.checkpoint_every_steps == 0:
                checkpoint()
    figures = progress.last_figures
    if recipe.validation.keep == "best" and progress.best_step != progress.step:
        best = load(run.folder / "checkpoints" / "best.pt")
        model.load_state_dict(best["weights"], strict=False)
        figures = progress.best_figures
    model.eval()
    return Outcome(
        steps=progress.step,
        best_step=progress.best_step,
        figures=figures,
        stopped=stopped,
        wall_s=time.monotonic() - began_s,
    )


@dataclass
class _Progress:
    """What early stopping and a resumed run go by."""

    step: int = 0
    elapsed_s: float = 0.0
    best: float = float("-inf")
    best_step: int = 0
    best_figures: dict[str, float] = field(default_factory=dict)
    last_figures: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0

    def checked(self, step: int, figures: dict[str, float], metric: str, least_gain: float) -> None:
        if metric not in figures:
            raise ValueError(f"validate() returned no {metric}, but {', '.join(figures)}")
        self.last_figures = figures
        if figures[metric] > self.best + least_gain or step == 0:
            self.best, self.best_step, self.best_figures = figures[metric], step, figures
            self.without_gain = 0
        else:
            self.without_gain += 1


class _Log:
    """Numbers to metrics.jsonl and TensorBoard; those of steps as means over `LOG_EVERY_STEPS`."""

    def __init__(self, path: Path, writer: Any) -> None:
        self._path = path
        self._writer = writer
        self._recent: dict[str, list[float]] = {}

    def __enter__(self) -> _Log:
        self._file = self._path.open("a")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._writer.close()

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self._recent.setdefault(name, []).append(float(number))
        if step % LOG_EVERY_STEPS == 0:
            means = {name: sum(recent) / len(recent) for name, recent in self._recent.items()}
            self._recent.clear()
            self._write({"step": step, **means})
            for name, mean in means.items():
                self._writer.add_scalar(f"train/{name}", mean, step)

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        self._write({"step": step, "validation": figures})
        for name, figure in figures.items():
            self._writer.add_scalar(f"validation/{name}", figure, step)

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old one or the new one."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors, plain values, arrays of a random state; nothing that could be run."""
    import torch

    array = np.zeros(1, np.uint32)
    parts_of_arrays = [array.__reduce__()[0], np.ndarray, np.dtype, type(array.dtype)]
    with torch.serialization.safe_globals(parts_of_arrays):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a half written last one is left out."""
    rows = []
    path = folder / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def draw_curves(folder: Path) -> None:
    """Draw loss.png and validation.png of a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(folder)
    steps = [row for row in rows if "validation" not in row]
    checks = [row for row in rows if "validation" in row]
    for name, curves, places in (
        ("loss", sorted({key for row in steps for key in row if key.startswith("loss")}), steps),
        ("validation", sorted({key for row in checks for key in row["validation"]}), checks),
    ):
        if not curves:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        for curve in curves:
            values = [(row["step"], row.get("validation", row).get(curve)) for row in places]
            known = [(step, value) for step, value in values if value is not None]
            axes.plot(*zip(*known, strict=True), label=curve, marker="." if name == "validation" else None)
        axes.set(xlabel="step", ylabel=name, title=folder.name)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(folder / f"{name}.png", dpi=120)
        pyplot.close(figure)


def count_parameters(model: Any) -> dict[str, int]:
    """Count the parameters that learn, and all of them."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"trained": sum(size for size, learns in sizes if learns), "all": sum(size for size, _ in sizes)}


def peak_memory_bytes() -> dict[str, int]:
    """Return the most memory this process has held, and the most of the GPU that tensors took."""
    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with contextlib.suppress(OSError):  # of this program alone, where ru_maxrss may hold that of its parent
        status = Path("/proc/self/status").read_text()
        peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    memory = {"process": peak}
    if torch.cuda.is_available():
        memory["gpu"] = torch.cuda.max_memory_allocated()
    return memory


def commit() -> str | None:
    """Return the commit of the code that runs, with `+` where files differ from it; None outside of git."""
    here = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", str(here.parent)], capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.returncode else "")


def _groups(trained: Mapping[str, Any], recipe: RunRecipe) -> list[dict[str, Any]]:
    """Return the optimiser's groups: matrices decay, biases and norms do not."""
    decayed = [p for p in trained.values() if p.ndim > 1]
    others = [p for p in trained.values() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.optimiser.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _weights(model: Any) -> dict[str, Any]:
    """Return copies of what training changes: trained weights and buffers."""
    changing = {name for name, p in model.named_parameters() if p.requires_grad}
    changing |= {name for name, _ in model.named_buffers()}
    return {
        name: value.detach().cpu().clone() for name, value in model.state_dict().items() if name in changing
    }


def _random_states() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _restore(saved: Mapping[str, Any], model: Any, optimiser: Any, parts: Mapping[str, Part]) -> None:
    import torch

    model.load_state_dict(saved["weights"], strict=False)
    optimiser.load_state_dict(saved["optimiser"])
    for name, part in parts.items():
        part.load_state_dict(saved["parts"][name])
    random.setstate(saved["random"]["python"])
    np.random.set_state(saved["random"]["numpy"])
    torch.set_rng_state(saved["random"]["torch"])
    if saved["random"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(saved["random"]["cuda"])


def _forget_after(path: Path, step: int) -> None:
    """Drop the rows that a killed run wrote after its last checkpoint."""
    rows = [row for row in read_metrics(path.parent) if step and row["step"] <= step]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _comparable(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resumed run must share with its beginning."""
    recipe = {key: value for key, value in said["recipe"].items() if key != "machine"}
    recipe["budget"] = {key: value for key, value in recipe["budget"].items() if key != "minutes"}
    return {**said, "recipe": recipe}


def _differences(left: Any, right: Any, path: str = "") -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            yield from _differences(left.get(key), right.get(key), f"{path}.{key}" if path else key)
    elif left != right:
        yield path


def _device_name() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[metric]}"),
        console=console,
    )


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "")
