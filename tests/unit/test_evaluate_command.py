"""`streamrec evaluate`: what it prints, what it writes, and what it says of a user's mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from small_log import write_log
from typer.testing import CliRunner

from stream.cli.root import app
from stream.errors import WrongFile

FROM = "2024-01-01T08:00"
EVENTS = 800


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "log.csv", EVENTS)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the texts are encoded once."""
    folder = tmp_path_factory.getbasetemp() / "vectors"
    folder.mkdir(exist_ok=True)
    return folder


def next_item(log: Path, cache: Path, *more: str, start: str = FROM) -> Result:
    arguments = ["evaluate", "next-item", "--events", str(log), "--from", start, "--every", "3"]
    return CliRunner().invoke(app, [*arguments, "--no-learning", "--cache", str(cache), *more])


def found(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def test_json_on_standard_output_holds_the_figures_and_nothing_else(log: Path, cache: Path) -> None:
    figures = found(next_item(log, cache, "--json", "-", "--at", "10"))
    names = ("hr_at_10", "mrr_at_10", "ndcg_at_10", "coverage", "novelty", "gini")
    assert all(isinstance(figures[name], float) for name in names)
    assert set(figures["baselines"]) == {"popularity", "item_knn", "item_knn_recency"}
    assert all(set(names) <= set(plain) for plain in figures["baselines"].values())
    assert set(figures["after_events"]) == {"1", "2", "3", "4_to_19"}
    assert re.fullmatch("[0-9a-f]{64}", figures["lists_sha256"])
    assert "intra_list_diversity" in figures
    low, high = figures["intervals"]["hr_at_10"].values()
    assert low <= figures["hr_at_10"] <= high


def test_a_second_run_gives_the_same_lists_with_vectors_from_the_cache(log: Path, cache: Path) -> None:
    first, second = (found(next_item(log, cache, "--json", "-")) for _ in range(2))
    assert first.pop("seconds") >= 0
    assert second.pop("seconds") >= 0
    assert first == second


def test_without_json_there_are_tables(log: Path, cache: Path) -> None:
    result = next_item(log, cache)
    assert result.exit_code == 0, result.output
    for word in (
        *("HR@20", "item-kNN", "first session", "source of candidates", "lost without a source"),
        *("share of targets", "hr at 20 without exploration", "digest of all lists"),
    ):
        assert word in result.stdout


def test_plots_are_written_with_a_page_that_shows_them(log: Path, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots are drawn by matplotlib, of the extra `evaluate`")
    folder = tmp_path / "report"
    found(next_item(log, cache, "--json", "-", "--plots", str(folder)))
    page = (folder / "index.html").read_text("utf-8")
    for name in ("position", "history", "sources", "left_out", "new_items"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in page
    assert "item-kNN" in page


def test_a_place_that_cannot_be_written_to_is_told_before_the_log_is_read(
    tmp_path: Path, cache: Path
) -> None:
    pytest.importorskip("matplotlib", reason="plots are drawn by matplotlib, of the extra `evaluate`")
    file = tmp_path / "unreadable.csv"
    file.write_text("no column that is known\n", "utf-8")
    result = next_item(file, cache, "--plots", str(file / "report"))
    assert isinstance(result.exception, WrongFile)
    assert "give another --plots" in str(result.exception)
    assert "there is no such folder" in mistake(
        next_item(file, cache, "--json", str(tmp_path / "no" / "a.json"))
    )


def test_a_policy_from_a_file_shapes_the_lists(log: Path, cache: Path, tmp_path: Path) -> None:
    policy = tmp_path / "varied.toml"
    policy.write_text("[policy]\nmax_per_category = 1\n[policy.exploration]\nslots = 0\n")
    default = found(next_item(log, cache, "--json", "-"))
    other = found(next_item(log, cache, "--json", "-", "--policy", str(policy)))
    assert other["lists_sha256"] != default["lists_sha256"]
    assert other["lists"] == default["lists"]


def test_two_policies_are_compared_with_paired_intervals(log: Path, cache: Path, tmp_path: Path) -> None:
    plain, none = tmp_path / "plain.toml", tmp_path / "none.toml"
    plain.write_text("[policy]\n")
    none.write_text("[policy.exploration]\nslots = 0\n")
    arguments = ["evaluate", "compare", str(plain), str(none), "--events", str(log), "--from", FROM]
    arguments += ["--every", "3", "--warm-up", "50", "--cache", str(cache), "--json", "-"]
    figures = found(CliRunner().invoke(app, arguments))
    assert [one["policy"] for one in figures["policies"]] == [str(plain), str(none)]
    assert set(figures["difference"]["hr_at_20"]) == {"value", "low", "high"}
    assert 0.0 <= figures["lists_that_differ"] <= 1.0


def test_what_a_release_costs_is_told_apart_by_its_stages(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("opendp", reason="needs the extra `private`")
    policy, log = tmp_path / "daily.toml", write_log(tmp_path / "log.csv", 1_600)
    policy.write_text("[policy.release]\nperiod_days = 1\nitems = 5\npairs = 5\n")
    arguments = ["evaluate", "release", "--events", str(log), "--from", "2024-01-02", "--cache", str(cache)]
    arguments += ["--policy", str(policy), "--epsilon", "1", "--draws", "3", "--json", "-"]
    arguments += ["--times", "1", "--times", "1000"]
    figures, again = (found(CliRunner().invoke(app, arguments)) for _ in range(2))
    assert figures.pop("seconds") >= 0
    again.pop("seconds")
    assert again == figures
    assert figures["release"]["period_days"] == 1
    raw, late, bounded, *noised = figures["stages"]
    assert [one["stage"] for one in (raw, late, bounded)] == ["raw signals", "released late", "bounded"]
    assert [(one["stage"], one["times"]) for one in noised] == [
        (stage, times) for times in (1, 1_000) for stage in ("cut", "noised")
    ]
    _, none, cut, large = noised
    assert late["items"] >= bounded["items"] > 0
    assert late["pairs"] > bounded["pairs"] > none["pairs"] == 0
    # So many shoppers that nothing is cut, and that noise changes little.
    assert (cut["items"], cut["pairs"]) == (bounded["items"], bounded["pairs"])
    assert cut["hr_at_20"] == bounded["hr_at_20"]
    assert cut["against_before"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert large["pairs"] == bounded["pairs"]
    assert len(large["draws"]) == 3
    assert large["hr_at_20"]["value"] == pytest.approx(sum(large["draws"]) / 3, abs=1e-4)
    lost = large["hr_at_20"]["value"] - raw["hr_at_20"]["value"]
    assert large["against_raw"]["value"] == pytest.approx(lost, abs=1e-3)


@pytest.mark.parametrize(
    ("command", "options", "figure"),
    [
        ("next-item", ["--no-learning"], "hr_at_20"),
        ("diversity", ["--warm-up", "50"], "curves"),
        ("fidelity", ["--no-learning"], "fidelity"),
        ("compare", ["--warm-up", "50", "plain.toml", "capped.toml"], "difference"),
    ],
)
def test_every_measurement_says_what_it_is_of_and_which_rows_it_could_not_use(
    log: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
    figure: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.toml").write_text("[policy]\n")
    Path("capped.toml").write_text("[policy]\nmax_per_category = 4\n")
    Path("damaged.csv").write_text(log.read_text("utf-8") + "somebody,item,yesterday,view_item,,A MUG,1\n")
    arguments = ["--events", "damaged.csv", "--from", FROM, "--every", "9", "--cache", str(cache)]
    result = CliRunner().invoke(app, ["evaluate", command, *options, *arguments, "--json", "-"])
    figures = found(result)
    assert figure in figures
    assert figures["window"] == {"from": "2024-01-01T08:00:00Z", "to": None, "every": 9}
    assert figures["events"] == ["damaged.csv"]
    assert "left out 1 rows:" in result.stderr
    assert "yesterday" in result.stderr


def mistake(result: Result) -> str:
    """What a user is told, without the frame around it."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split())


def test_a_time_that_is_none_is_named(log: Path, cache: Path) -> None:
    said = mistake(next_item(log, cache, start="June"))
    assert "--from" in said
    assert "'June' is not a time, such as 2011-06-01" in said


def test_a_window_that_ends_before_it_begins_is_refused(log: Path, cache: Path) -> None:
    assert "2023-01-01 is not after" in mistake(next_item(log, cache, "--to", "2023-01-01"))


def test_a_window_without_lists_says_what_the_log_covers(log: Path, cache: Path) -> None:
    said = mistake(next_item(log, cache, start="2030-01-01"))
    assert "the log's sessions are from 2024-01-01" in said
    assert "--from" in said


def test_a_wrong_mapping_of_columns_says_how_it_looks(log: Path, cache: Path) -> None:
    assert "did you mean user?" in mistake(next_item(log, cache, "--columns", "usr=user_id"))


def test_a_column_that_is_not_there_is_an_error_that_names_the_file(log: Path, cache: Path) -> None:
    result = next_item(log, cache, "--columns", "user=userid")
    assert isinstance(result.exception, WrongFile)
    assert str(result.exception).startswith(f"{log}: no column userid")
    assert "did you mean user_id?" in str(result.exception)


def test_a_folder_that_holds_no_reranker_is_refused(log: Path, cache: Path, tmp_path: Path) -> None:
    assert "not a version of the reranker" in mistake(next_item(log, cache, "--model", str(tmp_path)))


def test_rows_that_cannot_be_used_are_counted_and_shown(log: Path, cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    header, *lines = log.read_text("utf-8").splitlines()
    broken.write_text("\n".join([header, "half a line", *lines, "u,i,never,view_item,s,,", ""]), "utf-8")
    result = next_item(broken, cache, "--json", "-")
    assert sum(found(result)["rows_left_out"].values()) == 2
    assert "a line has not 7 columns (first: broken.csv, line 2: 1)" in result.stderr
    assert "not a time (column time)" in result.stderr


def test_without_the_encoder_it_goes_on_and_says_so(
    log: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(folder: Path) -> Any:
        raise ImportError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr("stream.evaluation.text_vectors.load_encoder", missing)
    result = next_item(log, cache / "empty", "--json", "-")
    figures = found(result)
    assert figures["text"] is None
    assert "onnxruntime is missing: pip install 'streamrec[evaluate]'" in figures["text_missing"]
    assert figures["intra_list_diversity"] is None
    assert "going on without texts" in result.stderr


def test_a_cache_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the encoder runs on onnxruntime, of the extra `evaluate`")
    from stream.evaluation.text_vectors import text_vectors

    made = text_vectors(["a red mug"], tmp_path)
    if made.missing:
        pytest.skip(made.missing)
    [file] = tmp_path.glob("encoder-*.npz")
    file.write_bytes(b"PK\x03\x04 not any more")
    again = text_vectors(["a red mug", "a blue cup"], tmp_path)
    assert (again.by_text["a red mug"] == made.by_text["a red mug"]).all()
    assert set(text_vectors(["a blue cup"], tmp_path).by_text) == {"a blue cup"}
