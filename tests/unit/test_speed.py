"""Models are timed in turns, on texts of known length, and their steps compared by the Pareto front."""

import json
from pathlib import Path

import pytest
import small_bert
import typer
from model_factory import served
from model_factory.compression import comparison, convert
from model_factory.evaluation import speed
from small_bert import TEXTS
from tokenizers import Tokenizer

LONG = "a wireless mouse with a usb cable for laptops and keyboards of every size " * 8


def test_in_each_round_every_model_has_its_turn_and_another_one_begins() -> None:
    done: list[str] = []
    times = speed.in_turns([lambda: done.append("a"), lambda: done.append("b")], rounds=3)
    assert "".join(done) == "ab" + "ab" + "ba" + "ab"  # once unmeasured
    assert times.wall_s.shape == times.processor_s.shape == (2, 3)
    assert (times.wall_s > 0).all()


def test_texts_of_a_bucket_have_exactly_its_tokens_and_the_mix_is_left_as_it_is() -> None:
    path = served.PUBLISHED_ENCODER / "tokenizer.json"
    works = speed.text_works([LONG, "short"], path, batches=2)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    assert list(works) == ["8", "16", "32", "48", "64", speed.MIX]
    for bucket in list(works)[:-1]:
        (batch,) = works[bucket]
        assert len(batch) == served.BATCH
        assert {len(tokenizer.encode(text).ids) for text in batch} == {int(bucket)}
    assert works[speed.MIX] == [[LONG, "short"]]


def test_where_no_text_is_long_enough_a_bucket_is_left_out() -> None:
    works = speed.text_works(["usb cable with a long name"], served.PUBLISHED_ENCODER / "tokenizer.json", 1)
    assert list(works) == ["8", speed.MIX]


@pytest.fixture
def products(tmp_path: Path) -> Path:
    path = tmp_path / "products.jsonl"
    rows = [{"id": str(number), "title": text, "description": LONG} for number, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_encoders_and_cross_encoders_are_measured_and_laid_out(products: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra [train] writes graphs")
    pytest.importorskip("safetensors", reason="the extra [train] reads weights")
    encoders = []
    for precision in ("int8", "fp32"):
        convert.convert(small_bert.write(tmp_path / "encoder"), tmp_path / precision, precision)
        encoders.append(tmp_path / precision)
    convert.convert(small_bert.write(tmp_path / "pairs", classifier=True), tmp_path / "cross", "int8")
    figures = speed.evaluate(products, encoders, [tmp_path / "cross"], rounds=3, batches=1)
    first, second = (figures["encoders"][str(folder)] for folder in encoders)
    assert first["texts"][speed.MIX]["ratio"] == 1
    assert second["texts"].keys() == {"8", "16", "32", "48", "64", speed.MIX}
    assert first["bytes"] < second["bytes"]
    assert first["one_query_ms"]["p50"] <= first["one_query_ms"]["p95"]
    assert figures["cross_encoders"][str(tmp_path / "cross")]["pairs"]["per_s"] > 0
    texts, pairs = speed.tables(figures)
    assert len(texts.rows) == 2
    assert len(pairs.rows) == 1
    json.dumps(figures)


def test_a_folder_without_a_model_is_a_users_mistake(products: Path, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"holds no model.onnx"):
        speed.evaluate(products, [tmp_path], [])


def row(per_s: float, value: float) -> dict[str, object]:
    figure = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {
        "bytes": 1,
        "per_s": per_s,
        "per_processor_s": per_s,
        "ratio": per_s,
        "quality": {"judged": figure},
        "front": ["judged"],
    }


def test_on_the_front_is_what_none_beats_in_speed_and_quality() -> None:
    rows = {"slow": row(1, 0.9), "fast": row(3, 0.8), "beaten": row(2, 0.7), "same": row(3, 0.8)}
    assert comparison.front(rows, "judged") == {"slow", "fast", "same"}


def test_a_comparison_is_laid_out_and_drawn(tmp_path: Path) -> None:
    rows = {"slow": row(1, 0.9), "fast": row(3, 0.8)}
    assert [line[0] for line in comparison.table(rows).rows] == ["slow", "fast"]
    pytest.importorskip("matplotlib", reason="the extra [train] draws")
    comparison.draw(rows, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("steps", [["a"], ["a=x", "a=y"], ["=x"]])
def test_a_step_has_a_name_of_its_own_and_a_folder(steps: list[str], tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="NAME=FOLDER"):
        comparison.compare(tmp_path, steps, products=tmp_path, qrels=tmp_path)
