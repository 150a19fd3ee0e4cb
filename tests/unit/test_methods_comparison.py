"""The table that compares the methods of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from model_factory.training.comparison import UNTRAINED, figures, markdown
from model_factory.training.comparison import compare_methods as compare
from model_factory.training.validation import Judged, keep, kept, means


def judged(*right: float) -> dict[str, Judged]:
    """Return what four offers of two products came to."""
    return {"same_product_accuracy_at_1": Judged(np.array(right), np.array([0, 0, 1, 1]))}


def test_the_table_tells_quality_parameters_time_memory_and_what_can_be_served() -> None:
    summary = {
        "parameters": {"trained": 1_234, "all": 12_340},
        "peak_memory_bytes": {"process": 512 * 2**20},
        "steps": 40,
        "wall_s": 1_234.5,
        "exportable": False,
    }
    on_gpu = {**summary, "peak_memory_bytes": {"process": 1, "gpu": 2**30}, "exportable": True}
    models = {UNTRAINED: judged(0, 0, 0, 0), "prefix": judged(1, 1, 0, 0), "full": judged(1, 1, 1, 1)}
    lines = markdown(
        {"prefix": summary, "full": on_gpu}, figures(models), figures(models, "prefix")
    ).splitlines()
    assert lines[0] == "Methods after 40 steps"
    assert lines[2] == "| method | accuracy@1 | trained | share | seconds | peak memory | can be served |"
    assert lines[4] == "| not trained | 0.000 [0.000, 0.000] | 0 | 0 % |  |  |  |"
    assert lines[5] == "| prefix | 0.500 [0.000, 1.000] | 1,234 | 10.0% | 1,234 | 512 MiB | no |"
    assert lines[6] == "| full | 1.000 [1.000, 1.000] | 1,234 | 10.0% | 1,234 | 1,024 MiB of the GPU | yes |"
    assert lines[8] == "Against prefix"
    assert lines[-1] == "| full | +0.500 [+0.000, +1.000] |"


def test_offers_of_one_product_are_drawn_together() -> None:
    alone = {"accuracy": Judged(np.array([1.0, 1.0, 0.0, 0.0] * 8), np.arange(32))}
    together = {"accuracy": Judged(np.array([1.0, 1.0, 0.0, 0.0] * 8), np.repeat(np.arange(8), 4) // 4)}
    widths = [
        figure["high"] - figure["low"]
        for model in (alone, together)
        for figure in figures({"model": model})["model"].values()
    ]
    assert widths[0] < 0.4
    assert widths[1] == 0.0  # all lie in one group, which is drawn every time


def test_what_was_judged_is_read_as_it_was_kept(tmp_path: Path) -> None:
    keep(tmp_path / "judged.npz", judged(1, 0, 1, 1))
    found = kept(tmp_path / "judged.npz")
    assert means(found) == {"score": 0.75, "same_product_accuracy_at_1": 0.75}
    assert found["same_product_accuracy_at_1"].groups.tolist() == [0, 0, 1, 1]


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
    compare(data, output, steps=2, recipe=str(recipe), changes=[], only=["full"])
    before = (output / "full" / "model" / "training.json").stat().st_mtime_ns
    compare(data, output, steps=2, recipe=str(recipe), changes=[], only=["full", "prefix"])
    assert (output / "full" / "model" / "training.json").stat().st_mtime_ns == before
    said = json.loads((output / "methods.json").read_text())
    assert list(said["methods"]) == ["full", "prefix"]
    for kind in ("full", "prefix"):
        found = {name: figure["value"] for name, figure in said["quality"][kind].items()}
        told = said["methods"][kind]["figures"]
        assert found == pytest.approx({name: told[name] for name in found}, abs=1e-4)
    assert list(said["against_full"]) == ["not trained", "prefix"]
    assert (output / "methods.md").read_text() in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match=r"method\.kind"):
        compare(data, output, steps=2, recipe=str(recipe), changes=[], only=["magic"])
