"""Fine-tune the encoder: several objectives mixed, one loop, any method; the command `train encoder`."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from model_factory import manifest, published
from model_factory.training import losses, methods, runs
from model_factory.training.pairs import Batch, Batches, Corpus, data_hash, read_corpus
from model_factory.training.recipe import Distillation, EncoderRecipe, Kind, read
from model_factory.training.texts import Numbers, Texts
from model_factory.training.validation import METRIC, Judge, Judged, keep, means

JUDGED = "judged.npz"
"""File of a run's folder: what its last weights came to, offer by offer and query by query."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def train_encoder(
    data: Annotated[Path, typer.Argument(help="Folder that `model-factory prepare` wrote.", exists=True)],
    run: Annotated[Path, typer.Argument(help="Folder of the run; the result is its folder `model`.")],
    recipe: Annotated[str, typer.Option(help="A TOML file, or the name of a shipped recipe.")] = "encoder",
    changes: Annotated[
        list[str], typer.Option("--set", help="A value of the recipe, as in optimiser.learning_rate=1e-4.")
    ] = [],  # noqa: B006 - typer's way
    method: Annotated[
        Kind | None, typer.Option(help="Which weights learn; short for --set method.kind=METHOD.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Fine-tune the encoder on prepared data, on the GPU where there is one.

    Example: model-factory train encoder data/prepared runs/encoder --set budget.minutes=30

    A killed run loses at most the steps since its last checkpoint: the same command with --resume goes on.
    Watch it with: tensorboard --logdir runs
    """
    runs.require_train_extra()
    said = read(recipe, EncoderRecipe, [*changes, *([f"method.kind={method}"] if method else [])])
    summary = train(data, run, said, resume=resume)
    for name, figure in summary["figures"].items():
        runs.console.print(f"{name:28} {figure:.4f}")
    runs.console.print(
        f"wrote {run / 'model'} after {summary['steps']} steps ({summary['stopped']}; "
        f"best at step {summary['best_step']}), {summary['wall_s'] / 60:.1f} minutes"
    )


def train(
    data: Path,
    folder: Path,
    recipe: EncoderRecipe,
    *,
    resume: bool = False,
    report: Callable[[int, float], None] | None = None,
    read_data: Callable[[Path, EncoderRecipe, Path], tuple[Corpus, Judge]] | None = None,
) -> dict[str, Any]:
    """Run a recipe; return what training.json says.

    Args:
        report: see `runs.fit`.
        read_data: in place of `tokenise`, where several runs share what it returns.
    """
    base = base_folder(recipe)
    run = runs.Run.open(folder, recipe, identify(data, base, recipe), resume=resume)
    with runs.machine(recipe) as device:
        with runs.console.status("reading and tokenising"):
            corpus, judge = (read_data or tokenise)(data, recipe, base)
        batches = Batches(corpus, recipe.objectives, recipe.robust, recipe.seed)
        encoder = load(base, recipe)
        original = copy.deepcopy(encoder.state_dict()) if recipe.model.average_with_base else None
        last_step = recipe.budget.last_step(batches.steps_per_epoch)
        learner = methods.prepare(encoder, recipe, last_step)
        if original is not None and not learner.mergeable:
            raise typer.BadParameter(
                f"{recipe.method.kind} leaves the base as it is: set model.average_with_base to 0."
            )
        learner.module.to(device)
        embedder = Embedder(learner.module, corpus.texts, recipe, device)
        outcome = runs.fit(
            run,
            recipe,
            learner.module,
            lambda step: backward(embedder, batches.draw(step), recipe, learner.penalty),
            lambda: judge.measure(embedder.embed),
            metric=METRIC,
            steps_per_epoch=batches.steps_per_epoch,
            parts={"batches": batches, **(learner.parts or {})},
            after_step=learner.after_step,
            report=report,
            title=f"encoder, {recipe.method.kind}",
        )
        said = judged(judge, embedder)
        parameters = runs.count_parameters(learner.module)  # merging forgets which were trained
        encoder = learner.merge()
        figures: dict[str, float] = {}
        if original is not None:
            average(encoder, original, recipe.model.average_with_base)
            embedder = Embedder(encoder, corpus.texts, recipe, device)
            before = {f"before_averaging_{name}": figure for name, figure in outcome.figures.items()}
            said = judged(judge, embedder)
            figures = before | means(said)
        keep(folder / JUDGED, said)
        write(encoder, base, run.model)
        return run.finish(
            recipe,
            encoder,
            outcome,
            figures,
            parameters=parameters,
            base=str(recipe.model.base or published.MODEL),
            model_is="a plain encoder" if learner.mergeable else f"an encoder and its {recipe.method.kind}",
            exportable=learner.mergeable,
        )


def judged(judge: Judge, embedder: Embedder) -> dict[str, Judged]:
    """Judge what `embedder` holds, without gradients."""
    import torch

    with torch.inference_mode():
        return judge.judge(embedder.embed)


def judge_base(data: Path, recipe: EncoderRecipe) -> dict[str, Judged]:
    """Judge the recipe's base, with its layers, before anything is learnt."""
    base = base_folder(recipe)
    with runs.machine(recipe) as device:
        corpus, judge = tokenise(data, recipe, base)
        encoder = load(base, recipe).to(device).eval()
        return judged(judge, Embedder(encoder, corpus.texts, recipe, device))


def base_folder(recipe: EncoderRecipe) -> Path:
    """Return the folder of the weights to start from."""
    if recipe.model.base is None:
        return published.find_weights(None)
    folder = Path(recipe.model.base)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).exists():
            raise typer.BadParameter(
                f"{folder} holds no {name}: model.base names a folder of a BERT encoder."
            )
    return folder


def identify(data: Path, base: Path, recipe: EncoderRecipe) -> dict[str, str]:
    """Return hashes of all that the recipe reads."""
    said = {"data": data_hash(data), "base_sha256": manifest.sha256(base / "model.safetensors")}
    if recipe.objectives.distil is not None:
        vectors = Path(recipe.objectives.distil.vectors)
        if not vectors.exists():
            raise typer.BadParameter(
                f"{vectors}, named by objectives.distil.vectors, is missing: `model-factory distil` makes it."
            )
        said["teacher_sha256"] = manifest.sha256(vectors)
    return said


def tokenise(data: Path, recipe: EncoderRecipe, base: Path) -> tuple[Corpus, Judge]:
    """Read what a recipe learns from and is judged by."""
    texts = Texts(base / "tokenizer.json", recipe.model.max_tokens)
    corpus = read_corpus(data, recipe.objectives, recipe.robust, texts, recipe.seed)
    return corpus, Judge(data, texts)


def load(base: Path, recipe: EncoderRecipe) -> Any:
    """Load the base with the layers and the dropout of the recipe, in 32 bits."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # a second one, of things that take no time
    logging.set_verbosity_error()  # that the pooler is left out is meant
    config = BertConfig.from_pretrained(base)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = recipe.model.dropout
    encoder = BertModel.from_pretrained(
        base, config=config, add_pooling_layer=False, attn_implementation="sdpa", dtype=torch.float32
    )
    if recipe.model.layers != "all":
        layers = encoder.encoder.layer
        if max(recipe.model.layers) >= len(layers):
            raise typer.BadParameter(
                f"model.layers names layer {max(recipe.model.layers)}, but the base has {len(layers)}, "
                "counted from 0."
            )
        encoder.encoder.layer = torch.nn.ModuleList(layers[number] for number in recipe.model.layers)
        encoder.config.num_hidden_layers = len(recipe.model.layers)
        for number, layer in enumerate(encoder.encoder.layer):
            layer.attention.self.layer_idx = number  # by which a prefix finds its keys and values
    return encoder


class Embedder:
    """Texts to vectors: mean of the last layer over a text's tokens, length 1."""

    def __init__(self, module: Any, texts: Texts, recipe: EncoderRecipe, device: str) -> None:
        self._module = module
        self._texts = texts
        self._recipe = recipe
        self._device = device

    def embed(self, numbers: Numbers) -> Any:
        """Return the vectors [texts, width] in 32 bits."""
        import torch

        pieces, places = [], []
        for rows, piece in self.pieces(numbers):
            places.append(rows)
            pieces.append(piece())
        order = torch.from_numpy(np.argsort(np.concatenate(places))).to(self._device)
        return torch.cat(pieces).index_select(0, order)

    def pieces(self, numbers: Numbers) -> Any:
        """Yield for each chunk of similar length its places in `numbers` and a function that encodes it."""
        for places, ids, mask in self._texts.chunks(numbers, self._recipe.contrast.chunk_tokens):
            yield places, lambda ids=ids, mask=mask: self._encode(ids.to(self._device), mask.to(self._device))

    def _encode(self, ids: Any, mask: Any) -> Any:
        import torch

        with runs.autocast(self._recipe):
            hidden = self._module(input_ids=ids, attention_mask=mask).last_hidden_state
        member = mask.unsqueeze(-1).float()
        pooled = (hidden.float() * member).sum(dim=1) / member.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=1)


