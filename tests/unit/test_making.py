"""`make encoder`: from a shop's files to an encoder that can be served, in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_bert
import typer
from model_factory import making, served
from model_factory.training.recipe import EncoderRecipe, read


def test_the_minutes_of_the_trainings_are_those_that_were_asked_for() -> None:
    assert sum(stage.share for stage in making.STAGES) == pytest.approx(1.0)
    for stage in making.STAGES:
        assert read(stage.recipe, EncoderRecipe).budget.minutes == pytest.approx(126 * stage.share)


def test_a_step_whose_result_is_there_is_not_taken_again(tmp_path: Path) -> None:
    def write() -> None:
        taken.append("once")
        (tmp_path / "result").write_text("done")

    taken: list[str] = []
    for _ in range(2):
        making.Steps(tmp_path).take("step", tmp_path / "result", write)
    assert taken == ["once"]
    assert list(json.loads((tmp_path / "steps.json").read_text())) == ["step"]


@pytest.mark.timeout(900)
class TestWithTraining:
    """The whole way, on a tiny shop and a tiny encoder."""

    @pytest.fixture
    def given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        for module in (
            "torch",
            "transformers",
            "tensorboard",
            "matplotlib",
            "pyarrow",
            "onnx",
            "bm25s",
            "datasketch",
        ):
            pytest.importorskip(module, reason="training needs the extra `train`")
        from model_factory.compression import convert

        monkeypatch.setattr(small_bert, "LAYERS", 6)
        base = small_bert.write(tmp_path / "base")
        convert.convert(base, tmp_path / "teacher", "fp32")
        return {
            "data": write_shop(tmp_path / "shop"),
            "output": tmp_path / "made",
            "minutes": 60.0,
            "threads": 1,
            "given": [tmp_path / "teacher"],
            "base": base,
            "precision": "fp32",
            "changes": [
                "budget.steps=3",
                "objectives.same_product.batch_size=8",
                "objectives.query.batch_size=8",
                "objectives.bought_together.weight=0",
                "objectives.distil.batch_size=8",
            ],
        }

    def test_files_become_an_encoder_that_answers_and_nothing_is_done_twice(
        self, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        making.make_encoder(**given)
        version = given["output"] / "version"
        vectors = served.load_encoder(version).encode(["red mouse", "blue bag"])
        assert vectors.shape == (2, small_bert.HIDDEN)
        runs = [
            json.loads((given["output"] / name / "run.json").read_text())
            for name in ("start", "nearer", "last")
        ]
        assert [Path(run["recipe"]["model"]["base"]).parent.name for run in runs[1:]] == ["start", "nearer"]
        took = json.loads((given["output"] / "steps.json").read_text())
        assert list(took) == ["prepare", "distil", "train start", "train nearer", "train last", "export"]
        said = json.loads((version / "MANIFEST.json").read_text())
        assert said["data_sha256"] == json.loads((given["output"] / "data" / "data.json").read_text())["hash"]
        capsys.readouterr()
        making.make_encoder(**given)
        assert capsys.readouterr().err.count("is there already") == len(took)

    def test_a_folder_without_products_is_refused_before_any_work(self, given: dict[str, Any]) -> None:
        (given["data"] / "icecat" / "products.jsonl.gz").unlink()
        with pytest.raises(typer.BadParameter, match="products"):
            making.make_encoder(**given)
        assert not given["output"].exists()


def write_shop(folder: Path) -> Path:
    """Write 60 products and offers of 40 more, in three wordings each, in the layout that is read."""
    import gzip

    colours = ("red", "blue", "green", "white", "black")
    things = ("mouse", "laptop", "bag", "case", "cable", "keyboard")
    (folder / "icecat").mkdir(parents=True)
    products = [
        {
            "id": f"{colour}-{thing}-{size}",
            "title": f"ACME {colour} {thing} ZX-{place}{size} {size} m",
            "description": f"A {colour} {thing} of {size} m, made for number {place}.",
            "brand": "ACME",
            "attributes": {"t_product_colour": colour, "n_cable_length": float(size)},
        }
        for place, colour in enumerate(colours)
        for thing in things
        for size in (2, 5)
    ]
    lines = "\n".join(json.dumps(product) for product in products)
    (folder / "icecat/products.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "pricerunner").mkdir()
    rows = ["product_id,product_title,cluster_id,cluster_label,category_label"]
    for cluster in range(40):
        category = ("Phones", "Dishwashers", "TVs", "Fridges")[cluster % 4]
        colour, thing = colours[cluster % 5], things[cluster % 6]
        for number, wording in enumerate(
            (f"{colour} {thing}", f"the {thing} {colour}", f"cheap {thing}, {colour}")
        ):
            rows.append(
                f"{3 * cluster + number},{wording} zx{cluster},{cluster},Brand ZX{cluster},{category}"
            )
    text = "\n".join(rows) + "\n"
    (folder / "pricerunner/offers.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder
