"""The search for a recipe's values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from model_factory.training.recipe import EncoderRecipe, read
from model_factory.training.search_params import (
    Range,
    Sampler,
    Searched,
    override,
    read_space,
    search,
    write_best,
)


def space(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


def test_a_space_names_keys_of_the_recipe_by_their_dotted_path(tmp_path: Path) -> None:
    found = read_space(
        str(space(tmp_path, "seed = {choices=[1, 2]}\n[objectives.query]\nweight = {low = 0.1, high = 1}\n"))
    )
    assert list(found) == ["seed", "objectives.query.weight"]
    assert found["seed"].grid("seed") == [1, 2]


@pytest.mark.parametrize("model", list(Searched))
def test_every_value_of_a_shipped_space_is_one_that_the_shipped_recipe_may_have(model: Searched) -> None:
    for key, values in read_space(model.shipped).items():
        tried = values.grid(key) if values.choices is not None else (values.low, values.high)
        for value in tried:
            assert model.read(model.shipped, [override((key, value))])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no key"),
        ("seed = 3", "seed needs a range"),
        ("seed = {low = 1}", "give either choices, or low and high"),
        ("seed = {low = 3, high = 1}", "low is above high"),
        ("seed = {low = 0, high = 1, log = true}", "log needs low above 0"),
        ("seed = {choices = []}", "choices are empty"),
        ("seed = {choices = [1], low = 1, high = 2}", "give either"),
        ("seed = {lo = 1, high = 2}", "unknown field `lo`"),
    ],
)
def test_a_mistake_in_a_space_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter) as raised:
        read_space(str(space(tmp_path, text)))
    assert said in raised.value.message


def test_a_grid_counts_steps_and_refuses_what_has_none() -> None:
    assert Range(low=0.0, high=0.3, step=0.1).grid("x") == [0.0, 0.1, 0.2, 0.3]
    assert Range(low=1, high=3).grid("x") == [1, 2, 3]
    assert Range(choices=[[0, 2], "all"]).grid("x") == ["[0, 2]", "all"]
    with pytest.raises(typer.BadParameter, match="cannot count x"):
        Range(low=0.0, high=1.0).grid("x")


def test_chosen_values_become_changes_of_the_recipe() -> None:
    changes = map(override, [("model.layers", "[0, 2]"), ("method.kind", "lora"), ("contrast.within", True)])
    recipe = read("encoder", EncoderRecipe, changes)
    assert (recipe.model.layers, recipe.method.kind, recipe.contrast.within) == ((0, 2), "lora", True)


@pytest.mark.timeout(900)
class TestWithTraining:
    """Searches that train the tiny encoder."""

    @pytest.fixture
    def tried(self, tmp_path: Path) -> dict[str, Any]:
        for module in ("torch", "transformers", "optuna", "tensorboard", "pyarrow", "matplotlib"):
            pytest.importorskip(module, reason="training needs the extra `train`")
        from tiny_encoder import make_base, make_data

        for name in ("base", "data"):
            (tmp_path / name).mkdir()
        recipe = tmp_path / "tiny.toml"
        recipe.write_text(
            f"""
            model.base = "{make_base(tmp_path / "base")}"
            objectives.same_product.batch_size = 8
            budget.steps = 8
            validation.every_steps = 2
            machine.threads = 1
            """
        )
        return {
            "model": Searched.encoder,
            "recipe": str(recipe),
            "changes": [],
            "data": make_data(tmp_path / "data"),
            "output": tmp_path / "search",
            "storage": f"sqlite:///{tmp_path}/study.db",
        }

    def test_a_grid_tries_every_value_and_the_best_is_told(self, tried: dict[str, Any]) -> None:
        rates = {"optimiser.learning_rate": Range(choices=[1e-12, 3e-3])}
        study = search(**tried, space=rates, sampler=Sampler.grid, trials=2)
        best = write_best(study, tried["output"])
        assert best["set"] == ["optimiser.learning_rate=0.003"]
        rows = json.loads((tried["output"] / "trials.json").read_text())
        assert sorted(row["set"] for row in rows) == [
            ["optimiser.learning_rate=0.003"],
            ["optimiser.learning_rate=1e-12"],
        ]
        assert not list(tried["output"].rglob("*.safetensors"))
        assert not list(tried["output"].rglob("*.pt"))

    def test_a_search_goes_on_until_it_has_the_trials_and_not_for_other_data(
        self, tried: dict[str, Any]
    ) -> None:
        seeds = {"seed": Range(low=1, high=1000)}
        assert len(search(**tried, space=seeds, sampler=Sampler.random, trials=1).trials) == 1
        study = search(**tried, space=seeds, sampler=Sampler.random, trials=3)
        assert len({trial.params["seed"] for trial in study.trials}) == 3
        (tried["data"] / "data.json").write_text(json.dumps({"hash": "other"}))
        with pytest.raises(typer.BadParameter, match="another data"):
            search(**tried, space=seeds, sampler=Sampler.random, trials=4)

    def test_trials_that_a_kill_left_behind_are_tried_again(self, tried: dict[str, Any]) -> None:
        import optuna

        seeds = {"seed": Range(low=1, high=1000)}
        search(**tried, space=seeds, sampler=Sampler.random, trials=1)
        study = optuna.load_study(study_name="search-params", storage=tried["storage"])
        left = study.ask({"seed": optuna.distributions.IntDistribution(1, 1000)})
        study = search(**tried, space=seeds, sampler=Sampler.random, trials=2)
        states = [trial.state.name for trial in study.trials]
        assert states == ["COMPLETE", "FAIL", "COMPLETE"]
        assert study.trials[2].params == left.params

    def test_trials_that_fall_behind_are_ended_early(self, tried: dict[str, Any]) -> None:
        import optuna
        from model_factory.training.search_params import STUDY, draw

        rates = [2e-3, 3e-3, 4e-3, 5e-3, 1e-12]
        study = optuna.create_study(study_name=STUDY, storage=tried["storage"], direction="maximize")
        for rate in rates:
            study.enqueue_trial({"optimiser.learning_rate": rate})
        space = {"optimiser.learning_rate": Range(choices=rates)}
        study = search(**tried, space=space, sampler=Sampler.tpe, trials=5)
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["PRUNED"]
        draw(study, tried["output"])
        for name in ("history.png", "slice.png", "importance.png"):
            assert (tried["output"] / name).stat().st_size > 0
