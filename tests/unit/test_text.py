"""Words as the lexical search sees them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.text import MAX_WORD_CHARS, joined, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16 GB", ["16gb"]),
        ("16GB", ["16gb"]),
        ("120 V power supply", ["120v", "power", "supply"]),
        ("2.5 GHz", ["2.5ghz"]),
        ("1,5 kg", ["1.5kg"]),
        ("gb 16", ["gb", "16"]),
        ("model x 4", ["model", "x", "4"]),
    ],
)
def test_a_number_is_glued_to_the_unit_after_it(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("text", ['17"', "17″", "17''", "17 inch", "17-inch", "17 inches", "17 Inches"])
def test_inches_are_one_word_however_they_are_written(text: str) -> None:
    assert words(text) == ["17inch"]


def test_case_accents_and_trade_marks_do_not_matter() -> None:
    assert words("CAFÉ Ñandú Intel® Core™2 Straße") == ["cafe", "nandu", "intel", "core", "2", "strasse"]


def test_what_is_neither_letter_nor_digit_separates_words() -> None:
    assert words("TN-2110 (wi_fi)/USB+AND*OR: title:x^2 NOT~") == (
        ["tn", "2110", "wi", "fi", "usb", "and", "or", "title", "x", "2", "not"]
    )


def test_a_decimal_number_stays_whole() -> None:
    assert words("43.2 cm, 3.5mm") == ["43.2cm", "3.5mm"]


def test_scripts_without_spaces_are_split_into_characters() -> None:
    assert words("无线鼠标") == ["无", "线", "鼠", "标"]
    assert joined(words("无线鼠标")) == ["无线", "线鼠", "鼠标"]


def test_neighbours_are_joined_but_numbers_do_not_run_together() -> None:
    assert joined(words("smart watch 4 42 mm")) == ["smartwatch", "watch4"]
    assert joined(["alone"]) == []
    assert joined([]) == []


@given(st.text())
def test_any_text_gives_short_words_without_spaces(text: str) -> None:
    found = words(text)
    assert all(word and not any(character.isspace() for character in word) for word in found)
    assert all(len(word) <= MAX_WORD_CHARS for word in joined(found))


@given(st.text())
def test_words_of_words_are_the_same_words(text: str) -> None:
    once = words(text)
    assert [word for part in once for word in words(part)] == once


@given(st.text("abZé無-'_. 12gb\"", max_size=60))
def test_a_number_somewhere_does_not_change_how_the_rest_is_split(text: str) -> None:
    found = words(text)
    assert words(f"{text} 7") == [*found, "7"]
    assert joined([*found, "7"])[: len(joined(found))] == joined(found)
