"""Queries in disguise are written in the letters that they show; others stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.disguise import clean_query, mixed_words

SHOWN = {
    "lарtор": "laptop",  # Cyrillic а, р, о
    "lаptоp bag": "laptop bag",
    "ΗΡ laptop": "HP laptop",  # Greek capitals, the whole word
    "ѕһоеѕ": "shoes",  # not a Latin letter in it
    "сһаіr": "chair",
    "ноutбук laptop": "ноutбук laptop",  # can be written in neither
    "lap\u200btop": "laptop",
    "\ufefflap\u00adtop": "laptop",
    "ｌａｐｔｏｐ　ｂａｇ": "laptop bag",
    "𝐥𝐚𝐩𝐭𝐨𝐩": "laptop",
    "ⓛⓐⓟⓣⓞⓟ": "laptop",
    "l̶a̶p̶t̶o̶p̶": "laptop",
    "Cветильник": "Светильник",  # a Latin C in a Cyrillic word
}
HONEST = [
    "ноутбук HP",
    "купить НР",
    "3D-принтер",
    "iPhone™ α7 5μm kΩ ½ ²",
    "kırmızı çanta",
    "crème brûlée dish",
    "苹果手机 充电器",
    "スマートフォン ケース",
    "نوت‌بوک",
    "🎁 gift ❤️",
]


@pytest.mark.parametrize(("disguised", "shown"), SHOWN.items())
def test_a_disguised_query_is_written_in_the_letters_it_shows(disguised: str, shown: str) -> None:
    assert clean_query(disguised) == shown


@pytest.mark.parametrize("query", HONEST)
def test_an_honest_query_of_any_script_stays(query: str) -> None:
    assert clean_query(query) == query
    assert mixed_words(query) == []


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_stays_as_it_is(query: str) -> None:
    assert clean_query(query) == query


@settings(max_examples=500)
@given(st.text() | st.text("lарtoeа\u200b\u0301Ａ𝐚HНη ş"))
def test_cleaning_twice_is_cleaning_once(query: str) -> None:
    once = clean_query(query)
    assert clean_query(once) == once


@given(st.text(min_size=1))
def test_something_is_left_of_every_query(query: str) -> None:
    assert clean_query(query)


def test_words_of_mixed_scripts_are_named() -> None:
    assert mixed_words("Хiaomi phone чехол Wi-Fi") == ["Хiaomi"]
