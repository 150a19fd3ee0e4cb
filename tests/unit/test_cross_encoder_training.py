"""Training of the cross-encoder, on a tiny model and tiny data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("transformers", reason="training needs the extra `train`")
pytest.importorskip("tensorboard", reason="training needs the extra `train`")
pyarrow = pytest.importorskip("pyarrow", reason="training needs the extra `train`")

from model_factory import served  # noqa: E402
from model_factory.training import calibration, cross_encoder, relevance  # noqa: E402
from model_factory.training.recipe import check  # noqa: E402
from model_factory.training.relevance import Pair, Tokens  # noqa: E402

COLOURS = ["red", "green", "blue", "white", "black", "grey", "pink", "brown"]
THINGS = ["mug", "lamp", "chair", "phone", "cable", "fridge", "desk", "kettle"]
BRANDS = ["acme", "hooli"]
WORDS = [*COLOURS, *THINGS, *BRANDS, "buy", "new", "the", "a"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of three layers with a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("base")
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=96,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of 128 products and 8 graded queries."""
    folder = tmp_path_factory.mktemp("data")
    products, pairs, graded = [], [], []
    for place, colour in enumerate(COLOURS):
        split = {6: "validation", 7: "test"}.get(place, "train")
        for thing in THINGS:
            for brand in BRANDS:
                text = f"{brand} the {colour} {thing}"
                attributes = json.dumps({"colour": colour})
                products.append((text, text, brand, thing, attributes, split))
            others = [f"a {colour} {other}" for other in THINGS if other != thing]
            told = (f"{colour}-{thing}", split)
            pairs.append((f"{colour} {thing}", f"the new {colour} {thing}", others[:2], "query", *told))
            pairs.append((f"a {colour} {thing}", f"new {thing} {colour}", others[2:4], "same_product", *told))
    for fold, thing in enumerate(THINGS):
        for number, other in enumerate(THINGS):
            for colour in COLOURS[:3]:
                grade = 3 if other == thing else 1 if colour == "red" else 0
                graded.append(
                    (f"buy {thing}", f"{number}-{colour}", f"the {colour} {other}", grade, fold % 5)
                )
    write(folder, "products", ("title", "text", "brand", "category", "attributes", "split"), products)
    write(folder, "pairs", ("anchor", "positive", "negatives", "objective", "group", "split"), pairs)
    write(folder, "graded", ("query", "item_id", "text", "grade", "fold"), graded)
    (folder / "data.json").write_text(json.dumps({"hash": "of the tiny data"}))
    return folder


