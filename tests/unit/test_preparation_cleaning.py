"""Cleaning and attributes of `model-factory prepare`."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from model_factory.preparation import attributes
from model_factory.preparation.cleaning import boilerplate, clean, without

WORDS = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60)
BROKEN = st.lists(
    st.one_of(
        WORDS,
        st.sampled_from(
            [
                "&amp;amp;nbsp;",
                "<br />",
                "<p class='x'>",
                "&lt;b&gt;",
                "cafÃ©",
                "â€œquotedâ€\x9d",
                "17''",
                "\\n",
                "Сat5e",
            ]
        ),
    ),
    max_size=8,
).map("".join)


@given(BROKEN)
@example("&&amp;lt;b>amp;")
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@given(BROKEN)
def test_clean_text_has_single_spaces_and_no_control_characters(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert cleaned.isprintable()


@given(st.from_regex(r"[a-zA-Z0-9]{1,8}( [a-zA-Z0-9.,\"()+-]{1,8}){0,5}", fullmatch=True))
def test_a_text_that_is_not_broken_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_markup_and_entities_become_what_they_stand_for() -> None:
    assert clean("Xeon<br />processor &amp; cooler&nbsp;&quot;Box&quot;") == 'Xeon processor & cooler "Box"'


def test_a_comparison_is_no_markup() -> None:
    assert clean("mini PC (<= 3L) barebone, 5 < 6 > 4") == "mini PC (<= 3L) barebone, 5 < 6 > 4"


def test_utf_8_that_was_read_as_windows_1252_is_read_again() -> None:
    assert clean("CafÃ© â€“ crÃ¨me") == "Café – crème"


def test_accents_that_are_right_stay() -> None:
    assert clean("für Ärzte, ça va, Âge") == "für Ärzte, ça va, Âge"


def test_cyrillic_letters_within_a_latin_word_become_latin_and_russian_stays() -> None:
    assert clean("Сat5e, ХPC") == "Cat5e, XPC"
    assert clean("Сок яблоко") == "Сок яблоко"


def test_inch_marks_are_written_in_one_way() -> None:
    assert clean("24'' 17” 15.6″") == '24" 17" 15.6"'


def test_a_sentence_that_many_texts_share_is_boilerplate_and_is_cut() -> None:
    shared = "We ship all over the world."
    texts = [f"Cable {number} of copper. {shared}" for number in range(5)]
    common = boilerplate(texts, at_least=5)
    assert common == {shared}
    assert without(texts[0], common) == "Cable 0 of copper."


def test_a_text_that_is_all_boilerplate_is_left_alone() -> None:
    shared = "We ship all over the world."
    assert without(shared, {shared}) == shared


def test_attribute_names_lose_their_prefix_and_keep_their_notes() -> None:
    assert attributes.readable_name("n_print_speed__black__a4_") == "print speed (black) a4"
    assert attributes.readable_name("t_contrast_ratio__typical_") == "contrast ratio (typical)"


def test_attributes_that_say_nothing_are_left_out() -> None:
    raw = {
        "t_product_colour": "Black",
        "b_bluetooth": True,
        "b_wi_fi": False,
        "n_pallet_width": 80.0,
        "t_graphics": "Not available",
        "n_cable_length": 5.0,
        "odd": None,
    }
    assert attributes.normalise(raw) == {"product colour": "Black", "bluetooth": "yes", "cable length": "5"}


def test_a_number_gets_its_unit_where_that_is_known() -> None:
    assert attributes.with_unit("cable length", "5") == "5m"
    assert attributes.with_unit("internal memory", "16") == "16gb"
    assert attributes.with_unit("number of keys", "104") == "104"
