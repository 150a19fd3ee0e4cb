"""Fine-tuning of the encoder, on a tiny model and tiny data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("transformers", reason="training needs the extra `train`")
pytest.importorskip("peft", reason="training needs the extra `train`")
pytest.importorskip("tensorboard", reason="training needs the extra `train`")
pytest.importorskip("pyarrow", reason="training needs the extra `train`")

from model_factory.training import encoder, losses, methods  # noqa: E402
from model_factory.training.pairs import Batches  # noqa: E402
from model_factory.training.texts import Texts  # noqa: E402
from tiny_encoder import COLOURS, THINGS, make_base, make_data  # noqa: E402
from tiny_encoder import make_recipe as recipe  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


def losses_of(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_loss_falls_and_quality_on_unseen_products_rises(base: Path, data: Path, tmp_path: Path) -> None:
    summary = encoder.train(data, tmp_path / "run", recipe(base, budget={"steps": 60}))
    losses = losses_of(tmp_path / "run")
    assert losses[-1] < 0.7 * losses[0]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    before = next(row["validation"]["score"] for row in rows if row["step"] == 0)
    assert summary["figures"]["score"] > before
    for name in ("loss.png", "validation.png", "model/config.json", "model/tokenizer.json"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert summary["data"] == "of the tiny data"
    assert json.loads((tmp_path / "run" / "model" / "training.json").read_text()) == summary


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    base: Path, data: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        encoder.train(data, tmp_path / name, recipe(base, seed=seed, budget={"steps": 8}, robust=0.3))
    one, two, three = (weights(tmp_path / name) for name in ("one", "two", "three"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)


KILLED = """
import os, signal, sys
from pathlib import Path
from model_factory.training import encoder
from model_factory.training.recipe import EncoderRecipe, check
import json
folder, data, said, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
done, backward = 0, encoder.backward
def counted(*args):
    global done
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    return backward(*args)
encoder.backward = counted
encoder.train(data, folder, check(said, EncoderRecipe, "test"))
"""


@pytest.mark.parametrize("kind", ["full", "adalora"])
def test_a_run_killed_at_any_step_and_resumed_ends_with_the_weights_of_one_that_was_not(
    kind: str, base: Path, data: Path, tmp_path: Path
) -> None:
    import msgspec

    said = recipe(base, method={"kind": kind, "rank": 2}, robust=0.2, model={"dropout": 0.1})
    encoder.train(data, tmp_path / "whole", said)
    arguments = [str(tmp_path / "killed"), str(data), json.dumps(msgspec.to_builtins(said)), "17"]
    code = [sys.executable, "-P", "-c", KILLED, *arguments]
    killed = subprocess.run(code, env=_environment(), capture_output=True, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    encoder.train(data, tmp_path / "killed", said, resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "killed"))
    steps = [[json.loads(line)["step"] for line in rows.splitlines()] for rows in (first, second)]
    assert steps[0] == steps[1]


def _environment() -> dict[str, str]:
    import model_factory

    place = str(Path(model_factory.__file__).parent.parent)
    paths = [path for path in (os.environ.get("PYTHONPATH"),) if path] or (
        [] if "triton" in place else [place]
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} if paths else dict(os.environ)


def test_a_folder_that_holds_a_run_is_not_overwritten(base: Path, data: Path, tmp_path: Path) -> None:
    encoder.train(data, tmp_path / "run", recipe(base, budget={"steps": 2}))
    with pytest.raises(typer.BadParameter, match="--resume"):
        encoder.train(data, tmp_path / "run", recipe(base, budget={"steps": 2}))


def test_a_run_is_not_resumed_with_another_recipe(base: Path, data: Path, tmp_path: Path) -> None:
    encoder.train(data, tmp_path / "run", recipe(base, budget={"steps": 2}))
    with pytest.raises(typer.BadParameter, match="seed"):
        encoder.train(data, tmp_path / "run", recipe(base, seed=99, budget={"steps": 2}), resume=True)


def test_training_stops_early_and_keeps_the_best_weights(base: Path, data: Path, tmp_path: Path) -> None:
    hopeless = recipe(
        base,
        optimiser={"learning_rate": 1e-12},
        budget={"steps": 500},
        validation={"every_steps": 2, "patience": 3},
    )
    summary = encoder.train(data, tmp_path / "run", hopeless)
    assert summary["steps"] == 6
    assert summary["best_step"] == 0
    assert "has not risen" in summary["stopped"]


LEARNING = {
    "full": lambda name: "word_embeddings" not in name,
    "lora": lambda name: "lora_" in name,
    "adalora": lambda name: "lora_" in name,
    "adapter": lambda name: ".down." in name or ".up." in name or "output.LayerNorm" in name,
    "prefix": lambda name: "prompt_encoder" in name,
}


@pytest.mark.parametrize("kind", LEARNING)
def test_every_method_changes_only_the_weights_that_it_says(
    kind: str, base: Path, data: Path, tmp_path: Path
) -> None:
    said = recipe(base, method={"kind": kind, "rank": 2, "adapter_width": 4}, budget={"steps": 20})
    learner = methods.prepare(encoder.load(base, said), said, 20)
    before = {name: value.clone() for name, value in learner.module.state_dict().items()}
    corpus, _ = encoder.tokenise(data, said, base)
    embedder = encoder.Embedder(learner.module, corpus.texts, said, "cpu")
    batches = Batches(corpus, said.objectives, 0.0, 1)
    learning = [p for p in learner.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=0.01)
    for step in range(3):
        optimiser.zero_grad()
        encoder.backward(embedder, batches.draw(step), said, learner.penalty)
        optimiser.step()
        if learner.after_step is not None:
            learner.after_step(step + 1)
    after = learner.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    named = dict(learner.module.named_parameters())
    assert {name for name, p in named.items() if p.requires_grad} == set(filter(LEARNING[kind], named))
    assert changed
    assert all(LEARNING[kind](name) for name in changed)


@pytest.mark.parametrize("kind", ["lora", "adalora"])
def test_merged_weights_give_the_vectors_of_the_trained_module(
    kind: str, base: Path, data: Path, tmp_path: Path
) -> None:
    said = recipe(base, method={"kind": kind, "rank": 2})
    summary = encoder.train(data, tmp_path / "run", said)
    assert summary["exportable"]
    assert weights(tmp_path / "run").keys() == _state(base).keys()
    again = recipe(tmp_path / "run" / "model", budget={"steps": 1}, validation={"keep": "best"})
    _, judge = encoder.tokenise(data, again, tmp_path / "run" / "model")
    corpus, judge = encoder.tokenise(data, again, base)
    embedder = encoder.Embedder(
        encoder.load(tmp_path / "run" / "model", again).eval(), corpus.texts, again, "cpu"
    )
    with torch.inference_mode():
        figures = judge.measure(embedder.embed)
    assert figures == pytest.approx({name: summary["figures"][name] for name in figures})


def _state(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_layers_are_kept_as_the_recipe_says(base: Path) -> None:
    said = recipe(base, model={"layers": [1]})
    kept = encoder.load(base, said)
    assert kept.config.num_hidden_layers == 1
    original = _state(base)
    name = "encoder.layer.{}.output.dense.weight"
    assert torch.equal(kept.state_dict()[name.format(0)], original[name.format(1)])


def test_a_prefix_reaches_the_layers_that_are_kept(base: Path, data: Path) -> None:
    said = recipe(base, model={"layers": [1]}, method={"kind": "prefix"})
    learner = methods.prepare(encoder.load(base, said), said, None)
    corpus, _ = encoder.tokenise(data, said, base)
    embedder = encoder.Embedder(learner.module, corpus.texts, said, "cpu")
    encoder.backward(embedder, Batches(corpus, said.objectives, 0.0, 1).draw(0), said, None)
    learning = [p for p in learner.module.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learning)


def test_an_average_with_the_base_lies_between_the_base_and_the_trained_weights(
    base: Path, data: Path, tmp_path: Path
) -> None:
    for name, share in (("trained", 0.0), ("half", 0.5)):
        encoder.train(
            data,
            tmp_path / name,
            recipe(base, model={"average_with_base": share}, validation={"keep": "last"}),
        )
    original, trained, half = _state(base), weights(tmp_path / "trained"), weights(tmp_path / "half")
    for name in original:
        torch.testing.assert_close(half[name], (original[name] + trained[name]) / 2)


def test_cached_gradients_are_those_of_one_large_batch(base: Path, data: Path) -> None:
    gradients = []
    for cached in (False, True):
        said = recipe(base, contrast={"gradient_cache": cached, "chunk_tokens": 64})
        module = methods.prepare(encoder.load(base, said), said, None).module
        corpus, _ = encoder.tokenise(data, said, base)
        embedder = encoder.Embedder(module, corpus.texts, said, "cpu")
        encoder.backward(embedder, Batches(corpus, said.objectives, 0.0, 1).draw(0), said, None)
        gradients.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_no_candidate_that_belongs_to_an_anchor_counts_as_wrong(base: Path, data: Path) -> None:
    said = recipe(base, objectives={"same_product": {"batch_size": 64}, "query": None})
    corpus, _ = encoder.tokenise(data, said, base)
    batch = Batches(corpus, said.objectives, 0.0, 1).draw(0)
    texts = corpus.texts.known()
    for row, target in enumerate(batch.targets):
        anchor = texts[batch.inputs[batch.anchors[row]]].split()
        for place, candidate in enumerate(batch.candidates):
            same = set(texts[batch.inputs[candidate]].split()) & set(anchor) & set(COLOURS + THINGS)
            if len(same) == 2 and place != target:
                assert batch.excluded[row, place]
        assert not batch.excluded[row, target]


def test_a_batch_holds_pairs_that_are_alike_where_the_recipe_asks(base: Path, data: Path) -> None:
    said = recipe(base, objectives={"same_product": None, "query": {"batch_size": 12, "similar": 4}})
    corpus, _ = encoder.tokenise(data, said, base)
    batch = Batches(corpus, said.objectives, 0.0, 1).draw(0)
    texts = corpus.texts.known()
    first = [texts[number].split()[0] for number in batch.inputs[batch.anchors]]
    assert [len(set(first[start : start + 4])) for start in (0, 4, 8)] == [1, 1, 1]


@pytest.mark.parametrize(("symmetric", "within"), [(False, False), (True, False), (True, True)])
def test_the_contrast_is_the_cross_entropy_of_the_right_answer(
    symmetric: bool, within: bool, base: Path, data: Path
) -> None:
    said = recipe(base, contrast={"symmetric": symmetric, "within": within, "temperature": 0.5})
    corpus, _ = encoder.tokenise(data, said, base)
    batch = Batches(corpus, said.objectives, 0.0, 1).draw(0)
    vectors = torch.nn.functional.normalize(torch.randn(len(batch.inputs), 8), dim=1)
    found = losses.contrast(vectors, batch, said.contrast).item()
    rows = vectors.numpy().astype(np.float64)
    groups = corpus.pairs[batch.objective]

    def group(number: int) -> set[int]:
        sides = (groups.anchors == number) | (groups.positives == number)
        return set(groups.groups[sides].tolist())

    def term(own: int, right: int, others: list[int]) -> float:
        family = group(batch.inputs[own]) & group(batch.inputs[right])
        wrong = [o for o in set(others) - {own, right} if not group(batch.inputs[o]) & family]
        scores = np.exp(rows[[right, *wrong]] @ rows[own] / 0.5)
        return float(-np.log(scores[0] / scores.sum()))

    anchors, candidates = batch.anchors.tolist(), batch.candidates.tolist()
    right = [candidates[target] for target in batch.targets]
    forth = [term(a, r, candidates + anchors * within) for a, r in zip(anchors, right, strict=True)]
    back = [term(r, a, anchors + right * within) for a, r in zip(anchors, right, strict=True)]
    expected = np.mean(forth) if not symmetric else (np.mean(forth) + np.mean(back)) / 2
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("similar", [1, 6])
def test_each_epoch_draws_every_pair_once(similar: int, base: Path, data: Path) -> None:
    table = {"batch_size": 12, "similar": similar}
    said = recipe(base, objectives={"same_product": table, "query": None})
    corpus, _ = encoder.tokenise(data, said, base)
    batches = Batches(corpus, said.objectives, 0.0, 1)
    assert batches.steps_per_epoch == 8
    for _ in range(2):
        drawn = [batches.draw(step) for step in range(8)]
        anchors = np.sort(np.concatenate([batch.inputs[batch.anchors] for batch in drawn]))
        assert np.array_equal(anchors, np.sort(corpus.pairs["same_product"].anchors))


@pytest.mark.parametrize("asymmetric", [False, True])
def test_an_encoder_learns_the_similarities_of_a_teacher(
    asymmetric: bool, base: Path, data: Path, tmp_path: Path
) -> None:
    texts = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    colours, things = np.eye(8)[np.arange(64) // 8], np.eye(8)[np.arange(64) % 8]
    vectors = np.concatenate([colours, 0.5 * things], axis=1)
    tables = {"texts": np.array(texts), "vectors": vectors}
    if asymmetric:
        tables["is_query"] = np.arange(64) % 2 == 0
    np.savez(tmp_path / "teacher.npz", **tables)
    said = recipe(
        base,
        objectives={
            "same_product": None,
            "query": None,
            "distil": {"vectors": str(tmp_path / "teacher.npz"), "batch_size": 16, "neighbours": 1},
        },
        budget={"steps": 60},
        validation={"every_steps": 60, "keep": "last"},
    )
    encoder.train(data, tmp_path / "run", said)
    losses = losses_of(tmp_path / "run")
    assert losses[-1] < 0.6 * losses[0]


def test_texts_are_encoded_alike_alone_and_in_chunks_of_any_size(base: Path, data: Path) -> None:
    said = recipe(base)
    texts = Texts(base / "tokenizer.json", 16)
    numbers = texts.add([f"the {colour} {'large ' * length}mug" for length, colour in enumerate(COLOURS)])
    module = encoder.load(base, said).eval()
    with torch.inference_mode():
        together = encoder.Embedder(module, texts, said, "cpu").embed(numbers)
        for row, number in enumerate(numbers):
            alone = encoder.Embedder(module, texts, said, "cpu").embed(np.array([number]))
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_missing_data_and_teachers_are_told_with_a_cure(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="model-factory prepare"):
        encoder.train(tmp_path, tmp_path / "run", recipe(base))
    distil = {"distil": {"vectors": str(tmp_path / "none.npz")}}
    with pytest.raises(typer.BadParameter, match="model-factory distil"):
        encoder.train(data, tmp_path / "run", recipe(base, objectives=distil))
    with pytest.raises(typer.BadParameter, match="bought_together"):
        encoder.train(data, tmp_path / "run2", recipe(base, objectives={"bought_together": {}}))
    with pytest.raises(typer.BadParameter, match="layers"):
        encoder.train(data, tmp_path / "run3", recipe(base, model={"layers": [7]}))
