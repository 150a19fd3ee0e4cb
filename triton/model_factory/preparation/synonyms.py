"""Find out what else a catalogue calls its products, from the texts of the products themselves.

A product of the type "notebook case" whose description says "laptop case" tells that the two are names of one
thing. A short list of what shoppers commonly say comes first.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from model_factory.preparation.sources import Product
from model_factory.preparation.wording import FILLERS, terms

AT_LEAST = 5
"""Products of a type that must use the other name."""
SHARE = 0.02
"""Of the products of the type that must."""

COMMON: Mapping[str, tuple[str, ...]] = {
    "notebook": ("laptop",),
    "notebook case": ("laptop bag", "laptop case", "laptop sleeve"),
    "notebook spare part": ("laptop part",),
    "mobile phone": ("smartphone", "cell phone", "phone"),
    "mobile phone case": ("phone case", "phone cover"),
    "mobile device charger": ("phone charger", "usb charger"),
    "headphones": ("earphones", "headset"),
    "flash drive": ("usb stick", "memory stick", "thumb drive"),
    "television": ("tv",),
    "monitor": ("display", "screen"),
    "power supply unit": ("psu", "power supply"),
    "power adapter": ("power supply", "charger"),
    "power cable": ("power cord", "power lead"),
    "power distribution unit": ("pdu",),
    "uninterruptible power supply": ("ups", "battery backup"),
    "networking cable": ("ethernet cable", "network cable", "lan cable"),
    "patch cable": ("ethernet cable", "network cable"),
    "telephone cable": ("phone cord", "phone cable"),
    "networking card": ("network card", "ethernet card"),
    "audio cable": ("aux cable",),
    "projector lamp": ("projector bulb",),
    "data projector": ("projector", "beamer"),
    "internal hard drive": ("hdd", "hard disk"),
    "internal solid state drive": ("ssd",),
    "memory module": ("ram", "memory"),
    "graphics card": ("video card", "gpu"),
    "processor": ("cpu",),
    "motherboard": ("mainboard",),
    "shaver": ("razor", "electric shaver"),
    "surge protector": ("power strip",),
    "notebook dock": ("docking station", "laptop dock"),
    "label-making tape": ("label tape",),
    "household battery": ("batteries",),
    "optical disc drive": ("dvd drive", "cd burner"),
    "interface hub": ("usb hub",),
    "display privacy filter": ("privacy screen",),
    "fibre optic cable": ("fiber cable",),
    "flat screen wall mount": ("tv wall mount", "tv bracket"),
    "flat screen desk mount": ("monitor arm", "monitor stand"),
    "multifunction printer": ("all in one printer", "printer scanner"),
    "label printer": ("label maker",),
    "coffee maker": ("coffee machine",),
    "wireless presenter": ("clicker",),
}
"""What shoppers say, beside the words of catalogues."""


def mine(products: Sequence[Product], not_names: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return other names by name, in small letters and without plural.

    Args:
        products: with their categories.
        not_names: words that tell products of one type apart (colours, brands), and so name no type.
    """
    excluded = FILLERS | set(not_names)
    sizes: Counter[tuple[str, ...]] = Counter()
    used: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for product in products:
        kind = terms(product.category.split(" > ")[-1])
        if not 2 <= len(kind) <= 3:
            continue
        sizes[kind] += 1
        found = itertools.pairwise(terms(f"{product.title} . {product.description}"))
        used[kind].update(
            {
                before
                for before, head in found
                if head == kind[-1] and before not in kind and before.isalpha() and len(before) > 2
            }
        )
    others: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for name, said in COMMON.items():
        others[name].update(dict.fromkeys(said))
    for kind, befores in used.items():
        for before, count in sorted(befores.items(), key=lambda entry: (-entry[1], entry[0])):
            if before not in excluded and count >= max(AT_LEAST, SHARE * sizes[kind]):
                others[" ".join(kind)][f"{before} {kind[-1]}"] = None
    return {name: tuple(found) for name, found in sorted(others.items())}


def spoken(category: str) -> list[str]:
    """Return how a category is said: the last of its path, and one form for each word beside a slash.

    `printer/scanner spare part` is "printer spare part" and "scanner spare part".
    """
    words = [word.split("/") for word in category.split(" > ")[-1].split()]
    return [" ".join(said) for said in itertools.islice(itertools.product(*words), 4) if all(said) and said]
