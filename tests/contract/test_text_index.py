"""What every index of words promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream.adapters.lexical_index import LexicalIndex
from stream.fakes import WordIndex
from stream.ports import TextIndex


@pytest.fixture(params=[WordIndex, LexicalIndex], ids=lambda kind: kind.__name__)
def index(request: pytest.FixtureRequest) -> TextIndex:
    make: Callable[[], TextIndex] = request.param
    return make()


def _shelf(index: TextIndex) -> None:
    index.add("mug", "red mug", "for tea", "acme", "kitchen")
    index.add("cup", "blue cup", "for coffee", "acme", "kitchen")
    index.add("lamp", "desk lamp", "with a red shade", "lumen", "office")
    index.commit()


def _found(index: TextIndex, query: str, limit: int = 10) -> list[str]:
    return [item_id for item_id, _ in index.search(query, limit)]


def test_an_empty_index_finds_nothing(index: TextIndex) -> None:
    assert index.search("red", 5) == []
    index.commit()
    assert index.search("red", 5) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("mug", {"mug"}),
        ("red", {"mug", "lamp"}),
        ("acme", {"mug", "cup"}),
        ("kitchen", {"mug", "cup"}),
        ("coffee", {"cup"}),
        ("RED", {"mug", "lamp"}),
        ("bicycle", set()),
        ("", set()),
        ("  ", set()),
    ],
)
def test_words_of_title_description_brand_and_category_are_found(
    index: TextIndex, query: str, expected: set[str]
) -> None:
    _shelf(index)
    assert set(_found(index, query)) == expected


def test_more_matching_words_come_first_with_greater_scores(index: TextIndex) -> None:
    _shelf(index)
    found = index.search("red mug", 10)
    assert [item_id for item_id, _ in found] == ["mug", "lamp"]
    assert found[0][1] > found[1][1] > 0


def test_at_most_as_many_as_asked(index: TextIndex) -> None:
    for number in range(30):
        index.add(f"item-{number}", f"red thing {number}", "", "", "")
    index.commit()
    assert len(index.search("red", 7)) == 7
    assert len(set(_found(index, "red", 100))) == 30


def test_what_is_added_counts_after_the_commit(index: TextIndex) -> None:
    index.add("mug", "red mug", "", "", "")
    assert _found(index, "red") == []
    index.commit()
    assert _found(index, "red") == ["mug"]


def test_a_replaced_text_counts_once_and_the_old_words_no_more(index: TextIndex) -> None:
    _shelf(index)
    index.add("mug", "green beaker", "", "", "")
    index.commit()
    assert _found(index, "mug") == []
    assert _found(index, "beaker") == ["mug"]
    assert _found(index, "green beaker").count("mug") == 1


def test_a_removed_item_is_not_found_after_the_commit(index: TextIndex) -> None:
    _shelf(index)
    index.remove("mug")
    index.commit()
    assert _found(index, "red mug") == ["lamp"]


def test_removing_what_is_not_there_does_nothing(index: TextIndex) -> None:
    index.remove("mug")
    _shelf(index)
    index.remove("nobody")
    index.commit()
    assert set(_found(index, "red")) == {"mug", "lamp"}


def test_an_item_may_come_back(index: TextIndex) -> None:
    _shelf(index)
    index.remove("mug")
    index.commit()
    index.add("mug", "red mug", "", "", "")
    index.commit()
    assert _found(index, "mug") == ["mug"]


def test_an_item_removed_and_added_in_one_commit_is_there(index: TextIndex) -> None:
    _shelf(index)
    index.remove("mug")
    index.add("mug", "golden mug", "", "", "")
    index.commit()
    assert _found(index, "golden mug") == ["mug"]
    index.add("cup", "golden cup", "", "", "")
    index.remove("cup")
    index.commit()
    assert _found(index, "cup") == []


@pytest.mark.parametrize("item_id", ["a b", "A B", "カップ", "a\nb", "id:1", '"q"', "x" * 256], ids=ascii)
def test_any_item_id_will_do(index: TextIndex, item_id: str) -> None:
    index.add(item_id, "red mug", "", "", "")
    index.add("other", "red cup", "", "", "")
    index.commit()
    assert _found(index, "mug") == [item_id]
    index.remove(item_id)
    index.commit()
    assert _found(index, "red") == ["other"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "title:red",
        "red AND",
        "(",
        "red^5",
        "*",
        "a" * 1_000,
        "red " * 250,
        "\x00",
        "💥",
        "+-!{}[]~?:\\/",
        "NOT red",
    ],
    ids=ascii,
)
def test_any_text_will_do_as_a_query(index: TextIndex, query: str) -> None:
    _shelf(index)
    for item_id, score in index.search(query, 5):
        assert item_id in {"mug", "cup", "lamp"}
        assert score > 0
