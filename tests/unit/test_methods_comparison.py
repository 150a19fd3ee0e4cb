"""The table that compares the methods of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from model_factory.training.comparison import compare_methods, markdown

FIGURES = {
    "score": 0.5,
    "same_product_accuracy_at_1": 0.4,
    "query_ndcg_at_10": 0.6,
    "query_recall_at_10": 0.7,
}


def test_the_table_tells_quality_parameters_time_memory_and_what_can_be_served() -> None:
    summary = {
        "parameters": {"trained": 1_234, "all": 12_340},
        "peak_memory_bytes": {"process": 512 * 2**20},
        "figures": {**FIGURES, "query_ndcg_at_10": 0.65},
        "wall_s": 90.0,
        "exportable": False,
    }
    on_gpu = {**summary, "peak_memory_bytes": {"process": 1, "gpu": 2**30}, "exportable": True}
    lines = markdown({"prefix": summary, "full": on_gpu}, FIGURES).splitlines()
    assert lines[0].startswith("| method | trained | share | accuracy@1 | nDCG@10 | recall@10 | minutes |")
    assert lines[2].startswith("| not trained | 0 | 0 % | 0.400 | 0.600 | 0.700 |")
    assert lines[3] == "| prefix | 1,234 | 10.0% | 0.400 | 0.650 | 0.700 | 1.5 | 512 MiB | no |"
    assert lines[4] == "| full | 1,234 | 10.0% | 0.400 | 0.650 | 0.700 | 1.5 | 1,024 MiB of the GPU | yes |"


@pytest.mark.timeout(900)
def test_methods_are_trained_in_turn_and_an_interrupted_comparison_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("torch", "transformers", "peft", "tensorboard", "pyarrow", "matplotlib"):
        pytest.importorskip(module, reason="training needs the extra `train`")
    from tiny_encoder import make_base, make_data

    for name in ("base", "data"):
        (tmp_path / name).mkdir()
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"""
        model.base = "{make_base(tmp_path / "base")}"
        objectives.same_product.batch_size = 8
        machine.threads = 1
        """
    )
    data, output = make_data(tmp_path / "data"), tmp_path / "methods"
    compare_methods(data, output, steps=2, recipe=str(recipe), changes=[], only=["full"])
    before = (output / "full" / "model" / "training.json").stat().st_mtime_ns
    compare_methods(data, output, steps=2, recipe=str(recipe), changes=[], only=["full", "prefix"])
    assert (output / "full" / "model" / "training.json").stat().st_mtime_ns == before
    assert list(json.loads((output / "methods.json").read_text())["methods"]) == ["full", "prefix"]
    assert (output / "methods.md").read_text() in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match=r"method\.kind"):
        compare_methods(data, output, steps=2, recipe=str(recipe), changes=[], only=["magic"])
