"""Train the cross-encoder: first on made pairs, then on graded ones; the command `train cross-encoder`.

    RUN/made/      all made pairs
    RUN/fold-0/ .. from there, the graded pairs of the other folds: what is measured on queries never seen
    RUN/all/       from there, all graded pairs
    RUN/model/     the last one, calibrated on the scores that the folds gave to queries they had not seen
    RUN/held_out.csv, RUN/reliability.png

Each of the first three kinds is a run of its own (see `runs`), so a killed training goes on in the one it
was in.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from msgspec import Meta
from numpy.typing import NDArray

from model_factory import manifest, published
from model_factory.evaluation.search import ndcg
from model_factory.training import calibration, relevance, runs
from model_factory.training.encoder import base_folder, write
from model_factory.training.pairs import data_hash
from model_factory.training.recipe import Budget, Count, NotNegative, Positive, RunRecipe, Share, Table, read
from model_factory.training.relevance import Graded, Joined, Pair, Tokens

WINDOW = 16
"""Batches whose pairs are sorted by length together, so that little is padded."""
SCORED_AT_ONCE = 64
HONEST_HELD_BACK = 0.05
"""Share of honest products that the threshold of fit holds back."""

Logits = NDArray[np.float64]


class CrossModel(Table):
    """What is trained."""

    base: str | None = None
    """Hugging Face folder of a BERT; none: the published MiniLM, from an installed package."""
    layers: tuple[Annotated[int, Meta(ge=0)], ...] = (0, 2, 5)
    """Layers of the base to keep, counted from 0."""
    frozen_layers: Annotated[int, Meta(ge=0)] = 0
    """So many of them, from the first, learn nothing."""
    freeze_word_embeddings: bool = True
    max_tokens: Annotated[int, Meta(ge=16, le=96)] = 64
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1


class Made(Table):
    """Pairs that nobody graded, by kind, see `relevance`."""

    query: Annotated[int, Meta(ge=0)] = 4_000
    same_product: Annotated[int, Meta(ge=0)] = 2_000
    fit: Annotated[int, Meta(ge=0)] = 3_000
    near_target: Share = 0.2
    """Target of a mined negative."""
    validated: Count = 150
    """Pairs of each kind that validation scores, and graded pairs that a fold's validation does."""


class GradedStage(Table):
    """Learning from grades, after the made pairs."""

    epochs: Positive = 2.0
    learning_rate: Positive = 3e-5
    frozen_layers: Annotated[int, Meta(ge=0)] = 2
    """As `model.frozen_layers`: few grades teach the last layers alone."""
    rehearsed: NotNegative = 0.25
    """Made pairs for each graded one, so that what they taught stays."""


class CrossEncoderRecipe(RunRecipe, frozen=True, kw_only=True):
    """The recipe of `train cross-encoder`; budget, validation and optimiser are those of the made pairs."""

    batch_size: Annotated[int, Meta(ge=2)] = 32
    model: CrossModel = CrossModel()
    made: Made = Made()
    graded: GradedStage = GradedStage()


def train_cross_encoder(
    data: Annotated[Path, typer.Argument(help="Folder that `model-factory prepare` wrote.", exists=True)],
    run: Annotated[Path, typer.Argument(help="Folder of the run; the result is its folder `model`.")],
    recipe: Annotated[
        str, typer.Option(help="A TOML file, or the name of a shipped recipe.")
    ] = "cross_encoder",
    changes: Annotated[
        list[str], typer.Option("--set", help="A value of the recipe, as in graded.epochs=3.")
    ] = [],  # noqa: B006 - typer's way
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Train the model that scores pairs of texts: relevance to a query, and fit of a product's own data.

    Example: model-factory train cross-encoder data/prepared runs/cross-encoder

    What it prints was measured on queries and products that the scoring model had not learnt from.
    """
    runs.require_train_extra()
    summary = train(data, run, read(recipe, CrossEncoderRecipe, changes), resume=resume)
    for name, figure in summary["figures"].items():
        if isinstance(figure, float):
            runs.console.print(f"{name:36} {figure:.4f}")
    runs.console.print(f"wrote {run / 'model'}")


def train(
    data: Path,
    folder: Path,
    recipe: CrossEncoderRecipe,
    *,
    resume: bool = False,
    report: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Run a recipe; return what training.json says.

    Args:
        report: see `runs.fit`, of the made pairs alone.
    """
    base = base_folder(recipe)
    identity = {"data": data_hash(data), "base_sha256": manifest.sha256(base / "model.safetensors")}
    run = runs.Run.open(folder, recipe, identity, resume=resume)
    graded = relevance.read_graded(data)
    tokens = Tokens(base / "tokenizer.json", recipe.model.max_tokens)
    counts = {"query": recipe.made.query, "same_product": recipe.made.same_product, "fit": recipe.made.fit}
    few = dict.fromkeys(counts, recipe.made.validated)
    made, validated, tested = (
        relevance.made(data, split, wanted, recipe.made.near_target, recipe.seed)
        for split, wanted in (("train", counts), ("validation", few), ("test", {"fit": counts["fit"] // 4}))
    )
    if not made:
        raise typer.BadParameter(f"{data} has no products and no pairs of the split train to learn from.")
    with runs.machine(recipe) as device:
        trainer = Trainer(folder, recipe, base, tokens, identity, device)
        trainer.stage("made", None, recipe, made, lambda model: judge_made(trainer, model, validated), report)
        later = second_stage(recipe)
        logits = np.zeros(len(graded))
        folds = np.array([row.fold for row in graded])
        for fold in np.unique(folds).tolist():
            held_out = [row for row in graded if row.fold == fold]
            model = trainer.stage(
                f"fold-{fold}",
                "made",
                later,
                rehearsing([row.pair for row in graded if row.fold != fold], made, recipe),
                lambda model, some=held_out[: recipe.made.validated]: judge_graded(trainer, model, some),
            )
            logits[folds == fold] = trainer.logits(model, [row.pair for row in held_out])
        model = trainer.stage(
            "all",
            "made",
            later,
            rehearsing([row.pair for row in graded], made, recipe),
            lambda model: judge_made(trainer, model, validated),
        )
        figures = calibrate(folder, model, graded, logits, folds)
        figures |= judge_fit(trainer, model, validated, tested)
        figures["score"] = score(figures, judge_made(trainer, model, validated))
        write(model, base, run.model)
    outcome = json.loads((folder / "all" / "model" / "training.json").read_text())
    return run.finish(
        recipe,
        model,
        runs.Outcome(steps=outcome["steps"], best_step=outcome["steps"], wall_s=trainer.wall_s),
        figures,
        base=str(recipe.model.base or published.MODEL),
        exportable=True,
        pairs={"made": len(made), "graded": len(graded)},
    )


def second_stage(recipe: CrossEncoderRecipe) -> CrossEncoderRecipe:
    """Return the recipe for graded pairs: no figure of theirs decides when to stop or what to keep."""
    replace = msgspec.structs.replace
    return replace(
        recipe,
        model=replace(recipe.model, frozen_layers=recipe.graded.frozen_layers),
        budget=Budget(epochs=recipe.graded.epochs),
        optimiser=replace(recipe.optimiser, learning_rate=recipe.graded.learning_rate),
        validation=replace(recipe.validation, every_steps=10**9, patience=None, keep="last"),
    )


def rehearsing(graded: list[Pair], made: Sequence[Pair], recipe: CrossEncoderRecipe) -> list[Pair]:
    """Put some made pairs, evenly drawn, among the graded ones."""
    count = min(len(made), round(recipe.graded.rehearsed * len(graded)))
    chosen = np.random.default_rng(recipe.seed).choice(len(made), count, replace=False)
    return graded + [made[place] for place in chosen]


class Trainer:
    """Stages of one training, each a run in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        recipe: CrossEncoderRecipe,
        base: Path,
        tokens: Tokens,
        identity: Mapping[str, str],
        device: str,
    ) -> None:
        self._folder = folder
        self._recipe = recipe
        self._base = base
        self._tokens = tokens
        self._identity = identity
        self._device = device
        self._states: dict[bytes, Any] = {}
        self.wall_s = 0.0

    def stage(
        self,
        name: str,
        start: str | None,
        recipe: CrossEncoderRecipe,
        pairs: list[Pair],
        validate: Callable[[Any], Mapping[str, float]],
        report: Callable[[int, float], None] | None = None,
    ) -> Any:
        """Train from the base or from another stage, unless that is done; return the model."""
        folder = self._folder / name
        done = folder / "model" / "training.json"
        if done.exists():
            self.wall_s += json.loads(done.read_text())["wall_s"]
            return load(folder / "model", recipe, None).to(self._device)
        run = runs.Run.open(folder, recipe, {**self._identity, "stage": name}, resume=folder.exists())
        if start is None:
            model = load(self._base, recipe, recipe.model.layers)
        else:
            model = load(self._folder / start / "model", recipe, None)
        model.to(self._device)
        joined = self._tokens.join(pairs)
        targets = np.array([pair.target for pair in pairs], np.float32)
        lengths = np.array([len(ids) for ids, _ in joined])
        steps_per_epoch = max(1, len(pairs) // recipe.batch_size)

        def backward(step: int) -> dict[str, float]:
            import torch

            epoch, place = divmod(step, steps_per_epoch)
            rows = batches(lengths, recipe.batch_size, recipe.seed + epoch)[place]
            logits = self._forward(model, [joined[row] for row in rows])
            wanted = torch.from_numpy(targets[rows]).to(self._device)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
            loss.backward()
            return {"loss": loss.item()}

        outcome = runs.fit(
            run,
            recipe,
            model,
            backward,
            lambda: validate(model),
            metric="score",
            steps_per_epoch=steps_per_epoch,
            report=report,
            title=f"cross-encoder, {name}",
        )
        write(model, self._base, run.model)
        run.finish(recipe, model, outcome, {})
        self.wall_s += outcome.wall_s
        return model

    def logits(self, model: Any, pairs: Sequence[Pair]) -> Logits:
        """Score pairs in evaluation mode; logits [pairs]."""
        import torch

        joined = self._tokens.join(pairs)
        order = np.argsort([len(ids) for ids, _ in joined], kind="stable")
        logits = np.zeros(len(pairs))
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), SCORED_AT_ONCE):
                rows = order[start : start + SCORED_AT_ONCE]
                logits[rows] = self._forward(model, [joined[row] for row in rows]).cpu().numpy()
        return logits

    def _forward(self, model: Any, joined: Sequence[Joined]) -> Any:
        with runs.autocast(self._recipe):
            if only_last_learns(model):
                found = last_layer(model, *self._remembered(model, joined))
            else:
                found = model(**self._inputs(joined)).logits
        return found.float().squeeze(1)

    def _inputs(self, joined: Sequence[Joined]) -> dict[str, Any]:
        return {name: tensor.to(self._device) for name, tensor in self._tokens.batch(joined).items()}

    def _remembered(self, model: Any, joined: Sequence[Joined]) -> tuple[Any, Any]:
        """Return states before the last layer and the mask; the frozen layers see each pair once."""
        import torch

        new = [pair for pair in joined if pair[0].tobytes() not in self._states]
        if new:
            training = model.training
            model.eval()
            with torch.no_grad():
                states = model.bert(**self._inputs(new), output_hidden_states=True).hidden_states[-2]
            model.train(training)
            for (ids, _), state in zip(new, states, strict=True):
                self._states[ids.tobytes()] = state[: len(ids)].float().clone()
        states = [self._states[ids.tobytes()] for ids, _ in joined]
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
        lengths = torch.tensor([len(state) for state in states], device=padded.device)
        return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]


def only_last_learns(model: Any) -> bool:
    """Tell whether all that comes before the last layer is frozen."""
    before = [model.bert.embeddings, *model.bert.encoder.layer[:-1]]
    return not any(weight.requires_grad for part in before for weight in part.parameters())


def last_layer(model: Any, states: Any, mask: Any) -> Any:
    """Apply the last layer and the head to the first token of each pair alone; logits [pairs, 1].

    Args:
        states: before the last layer, [pairs, tokens, hidden].
        mask: [pairs, tokens], true where there is a token.
    """
    import torch

    layer = model.bert.encoder.layer[-1]
    attention = layer.attention.self
    first = states[:, :1]
    query, key, value = (
        part.unflatten(2, (model.config.num_attention_heads, -1)).transpose(1, 2)
        for part in (attention.query(first), attention.key(states), attention.value(states))
    )
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask[:, None, None],
        dropout_p=model.config.attention_probs_dropout_prob if model.training else 0.0,
    )
    mixed = layer.attention.output(mixed.transpose(1, 2).flatten(2), first)
    pooled = model.bert.pooler(layer.output(layer.intermediate(mixed), mixed))
    return model.classifier(model.dropout(pooled))


def batches(lengths: NDArray[np.int64], size: int, seed: int) -> list[NDArray[np.int64]]:
    """Cut a random order into batches of like lengths; what fills no batch waits for the next epoch."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    cut = []
    for start in range(0, len(order), size * WINDOW):
        window = order[start : start + size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        cut += [window[at : at + size] for at in range(0, len(window), size)]
    whole = [rows for rows in cut if len(rows) == size] or cut
    return [whole[place] for place in rng.permutation(len(whole))]


def load(folder: Path, recipe: CrossEncoderRecipe, layers: Sequence[int] | None) -> Any:
    """Load a BERT with a head of one logit.

    Args:
        layers: to keep; None keeps all.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = BertConfig.from_pretrained(folder, num_labels=1)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = recipe.model.dropout
    model = BertForSequenceClassification.from_pretrained(
        folder, config=config, attn_implementation="sdpa", dtype=torch.float32
    )
    every = model.bert.encoder.layer
    if layers is not None:
        if not layers or max(layers) >= len(every):
            raise typer.BadParameter(f"model.layers: the base has layers 0 to {len(every) - 1}.")
        every = model.bert.encoder.layer = torch.nn.ModuleList(every[number] for number in layers)
        model.config.num_hidden_layers = len(layers)
    if recipe.model.frozen_layers >= len(every):
        raise typer.BadParameter(f"model.frozen_layers must be below the number of layers, {len(every)}.")
    if recipe.model.frozen_layers:
        model.bert.embeddings.requires_grad_(False)
        for layer in every[: recipe.model.frozen_layers]:
            layer.requires_grad_(False)
    elif recipe.model.freeze_word_embeddings:
        model.bert.embeddings.word_embeddings.requires_grad_(False)
    return model


def judge_made(trainer: Trainer, model: Any, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return by kind how often a right answer scores above a wrong one; `score` is their mean."""
    logits = trainer.logits(model, pairs)
    figures = {}
    for kind in ("query", "same_product", "fit"):
        rows = np.array([pair.kind.split(",")[0] == kind for pair in pairs])
        right = np.array([pair.target == 1.0 for pair in pairs])
        if right[rows].any() and not right[rows].all():
            figures[f"auc_{kind}"] = calibration.auc(logits[rows], right[rows])
    return {"score": float(np.mean(list(figures.values()) or [0.0])), **figures}


def judge_graded(trainer: Trainer, model: Any, rows: Sequence[Graded]) -> dict[str, float]:
    """Return nDCG@10 of the judged products of each query; `score` is the same."""
    found = judged_ndcg(rows, trainer.logits(model, [row.pair for row in rows]))
    return {"score": found, "ndcg_at_10": found}


def score(figures: Mapping[str, Any], validated: Mapping[str, float]) -> float:
    """Return what `search-params` goes by: the mean of what there is of relevance and fit.

    Relevance is the nDCG@10 of graded queries that a fold held out, fit the AUC on products of the split
    validation: of what is tested, nothing is chosen by.
    """
    parts = [figures["held_out_ndcg_at_10"], validated.get("auc_fit")]
    return float(np.mean([part for part in parts if part is not None]))


def judged_ndcg(rows: Sequence[Graded], scores: Logits) -> float:
    """Return the mean over queries that have a relevant product; 0 where none has."""
    by_query: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for row, score in zip(rows, scores.tolist(), strict=True):
        by_query[row.query].append((-score, row.grade))
    found = [
        ndcg(np.array([grade for _, grade in sorted(ranked)], float), np.array([g for _, g in ranked], float))
        for ranked in by_query.values()
        if any(grade for _, grade in ranked)
    ]
    return float(np.mean(found)) if found else 0.0


def calibrate(
    folder: Path, model: Any, graded: Sequence[Graded], logits: Logits, folds: NDArray[np.int64]
) -> dict[str, Any]:
    """Put the calibration into the model's last layer; return figures of queries that were held out.

    The folds' logits are taken as what the final model would say of queries it has not seen.
    """
    targets = np.array([row.target for row in graded])
    before = calibration.Platt().scores(logits)
    scores = calibration.cross_fitted(logits, targets, folds)
    platt = calibration.fit(logits, targets)
    head = model.classifier
    head.weight.data *= platt.slope
    head.bias.data = head.bias.data * platt.slope + platt.shift
    with (folder / "held_out.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("query", "item_id", "grade", "fold", "logit", "score"))
        for row, logit, score in zip(graded, logits, scores, strict=True):
            rows.writerow(
                (row.query, row.item_id, row.grade, row.fold, round(float(logit), 5), round(float(score), 5))
            )
    calibration.draw(
        folder / "reliability.png",
        {"before calibration": (before, targets), "after": (scores, targets)},
        "queries held out",
    )
    return {
        "held_out_ndcg_at_10": judged_ndcg(graded, logits),
        "held_out_brier": calibration.brier(scores, targets),
        "held_out_brier_uncalibrated": calibration.brier(before, targets),
        "held_out_brier_of_the_mean": calibration.brier(np.full_like(targets, targets.mean()), targets),
        "held_out_calibration_error": calibration.expected_error(scores, targets),
        "held_out_calibration_error_uncalibrated": calibration.expected_error(before, targets),
        "calibration": {"slope": platt.slope, "shift": platt.shift},
    }


def judge_fit(
    trainer: Trainer, model: Any, validated: Sequence[Pair], tested: Sequence[Pair]
) -> dict[str, Any]:
    """Measure contradictory products of the split test; honest ones of validation give the threshold."""
    honest = [pair for pair in validated if pair.kind == "fit"]
    if not honest or not tested:
        return {}
    scores = calibration.Platt().scores
    threshold = float(np.quantile(scores(trainer.logits(model, honest)), HONEST_HELD_BACK))
    found = scores(trainer.logits(model, tested))
    right = np.array([pair.target == 1.0 for pair in tested])
    kinds = sorted({pair.kind for pair in tested if pair.target == 0.0})
    figures: dict[str, Any] = {
        "fit_auc": calibration.auc(found, right),
        "fit_threshold": threshold,
        "fit_honest_held_back": float((found[right] < threshold).mean()),
    }
    for kind in kinds:
        rows = np.array([pair.kind == kind for pair in tested])
        name = kind.removeprefix("fit, ").replace(" ", "_")
        figures[f"fit_auc_{name}"] = calibration.auc(found[rows | right], right[rows | right])
        figures[f"fit_caught_{name}"] = float((found[rows] < threshold).mean())
    return figures
