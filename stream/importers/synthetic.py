"""The built-in shop: a catalogue and shoppers made from word lists and a seed. Nobody real is in it.

Everything it makes says so: items carry the attribute `synthetic`, events have it in their context. The
same seed makes the same shop and the same events. Shoppers have a taste of two categories, look at the
popular things in one, move on to what goes with it, search now and then, and sometimes buy.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from stream.core.events import ClickMessage, EventType, ItemMessage, SearchMessage

ITEMS_PER_CATEGORY = 30
LABEL = {"synthetic": True}
CURRENCY = "EUR"


class Category(NamedTuple):
    """What a category's items are made of; `goes_with` names another category."""

    department: str
    name: str
    goes_with: str
    prices: tuple[float, float]
    nouns: tuple[str, ...]
    kinds: tuple[str, ...]
    uses: tuple[str, ...]


def _category(
    path: str, goes_with: str, prices: tuple[float, float], nouns: str, kinds: str, uses: str
) -> Category:
    department, name = path.split(" > ")
    return Category(
        department,
        name,
        goes_with,
        prices,
        tuple(nouns.split(", ")),
        tuple(kinds.split(", ")),
        tuple(uses.split(", ")),
    )


CATEGORIES = (
    _category("Kitchen > Mugs", "Tea", (6, 24), "Mug, Cup, Tumbler, Beaker",
              "Stoneware, Porcelain, Enamel, Glass, Speckled, Ribbed",
              "slow mornings, camping breakfasts, the office desk, hot chocolate"),
    _category("Kitchen > Tea", "Mugs", (4, 19), "Green Tea, Black Tea, Herbal Tea, Oolong",
              "Loose Leaf, Organic, Smoky, Citrus, Jasmine, Mint",
              "the afternoon, cold days, a calm evening, waking up"),
    _category("Kitchen > Cookware", "Knives", (18, 140), "Frying Pan, Saucepan, Casserole, Wok",
              "Cast Iron, Copper, Non-Stick, Carbon Steel, Enamelled, Induction",
              "searing, slow stews, crisp vegetables, a family of four"),
    _category("Kitchen > Knives", "Cookware", (12, 160), "Chef's Knife, Paring Knife, Bread Knife, Cleaver",
              "Forged, Damascus, Ceramic, Serrated, Walnut-Handled, Japanese",
              "herbs, crusty loaves, fine slices, tough squash"),
    _category("Bedroom > Bedding", "Pillows", (25, 180), "Duvet Cover, Fitted Sheet, Bedspread, Quilt",
              "Linen, Cotton, Washed, Percale, Striped, Quilted",
              "hot summers, cold winters, a guest room, light sleepers"),
    _category("Bedroom > Pillows", "Bedding", (12, 90), "Pillow, Bolster, Cushion, Headrest",
              "Feather, Memory Foam, Buckwheat, Velvet, Embroidered, Cooling",
              "side sleepers, reading in bed, the sofa, a stiff neck"),
    _category("Bedroom > Lamps", "Bedding", (15, 120), "Bedside Lamp, Reading Lamp, Night Light, Pendant",
              "Brass, Paper, Dimmable, Opal Glass, Rattan, Clip-On",
              "late readers, a warm glow, small rooms, a dark hallway"),
    _category("Outdoor > Tents", "Sleeping Bags", (80, 520), "Tent, Tarp, Shelter, Awning",
              "Two-Person, Ultralight, Four-Season, Family, Freestanding, Tunnel",
              "windy ridges, festival weekends, long hikes, heavy rain"),
    _category("Outdoor > Sleeping Bags", "Tents", (40, 380), "Sleeping Bag, Sleeping Mat, Bivvy, Camp Quilt",
              "Down, Synthetic-Fill, Mummy, Inflatable, Compact, Winter",
              "frosty nights, counting grams, summer huts, rocky ground"),
    _category("Outdoor > Backpacks", "Boots", (30, 260), "Backpack, Daypack, Trekking Pack, Hip Pack",
              "Waterproof, Framed, Roll-Top, Lightweight, Hydration, Ripstop",
              "day trips, hut tours, commuting by bike, weekend walks"),
    _category("Outdoor > Boots", "Backpacks", (60, 290), "Hiking Boots, Trail Shoes, Approach Shoes, Sandals",
              "Leather, Waterproof, Wide-Fit, Grippy, Ankle-High, Breathable",
              "muddy paths, alpine scree, coastal walks, hot valleys"),
    _category("Desk > Notebooks", "Pens", (3, 32), "Notebook, Sketchbook, Planner, Journal",
              "Dotted, Ruled, Hardcover, Recycled, Pocket, Lay-Flat",
              "meeting notes, travel diaries, quick sketches, the year ahead"),
    _category("Desk > Pens", "Notebooks", (2, 85), "Fountain Pen, Rollerball, Fineliner, Pencil Set",
              "Brass, Refillable, Extra-Fine, Lacquered, Quick-Dry, Retractable",
              "left-handers, long letters, technical drawing, thin paper"),
    _category("Desk > Headphones", "Keyboards", (25, 340), "Headphones, Earbuds, Headset, Earphones",
              "Wireless, Noise-Cancelling, Open-Back, Over-Ear, Sport, Studio",
              "train rides, open offices, long calls, mixing music"),
    _category("Desk > Keyboards", "Headphones", (30, 220), "Keyboard, Mouse, Trackpad, Number Pad",
              "Mechanical, Ergonomic, Wireless, Low-Profile, Silent, Split",
              "fast typists, tired wrists, tidy desks, late nights"),
    _category("Garden > Planters", "Seeds", (6, 95), "Planter, Flower Pot, Hanging Basket, Window Box",
              "Terracotta, Zinc, Glazed, Self-Watering, Woven, Frost-Proof",
              "a small balcony, herbs by the kitchen, olive trees, a shady wall"),
    _category("Garden > Seeds", "Planters", (2, 14), "Tomato Seeds, Herb Seeds, Wildflower Mix, Bulbs",
              "Heirloom, Organic, Early, Climbing, Scented, Bee-Friendly",
              "beginners, raised beds, cut flowers, a late spring"),
    _category("Play > Board Games", "Puzzles", (9, 75), "Board Game, Card Game, Dice Game, Strategy Game",
              "Cooperative, Two-Player, Family, Travel, Quick, Wooden",
              "rainy Sundays, a long train ride, six friends, sharp minds"),
    _category("Play > Puzzles", "Board Games", (7, 48), "Jigsaw, Brain Teaser, Puzzle Cube, Puzzle Book",
              "1000-Piece, Wooden, Panoramic, Magnetic, Vintage, Tricky",
              "patient hands, the coffee table, quiet evenings, curious children"),
    _category("Play > Soft Toys", "Board Games", (8, 60), "Bear, Rabbit, Fox, Whale",
              "Plush, Knitted, Organic Cotton, Giant, Pocket-Sized, Sleepy",
              "newborns, bedtime, long car rides, a first birthday"),
)  # fmt: skip

