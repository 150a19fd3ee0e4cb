"""Products by the words of their text, on the real tantivy, which lives in this process."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.adapters.lexical_index import LexicalIndex


@pytest.fixture(scope="module")
def shop() -> Iterator[LexicalIndex]:
    index = LexicalIndex()
    index.add("mouse", "Wireless mouse", "Optical, 2.4 GHz", "Logi", "Electronics > Mice")
    index.add("watch", "Smart watch", "With GPS", "Garmin", "Wearables")
    index.add("stick", "USB stick 16 GB", "", "Kingston", "")
    index.add("batteries", "Rechargeable batteries", "Four AA batteries", "", "")
    index.commit()
    return index


def ids(index: LexicalIndex, query: str) -> list[str]:
    return [item_id for item_id, _ in index.search(query, 10)]


@pytest.mark.parametrize(
    ("query", "item_id"),
    [
        ("mice", "mouse"),
        ("logi", "mouse"),
        ("garmin", "watch"),
        ("smartwatch", "watch"),
        ("Smart Watches", "watch"),
        ("16gb", "stick"),
        ("16 gb usb", "stick"),
        ("battery", "batteries"),
        ("BATTERIES!", "batteries"),
    ],
)
def test_a_query_finds_the_product_in_the_words_shoppers_use(
    shop: LexicalIndex, query: str, item_id: str
) -> None:
    assert ids(shop, query)[0] == item_id


def test_a_word_written_as_one_is_found_by_two() -> None:
    index = LexicalIndex()
    index.add("w", "Smartwatch", "", "", "")
    index.commit()
    assert ids(index, "smart watch") == ["w"]


def test_scores_are_positive_and_best_first(shop: LexicalIndex) -> None:
    scores = [score for _, score in shop.search("wireless usb smart gps", 10)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0


def test_no_more_than_the_limit_is_returned(shop: LexicalIndex) -> None:
    assert len(shop.search("wireless usb smart", 2)) == 2
    assert shop.search("wireless", 0) == []


def test_what_is_added_is_found_after_the_commit_and_what_is_removed_is_not() -> None:
    index = LexicalIndex()
    index.add("a", "red lamp", "", "", "")
    assert ids(index, "lamp") == []
    index.commit()
    assert ids(index, "lamp") == ["a"]
    index.remove("a")
    assert ids(index, "lamp") == ["a"]
    index.commit()
    assert ids(index, "lamp") == []


def test_adding_an_item_again_replaces_its_text() -> None:
    index = LexicalIndex()
    index.add("a", "red lamp", "", "", "")
    index.commit()
    index.add("a", "blue chair", "", "", "")
    index.add("a", "green table", "", "", "")
    index.commit()
    assert ids(index, "lamp chair") == []
    assert ids(index, "table") == ["a"]


def test_removing_and_adding_again_in_one_commit_keeps_the_item() -> None:
    index = LexicalIndex()
    index.add("a", "red lamp", "", "", "")
    index.remove("a")
    index.add("a", "red lamp", "", "", "")
    index.remove("unknown")
    index.commit()
    assert ids(index, "lamp") == ["a"]


def test_item_ids_are_taken_as_they_are() -> None:
    index = LexicalIndex()
    odd = ["a b", "A B", 'x"y:z*', "ü" * 256, "a\x00b"]
    for item_id in odd:
        index.add(item_id, "lamp", "", "", "")
    index.remove("a b")
    index.commit()
    assert sorted(ids(index, "lamp")) == sorted(odd[1:])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        '"',
        "AND OR NOT",
        'title:"x" -y +z^3 ~2 [a TO b] {* TO *} \\',
        "text:*",
        "a" * 10_000,
        "word " * 10_000,
        "\x00\ud800\uffff",
        "無線マウス 🎧",
    ],
)
def test_no_query_text_raises(shop: LexicalIndex, query: str) -> None:
    assert isinstance(shop.search(query, 10), list)


@given(query=st.text(max_size=300))
def test_any_query_text_is_answered(shop: LexicalIndex, query: str) -> None:
    assert len(shop.search(query, 3)) <= 3


def test_an_index_without_items_finds_nothing() -> None:
    index = LexicalIndex()
    assert index.search("lamp", 5) == []
    index.commit()
    assert index.search("lamp", 5) == []


def test_threads_may_search_while_another_changes_items() -> None:
    index = LexicalIndex()
    index.add("steady", "lamp", "", "", "")
    index.commit()
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                assert "steady" in ids(index, "lamp")
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(60):
        index.add("changing", f"lamp {number}", "", "", "")
        index.commit()
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert ids(index, "59") == ["changing"]
