"""Other wordings, made up by `model-factory prepare`: queries, offers, typing errors."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from model_factory.preparation import augmentation, queries
from model_factory.preparation.categories import category_of, voted
from model_factory.preparation.queries import Catalogue
from model_factory.preparation.sources import Product
from model_factory.preparation.synonyms import mine, spoken

WORDS = ("black", "usb", "cable", "16gb", '24"', "keyboard", "for", "the", "tn-2110", "Überkabel", "x")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join)
SEEDS = st.integers(0, 10_000)


def product(title: str, description: str = "", brand: str = "", category: str = "") -> Product:
    return Product("1", title, description, brand, category, {})


@given(TEXTS, SEEDS)
def test_the_same_seed_gives_the_same_words(text: str, seed: int) -> None:
    for change in (
        augmentation.typing_error,
        augmentation.reorder,
        augmentation.vary_units,
        augmentation.abbreviate,
    ):
        assert change(text, random.Random(seed)) == change(text, random.Random(seed))


@given(TEXTS, SEEDS)
def test_a_typing_error_is_in_one_word_and_never_in_one_with_digits(text: str, seed: int) -> None:
    before, after = text.split(" "), augmentation.typing_error(text, random.Random(seed)).split(" ")
    assert len(before) == len(after)
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) <= 1
    assert not any(character.isdigit() for word in changed for character in word)


@given(TEXTS, SEEDS)
def test_another_order_has_the_same_words(text: str, seed: int) -> None:
    assert Counter(augmentation.reorder(text, random.Random(seed)).split()) == Counter(text.split())


@given(TEXTS, SEEDS)
def test_words_with_digits_and_colours_are_never_dropped(text: str, seed: int) -> None:
    kept = augmentation.drop_words(text, random.Random(seed), 0.9, {"black"}).split()
    told = [word for word in text.split() if word == "black" or any(map(str.isdigit, word))]
    assert [word for word in kept if word in told] == told


def test_with_another_colour_or_measure_it_is_another_product() -> None:
    generator = random.Random(1)
    swapped = augmentation.swap_attribute("HP 901XL Black, black ink", generator)
    colour = swapped.removeprefix("HP 901XL ").split(",")[0]
    assert colour in augmentation.COLOURS
    assert colour != "black"
    assert swapped == f"HP 901XL {colour}, {colour} ink"
    assert augmentation.swap_attribute("USB cable 1.5 m", generator) == "USB cable 3 m"
    assert augmentation.swap_attribute("USB hub", generator) == "USB hub"


def test_keyboard_neighbours_are_mutual() -> None:
    near = augmentation.NEIGHBOURS
    assert set("qedsxz") & set(near["s"]) >= {"d", "z", "x"}
    assert all(letter in near[other] for letter, others in near.items() for other in others)


def test_units_are_split_and_joined() -> None:
    written = {augmentation.vary_units('16 GB, 24" and 5m', random.Random(seed)) for seed in range(40)}
    assert {'16GB, 24" and 5m', "16 GB, 24 inch and 5 m", "16GB, 24in and 5m"} <= written


def test_a_phrase_goes_by_another_name() -> None:
    names = {"notebook case": ("laptop bag",), "notebook": ("laptop",)}
    assert augmentation.synonym("black notebook case", names, random.Random(0)) == "black laptop bag"
    assert augmentation.synonym("keyboard", names, random.Random(0)) == "keyboard"


def test_an_offer_keeps_numbers_and_colours_of_the_title() -> None:
    for seed in range(50):
        offer = augmentation.offer_like(
            "HP 901XL Black Original 1 pc(s)",
            "HP",
            "ink cartridge",
            {"ink type": "Dye"},
            random.Random(seed),
            {"black"},
        )
        assert offer == offer.casefold()
        assert "901xl" in offer
        assert "black" in offer or "blk" in offer


def test_queries_are_made_of_what_the_product_is() -> None:
    made = queries.make(
        Product("1", "Kingston KVR16N11 8 GB memory module", "DDR3 1600MHz", "Kingston", "memory module", {}),
        {"internal memory": "8", "internal memory type": "DDR3"},
        Catalogue(synonyms={"memory module": ("ram",)}),
        20,
        random.Random(3),
    )
    said = {query: kind for kind, query in made}
    assert len(said) == len(made) > 8
    assert "kvr16n11" in " ".join(query for query, kind in said.items() if kind == "model")
    assert any(kind == "attribute and category" and "ddr3" in query for query, kind in said.items())
    assert any("ram" in query.split() for query in said)
    assert all(query == query.casefold() and 0 < len(query.split()) <= 6 for query in said)


def test_a_product_with_a_title_alone_gets_queries_of_its_words() -> None:
    made = queries.make(product("Little Sophia doll"), {}, Catalogue(), 5, random.Random(0))
    assert made
    assert {kind for kind, _ in made} == {"title words"}


def test_lengths_come_from_real_queries() -> None:
    assert queries.lengths_of(["sofa", "salon chair", "blk 18x18 seat cushions for garden"]) == {
        1: 1,
        2: 1,
        5: 1,
    }
    assert queries.lengths_of([]) == queries.LENGTHS


def test_what_titles_repeat_in_small_letters_is_the_category() -> None:
    products = [product(f"C2G {length}m Patch networking cable Pink") for length in range(4)]
    products.append(product("ACME 9 m", "Networking cable, snagless"))
    products.append(product("ACME Box", category="Cables > Boxes"))
    products.append(product("Unknown"))
    assert category_of(products) == ["networking cable"] * 5 + ["cables > boxes", ""]


def test_a_product_without_category_takes_that_of_most_of_its_nearest() -> None:
    known = ["cable"] * 6 + ["mouse"] * 2 + [""]
    near = [[place for place in range(9) if place != own] for own in range(9)]
    assert voted(known, near) == ["cable"] * 6 + ["mouse"] * 2 + ["cable"]
    assert voted(["cable", "mouse", ""], [[1, 2], [0, 2], [0, 1]]) == ["cable", "mouse", ""]


def test_a_type_has_the_other_names_that_its_products_use() -> None:
    products = [product(f"Case {n}", "Laptop case of red felt", category="netbook case") for n in range(6)]
    names = mine(products, {"red"})
    assert names["netbook case"] == ("laptop case",)


def test_a_slash_in_a_category_says_two_names() -> None:
    assert spoken("printer/scanner spare part") == ["printer spare part", "scanner spare part"]
    assert spoken("Home > Audio > headphones/headset") == ["headphones", "headset"]
    assert spoken("") == []