BRANDS = (
    "Alder & Ash",
    "Norrvik",
    "Fieldhouse",
    "Casa Lume",
    "Tindra",
    "Graywater",
    "Okabe",
    "Bramble",
    "Pico",
)
COLOURS = ("Sand", "Moss", "Slate", "Rust", "Ivory", "Indigo", "Plum", "Ochre")


class _Shopper:
    """One invented shopper: a taste, and the session under way as a list of steps still to do."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.user_id = f"shopper-{number:04d}"
        self.taste = rng.sample(CATEGORIES, 2)
        self.colour = rng.choice(COLOURS)
        self.session = 0
        self.steps: list[ClickMessage | SearchMessage] = []


def make_items(seed: int = 1, per_category: int = ITEMS_PER_CATEGORY) -> tuple[ItemMessage, ...]:
    """Make the catalogue: `per_category` items of each of the twenty categories."""
    rng = random.Random(f"catalogue {seed}")
    items = []
    for number, category in enumerate(CATEGORIES):
        names = list(itertools.product(category.kinds, category.nouns, COLOURS))
        for place, (kind, noun, colour) in enumerate(rng.sample(names, min(per_category, len(names)))):
            low, high = category.prices
            use, other = rng.sample(category.uses, 2)
            items.append(
                ItemMessage(
                    item_id=f"{number + 1:02d}{place + 1:03d}",
                    title=f"{kind} {noun} {colour}",
                    description=f"{kind} {noun.lower()} in {colour.lower()}, made for {use} and {other}.",
                    category=[category.department, category.name],
                    brand=rng.choice(BRANDS),
                    price=round(low + (high - low) * rng.random() ** 2, 2),
                    currency=CURRENCY,
                    attributes={**LABEL, "colour": colour, "kind": kind},
                )
            )
    return tuple(items)


def make_events(
    items: Sequence[ItemMessage],
    seed: int = 1,
    *,
    shoppers: int = 200,
    start_ms: int,
    gap_ms: int = 100,
) -> Iterator[ClickMessage | SearchMessage]:
    """Make events without end: the sessions of many shoppers, interleaved.

    Args:
        items: from `make_items`.
        start_ms: epoch ms of the first event; each next one comes `gap_ms` later.
    """
    rng = random.Random(f"events {seed}")
    shelves = {
        category.name: [item for item in items if item.category[1:] == [category.name]]
        for category in CATEGORIES
    }
    people = [_Shopper(number + 1, rng) for number in range(shoppers)]
    active = people[: max(1, shoppers // 10)]
    waiting = people[len(active) :]
    for number in itertools.count():
        place = rng.randrange(len(active))
        shopper = active[place]
        if not shopper.steps:
            shopper.session += 1
            shopper.steps = _session(shopper, shelves, rng)
        event = shopper.steps.pop(0)
        if not shopper.steps and waiting:
            waiting.append(shopper)
            active[place] = waiting.pop(0)
        yield msgspec.structs.replace(
            event, event_id=f"synthetic-{seed}-{number}", event_time=start_ms + number * gap_ms
        )


def _session(
    shopper: _Shopper, shelves: dict[str, list[ItemMessage]], rng: random.Random
) -> list[ClickMessage | SearchMessage]:
    """One visit: perhaps a search, some looking around, perhaps a purchase."""
    category = rng.choice(shopper.taste)
    if rng.random() < 0.25:
        category = next(other for other in CATEGORIES if other.name == category.goes_with)
    shelf = shelves[category.name]
    session_id = f"{shopper.user_id}-{shopper.session}"
    steps: list[ClickMessage | SearchMessage] = []
    if rng.random() < 0.4:
        noun, kind = rng.choice(category.nouns), rng.choice(category.kinds)
        query = rng.choice((noun, f"{kind} {noun}", f"{noun} for {rng.choice(category.uses)}")).lower()
        steps.append(
            SearchMessage(
                event_id="",
                event_time=0,
                user_id=shopper.user_id,
                search_query=query,
                session_id=session_id,
                result_item_ids=[item.item_id for item in shelf if noun in item.title][:10],
                context=LABEL,
            )
        )
    for _ in range(rng.randint(2, 6)):
        item = _look_at(shopper, shelf, rng)
        steps.append(_click(shopper, session_id, "view_item", item))
        if rng.random() < 0.2:
            steps.append(_click(shopper, session_id, "add_to_cart", item))
            if rng.random() < 0.5:
                steps.append(_click(shopper, session_id, "purchase", item))
                shelf = shelves[category.goes_with]
    return steps


def _look_at(shopper: _Shopper, shelf: Sequence[ItemMessage], rng: random.Random) -> ItemMessage:
    """Choose from a shelf: what stands in front is popular, and a shopper has a favourite colour."""
    weights = [
        (3.0 if item.title.endswith(shopper.colour) else 1.0) / (place + 2)
        for place, item in enumerate(shelf)
    ]
    return rng.choices(shelf, weights)[0]


def _click(shopper: _Shopper, session_id: str, event_type: EventType, item: ItemMessage) -> ClickMessage:
    return ClickMessage(
        event_id="",
        event_type=event_type,
        event_time=0,
        user_id=shopper.user_id,
        item_id=item.item_id,
        session_id=session_id,
        price=item.price,
        quantity=1,
        currency=CURRENCY,
        context=LABEL,
    )
