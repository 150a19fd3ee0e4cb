"""Words that shops have in common: kinds of products, makers, colours. English, with what is close to it.

They are evidence in `stream.core.quality`, which needs several at once: a title that names unrelated kinds
of products, or many makers, was written to be found rather than to be read. What these lists lack, it misses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WORD = re.compile(r"[^\W_]+")
"""A word of letters and digits, in a text that is case folded."""

_KINDS = """
computer: laptop notebook chromebook ultrabook macbook desktop computer workstation netbook
tablet: tablet ipad ereader kindle
phone: phone smartphone iphone cellphone handset
television: tv television
monitor: monitor
projector: projector beamer
printer: printer toner cartridge inkjet photocopier
scanner: scanner
camera: camera camcorder webcam lens tripod
headphones: headphone earphone earbud headset airpod
speaker: speaker soundbar subwoofer
gaming: playstation ps4 ps5 xbox nintendo gamepad
input: mouse mice trackball keyboard
watch: smartwatch watch
refrigerator: fridge freezer refrigerator
dishwasher: dishwasher
laundry: washer dryer laundry
cooking: microwave oven cooker hob
small kitchen: kettle toaster blender juicer mixer
coffee: coffee espresso nespresso
vacuum: vacuum
shoes: shoe sneaker boot sandal slipper heel trainer
clothes: dress shirt jeans jacket skirt trouser sweater hoodie coat sock blouse underwear bra legging
bags: backpack handbag suitcase luggage wallet purse briefcase
seating: sofa couch armchair recliner stool chair ottoman loveseat
tables: desk table
beds: bed mattress bedding pillow duvet headboard
wardrobe: wardrobe dresser bookcase cupboard nightstand
lighting: lamp chandelier sconce flashlight torch
rugs: rug carpet curtain wallpaper
beauty: shampoo perfume lipstick mascara makeup lotion
toys: doll lego puzzle teddy toy
jewellery: necklace earring bracelet jewellery jewelry
garden: lawnmower parasol barbecue bbq pergola
network: router modem
charger: charger powerbank
calculator: calculator
books: book novel cookbook
films: dvd bluray movie
drone: drone quadcopter
bicycle: bicycle bike scooter
pram: pram stroller diaper nappy
health: vitamin supplement viagra
tools: drill hammer screwdriver chainsaw
pets: aquarium leash
tyre: tyre tire
music: guitar piano violin drum
"""

KINDS: dict[str, str] = {
    word: name
    for name, _, words in (line.partition(":") for line in _KINDS.strip().splitlines())
    for word in words.split()
}
"""The kind of product by the word for it, in the singular."""

_MAKERS = """
acer adidas aeg alcatel alienware amazon anker aoc apple archos asus beko benq blackberry blomberg bosch bose
braun brother canon casio cisco creative dell delonghi dewalt doro dyson electrolux epson fitbit fujifilm
fujitsu garmin gigabyte google gopro gorenje grundig gucci haier hisense hitachi hotpoint hp htc huawei ikea
indesit jabra jbl jvc karcher kenwood kingston kodak krups kyocera lenovo lexmark lg liebherr linksys logitech
makita microsoft miele motorola msi neff nec netgear nike nikon nintendo nokia olympus oneplus oppo panasonic
philips pioneer prada puma razer realme reebok ricoh rolex rowenta ryobi samsung sandisk sanyo seagate
sennheiser siemens skullcandy smeg sony tcl tefal tomtom toshiba verbatim versace viewsonic vizio
vodafone westinghouse whirlpool xerox xiaomi zanussi zte oki dymo
"""
_LINES = {
    "compaq": "hp",
    "hewlett": "hp",
    "iphone": "apple",
    "ipad": "apple",
    "macbook": "apple",
    "galaxy": "samsung",
    "xperia": "sony",
    "thinkpad": "lenovo",
}

MAKERS: dict[str, str] = {word: word for word in _MAKERS.split()} | _LINES
"""The maker by a word of its name or of its line; words with another meaning, as sharp, are left out."""

_COLOURS = "black white red blue green pink purple orange brown"

COLOURS = frozenset(_COLOURS.split())
"""Colours that no one takes for one another, without silver and its neighbours, and without those of inks."""

_FUNCTION_WORDS = """
a an and are as at be by for from has have in into is it its no not of on or our that the their these this to
up we will with you your
der die das und mit für von im ist ein eine zu auf
le la les de des du et pour avec un une en
el los las con para por y il lo di da per e
het een van voor met op och med för
"""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words without which no sentence is written."""


_NAMED = {f"{word}s": kind for word, kind in KINDS.items()} | KINDS


def kinds_in(words: Iterable[str]) -> set[str]:
    """The kinds of products that folded words name, in the singular or with an s."""
    return {_NAMED[word] for word in words if word in _NAMED}


def makers_in(words: Iterable[str]) -> set[str]:
    """The makers that folded words name."""
    return {MAKERS[word] for word in words if word in MAKERS}
