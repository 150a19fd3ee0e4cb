"""Recipes of trainings: read, overridden, refused with file, key and cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from model_factory.training.recipe import Budget, EncoderRecipe, Optimiser, RunRecipe, read, shipped

SMALL = """
robust = 0.1

[objectives.query]
weight = 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    return path


def test_what_a_recipe_leaves_out_has_a_default(file: Path) -> None:
    recipe = read(file, EncoderRecipe)
    assert recipe.objectives.query is not None
    assert recipe.objectives.query.weight == 0.5
    assert recipe.objectives.same_product is None
    assert recipe.method.kind == "full"
    assert recipe.model.layers == "all"


def test_the_encoder_recipe_ships_and_is_valid() -> None:
    assert "encoder" in shipped()
    assert isinstance(read("encoder", EncoderRecipe), EncoderRecipe)


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("optimiser.learning_rate=1e-3", "optimiser.learning_rate", 1e-3),
        ("model.layers=[0, 2]", "model.layers", (0, 2)),
        ("method.kind=lora", "method.kind", "lora"),
        ("method.kind='lora'", "method.kind", "lora"),
        ("model.freeze_word_embeddings=false", "model.freeze_word_embeddings", False),
        ("objectives.same_product.batch_size=12", "objectives.same_product.batch_size", 12),
        ("seed=3", "seed", 3),
    ],
)
def test_a_key_is_overridden(file: Path, change: str, key: str, value: object) -> None:
    found: object = read(file, EncoderRecipe, [change])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("budgett.steps=1", "unknown key budgett; did you mean budget?"),
        ("budget.step=1", "unknown key budget.step; did you mean steps?"),
        ("objectives.query.weigth=1", "unknown key objectives.query.weigth; did you mean weight?"),
        ("objectives.query.zzz=1", "known here: weight, batch_size, hard_negatives"),
        ("budget.steps=0", "budget.steps: Expected `int` >= 1"),
        ("budget.steps=many", "budget.steps: Expected `int | null`, got `str`"),
        ("robust=1.5", "robust: Expected `float` <= 1"),
        ("method.kind=magic", "method.kind: Invalid enum value 'magic'"),
        ("model.layers=[2, 1]", "layers must rise"),
        ("objectives.query.weight=0", "give at least one objective a weight"),
        ("objectives.distil.weight=1", "missing required field `vectors` in [objectives.distil]"),
        ("no key", "write key=value"),
        ("robust.x=1", "robust is a value, not a table"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_cure(file: Path, change: str, said: str) -> None:
    with pytest.raises(typer.BadParameter) as raised:
        read(file, EncoderRecipe, [change])
    assert said in raised.value.message
    assert change.startswith(("no", "robust.x")) or str(file) in raised.value.message


def test_a_budget_needs_an_end(file: Path) -> None:
    file.write_text(SMALL + "[budget]\n")
    with pytest.raises(typer.BadParameter, match="steps, epochs, minutes"):
        read(file, EncoderRecipe)


def test_a_file_that_is_not_toml_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("a = = 1")
    with pytest.raises(typer.BadParameter, match="is not TOML"):
        read(tmp_path / "broken.toml", RunRecipe)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(typer.BadParameter, match="UTF-8"):
        read(tmp_path / "binary.toml", RunRecipe)
    with pytest.raises(typer.BadParameter, match=r"none of that name is shipped: .*encoder"):
        read("nonesuch", RunRecipe)


def test_whatever_is_spent_first_ends_a_run() -> None:
    both = Budget(steps=100, epochs=2.0)
    assert both.last_step(steps_per_epoch=30) == 60
    assert both.last_step(steps_per_epoch=80) == 100
    timed = Budget(steps=100, minutes=1.0)
    assert timed.progress(50, elapsed_s=15.0, steps_per_epoch=1) == 0.5
    assert timed.progress(10, elapsed_s=45.0, steps_per_epoch=1) == 0.75


@given(
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    warmup=st.floats(0, 1),
    progress=st.floats(0, 1),
)
def test_the_learning_rate_stays_between_zero_and_the_recipes(
    schedule: str, warmup: float, progress: float
) -> None:
    optimiser = Optimiser(learning_rate=0.1, warmup=warmup, schedule=schedule)  # type: ignore[arg-type]
    assert 0 <= optimiser.rate(progress) <= 0.1 + 1e-12