def backward(
    embedder: Embedder, batch: Batch, recipe: EncoderRecipe, penalty: Callable[[], Any] | None
) -> dict[str, float]:
    """Do one step's forward and backward pass; return its loss, also under the objective's name."""
    import torch

    if recipe.contrast.gradient_cache:
        with torch.no_grad():
            vectors = embedder.embed(batch.inputs)
        vectors.requires_grad_(True)
    else:
        vectors = embedder.embed(batch.inputs)
    loss = loss_of(vectors, batch, recipe)
    loss.backward()
    if recipe.contrast.gradient_cache:
        for places, encode in embedder.pieces(batch.inputs):
            encode().backward(vectors.grad[torch.from_numpy(places).to(vectors.device)])
    if penalty is not None:
        penalty().backward()
    return {"loss": loss.item(), f"loss_{batch.objective}": loss.item()}


def loss_of(vectors: Any, batch: Batch, recipe: EncoderRecipe) -> Any:
    """Return the loss of a batch's vectors by its objective."""
    if batch.teacher is None:
        return losses.contrast(vectors, batch, recipe.contrast)
    table = recipe.objectives.distil
    assert isinstance(table, Distillation)
    if table.cosine and batch.teacher.shape[1] != vectors.shape[1]:
        raise typer.BadParameter(
            f"objectives.distil.cosine compares vectors of {vectors.shape[1]} with the teacher's of "
            f"{batch.teacher.shape[1]} dimensions: set it to 0 and learn from similarities."
        )
    return losses.distillation(vectors, batch, table)


def average(encoder: Any, original: dict[str, Any], share: float) -> None:
    """Move the weights towards the original ones: `share` * original + (1 - share) * trained."""
    weights = encoder.state_dict()
    for name, value in weights.items():
        if value.is_floating_point():
            value.lerp_(original[name].to(value.device), share)


def write(encoder: Any, base: Path, folder: Path) -> None:
    """Write a Hugging Face folder: weights, configuration and the base's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copy(base / name, folder / name)
