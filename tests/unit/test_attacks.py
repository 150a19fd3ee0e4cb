"""Attacks do what they say, the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_factory.evaluation import attacks
from model_factory.evaluation.attacks import HELD_OUT, PRODUCT_ATTACKS, QUERY_ATTACKS, TYPING, Listing, Pool

from stream.core.disguise import clean_query

LAMP = Listing('Lumo lamp 15.6" black', "for the bedside", "Lumo", "Lamps", {"b_dimmable": True})
POOL = Pool(["laptop", "coffee mug", "tv", "garden chair", "printer"], [Listing("Mug", "holds tea")])


@pytest.mark.parametrize("name", QUERY_ATTACKS)
def test_the_same_seed_attacks_a_query_the_same_way(name: str) -> None:
    attack = QUERY_ATTACKS[name]
    assert attack("wireless mouse", Random(3)) == attack("wireless mouse", Random(3))


@pytest.mark.parametrize("name", PRODUCT_ATTACKS)
def test_the_same_seed_attacks_a_product_the_same_way(name: str) -> None:
    attack = PRODUCT_ATTACKS[name]
    found = attack(LAMP, Random(3), POOL)
    assert found == attack(LAMP, Random(3), POOL)
    assert found is None or found != LAMP or name == "swapped_description"


@given(st.text(), st.integers(0, 9))
def test_any_text_can_be_attacked(text: str, seed: int) -> None:
    for attack in QUERY_ATTACKS.values():
        attack(text, Random(seed))
    for change in PRODUCT_ATTACKS.values():
        change(Listing(text, text, text), Random(seed), POOL)


@pytest.mark.parametrize("name", TYPING)
def test_a_typing_error_changes_one_place_of_a_long_word(name: str) -> None:
    changed = {QUERY_ATTACKS[name]("tv lamp", Random(seed)) for seed in range(20)} - {"tv lamp"}
    assert changed
    assert all(query.startswith("tv ") and abs(len(query) - 7) <= 1 for query in changed)


@pytest.mark.parametrize("name", ["homoglyphs", "zero_width", "full_width"])
def test_cleaning_undoes_a_disguise(name: str) -> None:
    disguised = QUERY_ATTACKS[name]("wireless mouse", Random(1))
    assert disguised != "wireless mouse"
    assert clean_query(disguised) == "wireless mouse"


def test_an_attack_that_has_no_hold_on_a_product_says_so() -> None:
    plain = Listing("Garden chair")
    for attack in (attacks.contradictory_size, attacks.contradictory_colour, attacks.contradictory_maker):
        assert attack(plain, Random(0), POOL) is None


def test_attacks_that_are_held_out_exist() -> None:
    assert set(HELD_OUT) < PRODUCT_ATTACKS.keys()
