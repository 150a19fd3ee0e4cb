"""A model in fewer bits, pieces, layers, heads and neurons says what it said, as far as it should."""

import json
from pathlib import Path

import numpy as np
import pytest
import small_bert
import typer

pytest.importorskip("onnx", reason="the extra [train] writes graphs")
pytest.importorskip("safetensors", reason="the extra [train] reads weights")

from model_factory import served
from model_factory.compression import bert, convert, export, parity, prune, quantise, structure, vocabulary
from model_factory.compression.graph import Precision
from small_bert import TEXTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_bert.write(tmp_path / "model")


def encode(folder: Path, precision: Precision = "fp32", texts: list[str] = TEXTS) -> np.ndarray:
    convert.convert(folder, folder / precision, precision)
    return served.load_encoder(folder / precision).encode(texts)


def nodes(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(str(path)).graph.node]


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("fp16", 0.999), ("int8", 0.97)])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_encoder_says_what_it_says_in_torch(folder: Path, precision, least: float, pooling) -> None:
    pytest.importorskip("torch", reason="the extra [train] has the reference")
    convert.convert(folder, folder / "made", precision, pooling)
    figures = parity.compare(folder / "made", parity.torch_vectors(folder, TEXTS, 64, pooling), TEXTS)
    assert figures["with_torch"]["min"] >= least
    assert not parity.too_far(figures, precision)


@pytest.mark.parametrize("activation", ["relu", "gelu_new"])
def test_other_activations_are_those_of_torch(tmp_path: Path, activation: str) -> None:
    pytest.importorskip("torch", reason="the extra [train] has the reference")
    folder = small_bert.write(tmp_path / "model", hidden_act=activation)
    expected = parity.torch_vectors(folder, TEXTS, 64, "mean")
    assert (encode(folder) * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize(("precision", "furthest"), [("fp32", 1e-5), ("fp16", 0.01), ("int8", 0.1)])
def test_a_cross_encoder_scores_as_in_torch(tmp_path: Path, precision, furthest: float) -> None:
    torch = pytest.importorskip("torch", reason="the extra [train] has the reference")
    from tokenizers import Tokenizer
    from transformers import BertForSequenceClassification

    folder = small_bert.write(tmp_path / "model", classifier=True)
    convert.convert(folder, folder / "made", precision)
    pairs = [(left, right) for left in TEXTS[:3] for right in TEXTS]
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = []
    for pair in pairs:
        read = tokenizer.encode(*pair)
        ids, kinds = torch.tensor([read.ids]), torch.tensor([read.type_ids])
        with torch.inference_mode():
            expected.append(torch.sigmoid(model(input_ids=ids, token_type_ids=kinds).logits)[0, 0].item())
    scores = served.load_cross_encoder(folder / "made").score(pairs)
    assert np.abs(scores - np.array(expected)).max() < furthest


def test_vectors_do_not_depend_on_the_other_texts_of_a_batch(folder: Path) -> None:
    together = encode(folder)
    alone = np.concatenate([served.load_encoder(folder / "fp32").encode([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)


def test_no_norm_is_fused_into_the_slow_operator_of_the_cpu(folder: Path, tmp_path: Path) -> None:
    import onnxruntime

    convert.convert(folder, tmp_path, "int8")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    made = nodes(tmp_path / "optimised.onnx")
    assert made.count("LayerNormalization") == 2 * small_bert.LAYERS
    assert made.count("SkipLayerNormalization") <= 1  # that of the embeddings


def test_a_texts_vector_stays_the_same_where_all_its_pieces_are_kept(folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("red mouse\nlaptop bag with cable\n")
    small = tmp_path / "small"
    prune.prune(folder, small, texts=[lines], pieces=True, general=0)
    kept = ["red mouse", "cable bag", "with red laptop", "b a g"]
    assert np.array_equal(encode(folder, texts=kept), encode(small, texts=kept))
    assert bert.read(small).config["vocab_size"] < bert.read(folder).config["vocab_size"]
    assert json.loads((small / "training.json").read_text())["pruned"]["vocabulary"] > 0


def test_a_word_whose_piece_is_gone_is_spelt_and_never_unknown(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    lines = tmp_path / "lines.txt"
    lines.write_text("red mouse\n")
    prune.prune(folder, tmp_path / "small", texts=[lines], pieces=True, general=0)
    pieces = Tokenizer.from_file(str(tmp_path / "small" / "tokenizer.json")).encode("keyboard").tokens
    assert "[UNK]" not in pieces
    assert len(pieces) == len("keyboard") + 2


def test_general_words_stay_though_no_text_has_them(folder: Path) -> None:
    told = json.loads((folder / "tokenizer.json").read_text())
    vocab = told["model"]["vocab"]
    few = vocabulary.kept(told, {}, least=1, general=0)
    more = vocabulary.kept(told, {}, least=1, general=2)
    assert sorted(set(more) - set(few)) == [vocab["blue"], vocab["mouse"]]
    assert few == sorted(few)


def test_silenced_heads_are_left_out_of_the_graph_and_change_nothing_else(folder: Path) -> None:
    model = bert.read(folder)
    importance = np.tile(np.arange(small_bert.HEADS, dtype=float), (small_bert.LAYERS, 1))
    quiet = structure.keep_heads(model, importance, 2)
    assert quiet.layer(0).query.shape == (small_bert.HIDDEN, 2 * model.head_width)
    smaller = folder.parent / "quiet"
    smaller.mkdir()
    bert.save(quiet, smaller)
    (smaller / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    pytest.importorskip("torch", reason="the extra [train] has the reference")
    expected = parity.torch_vectors(smaller, TEXTS, 64, "mean")
    for precision in ("fp32", "fp16"):
        assert (encode(smaller, precision) * expected).sum(axis=1).min() > 0.999


def test_neurons_that_add_nothing_can_go_without_a_change(folder: Path) -> None:
    model = bert.read(folder)
    dead = dict(model.weights)
    for layer in range(small_bert.LAYERS):
        dead[f"encoder.layer.{layer}.output.dense.weight"] = dead[
            f"encoder.layer.{layer}.output.dense.weight"
        ].copy()
        dead[f"encoder.layer.{layer}.output.dense.weight"][:, ::3] = 0
    model = model.having(dead)
    lengths = np.stack(
        [
            np.abs(dead[f"encoder.layer.{layer}.output.dense.weight"]).sum(axis=0)
            for layer in range(small_bert.LAYERS)
        ]
    )
    narrow = structure.keep_neurons(model, lengths, 32)
    assert narrow.config["intermediate_size"] == 32
    for layer in range(small_bert.LAYERS):
        assert np.array_equal(model.layer(layer).up, narrow.layer(layer).up)
        assert np.array_equal(model.layer(layer).down, narrow.layer(layer).down)


def test_layers_heads_and_neurons_are_pruned_by_one_command(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra [train] weighs heads and neurons")
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS))
    small = tmp_path / "small"
    prune.prune(folder, small, texts=[lines], layers="0,2", heads=3, neurons=32)
    expected = parity.torch_vectors(small, TEXTS, 64, "mean")
    assert (encode(small) * expected).sum(axis=1).min() > 0.9999
    assert bert.read(small).layers == 2
    assert bert.read(small).layer(1).query.shape[1] == 3 * small_bert.HIDDEN // small_bert.HEADS


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"layers": "0,9"}, "0 to 2"),
        ({"layers": "first"}, "0,2,5"),
        ({"neurons": 999}, "1 to 48"),
        ({}, "say what to prune"),
    ],
)
def test_what_cannot_be_pruned_is_said(folder: Path, tmp_path: Path, how, said: str) -> None:
    if "neurons" in how:
        pytest.importorskip("torch", reason="the extra [train] weighs neurons")
    lines = tmp_path / "lines.txt"
    lines.write_text("red mouse")
    with pytest.raises(typer.BadParameter, match=said):
        prune.prune(folder, tmp_path / "small", texts=[lines], **how)


def test_a_model_that_cannot_be_merged_is_not_exported(folder: Path, tmp_path: Path) -> None:
    (folder / "training.json").write_text(
        json.dumps({"exportable": False, "model_is": "an encoder and its prefix"})
    )
    with pytest.raises(typer.BadParameter, match="an encoder and its prefix"):
        convert.convert(folder, tmp_path, "int8")


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"holds no config.json"):
        bert.read(tmp_path)


def test_quantising_writes_what_serves(folder: Path, tmp_path: Path) -> None:
    quantise.quantise(folder, tmp_path / "int8", "int8")
    vectors = served.load_encoder(tmp_path / "int8").encode(TEXTS)
    assert vectors.shape == (len(TEXTS), small_bert.HIDDEN)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_manifest_names_files_and_not_where_they_lay_on_a_machine() -> None:
    said = {"recipe": {"vectors": "/somewhere/distil.npz", "layers": [0, 2]}, "base": "by/name"}
    assert export.portable(said) == {
        "recipe": {"vectors": "distil.npz", "layers": [0, 2]},
        "base": "by/name",
    }