def write(folder: Path, name: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from pyarrow import parquet

    table = pyarrow.table({column: [row[place] for row in rows] for place, column in enumerate(columns)})
    parquet.write_table(table, folder / f"{name}.parquet")


def recipe(base: Path, **tables: Any) -> cross_encoder.CrossEncoderRecipe:
    said: dict[str, Any] = {
        "batch_size": 16,
        "model": {"base": str(base), "layers": [0, 2], "dropout": 0.0, "freeze_word_embeddings": False},
        "made": {"query": 60, "same_product": 60, "fit": 120, "validated": 20},
        "graded": {"epochs": 2, "learning_rate": 2e-3, "frozen_layers": 1},
        "optimiser": {"learning_rate": 2e-3},
        "budget": {"epochs": 4},
        "validation": {"every_steps": 20},
        "machine": {"threads": 1, "checkpoint_every_steps": 10},
    }
    for name, table in tables.items():
        said[name] = {**said.get(name, {}), **table}
    return check(said, cross_encoder.CrossEncoderRecipe, "test")


@pytest.fixture(scope="module")
def trained(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    cross_encoder.train(data, folder, recipe(base))
    return folder


def test_the_loss_falls_and_the_run_says_what_it_is_from(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "made" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    said = json.loads((trained / "model" / "training.json").read_text())
    assert said["data"] == "of the tiny data"
    assert {"held_out_brier", "held_out_calibration_error", "fit_auc", "fit_threshold"} <= set(
        said["figures"]
    )
    assert (trained / "reliability.png").stat().st_size > 0


def test_no_fold_learns_from_a_query_that_it_is_measured_on(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: dict[str, list[Pair]] = {}
    original = cross_encoder.Trainer.stage

    def stage(self: Any, name: str, start: Any, recipe: Any, pairs: list[Pair], *others: Any) -> Any:
        learnt[name] = pairs
        return original(self, name, start, recipe, pairs, *others)

    monkeypatch.setattr(cross_encoder.Trainer, "stage", stage)
    few = recipe(base, budget={"steps": 1, "epochs": 1.0}, graded={"epochs": 0.1})
    cross_encoder.train(data, tmp_path / "run", few)
    with (tmp_path / "run" / "held_out.csv").open() as file:
        held_out = list(csv.DictReader(file))
    assert len(held_out) == len(relevance.read_graded(data))
    for row in held_out:
        assert row["query"] not in {pair.left for pair in learnt[f"fold-{row['fold']}"]}


def test_a_query_in_two_folds_is_refused(tmp_path: Path) -> None:
    rows = [("a mug", "1", "mug", 3, 0), ("a mug", "2", "lamp", 0, 1)]
    write(tmp_path, "graded", ("query", "item_id", "text", "grade", "fold"), rows)
    with pytest.raises(typer.BadParameter, match="several folds"):
        relevance.read_graded(tmp_path)


def test_an_interrupted_training_goes_on_after_the_stages_it_finished(
    base: Path, data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = cross_encoder.Trainer.stage

    def stopping(self: Any, name: str, *others: Any) -> Any:
        if name == "fold-1":
            raise KeyboardInterrupt
        return original(self, name, *others)

    with monkeypatch.context() as patched:
        patched.setattr(cross_encoder.Trainer, "stage", stopping)
        with pytest.raises(KeyboardInterrupt):
            cross_encoder.train(data, tmp_path / "run", recipe(base))
    cross_encoder.train(data, tmp_path / "run", recipe(base), resume=True)
    from safetensors.numpy import load_file

    one, other = (load_file(run / "model" / "model.safetensors") for run in (trained, tmp_path / "run"))
    assert all(np.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_pairs_are_cut_as_the_served_code_cuts_them(base: Path) -> None:
    batching = served.batching("cross_encoder")
    tokens = Tokens(base / "tokenizer.json", batching.MAX_TOKENS)
    for left, right in ((3, 5), (40, 200), (0, 0), (24, 69), (24, 70)):
        ids, first = tokens.join([Pair("red " * left, "mug " * right, 0.0, "")])[0]
        joined = batching.join([4] * left, [12] * right, 2, 3)
        assert ids.tolist() == joined.token_ids
        assert len(ids) - first == joined.right


def test_a_contradictory_product_says_something_that_its_text_does_not(data: Path) -> None:
    pairs = relevance.made(data, "train", {"fit": 500}, 0.2, seed=1)
    wrong = [pair for pair in pairs if pair.target == 0.0]
    assert {pair.kind for pair in wrong} == {f"fit, other {swap}" for swap in relevance.SWAPS}
    for pair in wrong:
        brand, category, *_ = pair.left.split()
        assert brand not in pair.right or category not in pair.right


def test_the_last_layer_over_remembered_states_says_what_the_whole_model_says(
    base: Path, tmp_path: Path
) -> None:
    said = recipe(base, model={"frozen_layers": 1})
    tokens = Tokens(base / "tokenizer.json", 48)
    trainer = cross_encoder.Trainer(tmp_path, said, base, tokens, {}, "cpu")
    model = cross_encoder.load(base, said, (0, 2)).eval()
    assert cross_encoder.only_last_learns(model)
    pairs = [Pair("red mug", "the new red mug " * times, 1.0, "") for times in (1, 2, 5)]
    with torch.inference_mode():
        expected = model(**tokens.batch(tokens.join(pairs))).logits.squeeze(1).numpy()
    np.testing.assert_allclose(trainer.logits(model, pairs), expected, atol=1e-5)


def test_batches_hold_every_pair_at_most_once_and_those_of_like_length(base: Path) -> None:
    lengths = np.random.default_rng(1).integers(5, 60, 1_000)
    cut = cross_encoder.batches(lengths, 16, seed=3)
    assert len(cut) == 1_000 // 16
    rows = np.concatenate(cut)
    assert len(set(rows.tolist())) == len(rows)
    assert np.mean([np.ptp(lengths[batch]) for batch in cut]) < 12


def test_calibrated_scores_rise_with_the_logit_and_stay_between_0_and_1() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, 2_000)
    targets = (rng.random(2_000) < 1 / (1 + np.exp(1.0 - 0.5 * logits))).astype(float)
    platt = calibration.fit(logits, targets)
    assert platt.slope == pytest.approx(0.5, abs=0.08)
    scores = platt.scores(np.linspace(-500, 500, 1_001))
    assert np.all(np.diff(scores) >= 0)
    assert scores.min() >= 0
    assert scores.max() <= 1
    before = calibration.Platt().scores(logits)
    after = platt.scores(logits)
    assert calibration.expected_error(after, targets) < calibration.expected_error(before, targets)
    assert calibration.brier(after, targets) < calibration.brier(before, targets)


def test_calibration_rises_even_where_the_logits_are_the_wrong_way_round() -> None:
    logits = np.linspace(-3, 3, 100)
    assert calibration.fit(logits, (logits < 0).astype(float)).slope > 0


def test_auc_is_the_share_of_couples_in_the_right_order() -> None:
    assert calibration.auc([0.1, 0.2, 0.3], [False, True, True]) == 1.0
    assert calibration.auc([0.5, 0.5], [False, True]) == 0.5
    assert calibration.auc([0.9, 0.1, 0.5], [False, True, True]) == 0.0


def test_the_exported_graph_says_what_torch_says_and_pairs_packed_together_score_as_alone(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="exporting needs the extra `train`")
    from model_factory.compression import convert, cross_encoder_export

    rows = relevance.read_graded(data)[::4]
    pairs = [(row.query, row.text) for row in rows]
    convert.convert(trained / "model", tmp_path, "fp32")
    expected = cross_encoder_export.torch_scores(trained / "model", pairs)
    found = cross_encoder_export.compare(tmp_path, expected, pairs)
    assert found["with_torch"]["most"] < 1e-4
    assert found["alone_with_in_a_batch"]["most"] < 1e-4


def test_an_export_is_described_by_its_manifest(trained: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="exporting needs the extra `train`")
    from model_factory.compression.cross_encoder_export import export_cross_encoder

    export_cross_encoder(trained / "model", tmp_path / "1", data)
    said = json.loads((tmp_path / "1" / "MANIFEST.json").read_text())
    assert said["data_sha256"] == "of the tiny data"
    assert set(said["files"]) == {"model.onnx", "tokenizer.json", "model.py"}
    scores = served.load_cross_encoder(tmp_path / "1").score([("buy mug", "the red mug")])
    assert 0.0 <= scores[0] <= 1.0


@pytest.mark.timeout(900)
class TestSearch:
    """`search-params cross-encoder`."""

    @pytest.fixture
    def tried(self, base: Path, data: Path, tmp_path: Path) -> dict[str, Any]:
        pytest.importorskip("optuna", reason="training needs the extra `train`")
        from model_factory.training.search_params import Searched

        said = tmp_path / "tiny.toml"
        said.write_text(
            f"""
            batch_size = 16
            model = {{ base = "{base}", layers = [0, 2], dropout = 0.0, freeze_word_embeddings = false }}
            made = {{ query = 60, same_product = 60, fit = 120, validated = 20 }}
            graded = {{ epochs = 0.1, learning_rate = 2e-3, frozen_layers = 1 }}
            optimiser.learning_rate = 2e-3
            budget.epochs = 4
            validation.every_steps = 20
            machine.threads = 1
            """
        )
        return {
            "model": Searched.cross_encoder,
            "recipe": str(said),
            "changes": [],
            "data": data,
            "output": tmp_path / "search",
            "storage": f"sqlite:///{tmp_path}/study.db",
        }

    def test_a_trial_is_worth_its_held_out_queries_and_the_fit_of_unseen_products(
        self, tried: dict[str, Any]
    ) -> None:
        from model_factory.training.search_params import Range, Sampler, search, write_best

        rates = {"optimiser.learning_rate": Range(choices=[1e-9, 2e-3])}
        study = search(**tried, space=rates, sampler=Sampler.grid, trials=2)
        best = write_best(study, tried["output"])
        assert best["set"] == ["optimiser.learning_rate=0.002"]
        run = tried["output"] / f"trial-{best['trial']:04}"
        figures = json.loads((run / "model" / "training.json").read_text())["figures"]
        assert best["value"] == figures["score"]
        validated = json.loads((run / "all" / "model" / "training.json").read_text())["figures"]
        expected = (figures["held_out_ndcg_at_10"] + validated["auc_fit"]) / 2
        assert figures["score"] == pytest.approx(expected)
        assert not [*tried["output"].rglob("*.safetensors"), *tried["output"].rglob("*.pt")]
        assert len(search(**tried, space=rates, sampler=Sampler.grid, trials=2).trials) == 2

    def test_trials_whose_made_pairs_fall_behind_learn_from_no_grade(self, tried: dict[str, Any]) -> None:
        import optuna
        from model_factory.training.search_params import STUDY, Range, Sampler, draw, search

        rates = [1e-3, 2e-3, 3e-3, 4e-3, 1e-12]
        study = optuna.create_study(study_name=STUDY, storage=tried["storage"], direction="maximize")
        for rate in rates:
            study.enqueue_trial({"optimiser.learning_rate": rate})
        space = {"optimiser.learning_rate": Range(choices=rates)}
        study = search(**tried, space=space, sampler=Sampler.tpe, trials=5)
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["PRUNED"]
        folders = [tried["output"] / f"trial-{number:04}" for number in range(5)]
        assert [(folder / "fold-0").exists() for folder in folders] == [True] * 4 + [False]
        draw(study, tried["output"])
        for name in ("history.png", "slice.png", "importance.png"):
            assert (tried["output"] / name).stat().st_size > 0

    def test_a_study_of_one_model_is_not_gone_on_with_for_another(self, tried: dict[str, Any]) -> None:
        import optuna
        from model_factory.training.search_params import STUDY, Range, Sampler, search

        study = optuna.create_study(study_name=STUDY, storage=tried["storage"], direction="maximize")
        study.set_user_attr("search", {"model": "encoder"})
        with pytest.raises(typer.BadParameter, match="another model"):
            search(**tried, space={"seed": Range(low=1, high=9)}, sampler=Sampler.random, trials=1)
