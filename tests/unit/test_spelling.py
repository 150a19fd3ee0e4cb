"""Typing errors in searches are undone where the catalogue's words tell how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.spelling import Vocabulary


@pytest.fixture
def vocabulary() -> Vocabulary:
    made = Vocabulary()
    for _ in range(40):
        made.add("wireless mouse")
    for _ in range(5):
        made.add("laptop stand, ноутбук")
        made.add("smart watch")
    made.add("wirless headset")  # an error of the catalogue's own
    return made


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("wireles mouse", "wireless mouse"),
        ("wirelwss mouse", "wireless mouse"),
        ("wirelesss mosue", "wireless mouse"),
        ("wirless mouse", "wireless mouse"),
        ("Latpop stand", "laptop stand"),
        ("ноутбкк", "ноутбук"),
    ],
)
def test_one_error_in_a_word_is_undone(vocabulary: Vocabulary, typed: str, meant: str) -> None:
    assert vocabulary.corrected(typed) == meant


@pytest.mark.parametrize(
    "query", ["Wireless  MOUSE!", "smartwatch", "laptops", "mic", "xbox", "苹果手机", ""]
)
def test_what_is_known_short_or_far_from_all_stays_as_it_is(vocabulary: Vocabulary, query: str) -> None:
    assert vocabulary.corrected(query) == query


def test_words_of_items_that_went_are_forgotten(vocabulary: Vocabulary) -> None:
    for _ in range(5):
        vocabulary.remove("laptop stand, ноутбук")
    assert vocabulary.corrected("latpop") == "latpop"
    assert len(vocabulary) == len({"wireless", "mouse", "smart", "watch", "wirless", "headset"})


@given(st.text())
def test_any_query_is_read(query: str) -> None:
    made = Vocabulary()
    for _ in range(3):
        made.add("wireless mouse")
    read = made.corrected(query)
    assert made.corrected(read) == read
