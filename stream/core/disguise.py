"""Characters that hide what a text says: look-alikes of another script, invisible ones, ornamental letters.

`clean_query` undoes them before a query is encoded and searched for; `stream.core.quality` counts them.
The look-alikes are those of Unicode's confusables (UTS 39) that a reader takes for a Latin letter.
"""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
    "|(?<=[\u0000-\u052f])[\u200c\u200d]"  # joiners have a use in Arabic, Indic scripts and emoji
    "|^[\u200c\u200d]"
)
"""One character that is drawn as nothing. Variation selector 16 is left: emoji carry it."""

_MARKS = re.compile("(?<=[\u0000-\u052f])[\u0300-\u036f\u0483-\u0489\u1dc0-\u1dff\u20d0-\u20f0]+")
"""Marks that no letter was composed with; a second normalisation would not take them either."""

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u024f\u0250-\u02af\u1d00-\u1dbf\u1e00-\u1eff]")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_FOREIGN = re.compile(
    "[\u0131\u0251\u0261\u0269\u0280-\u02af\u0370-\u0556\u0561-\u0587\u13a0-\u13fd\u1d00-\u1d7f]"
)

_CYRILLIC_TO_LATIN = {
    **dict(zip("авекмнорстухіјѕԁһԛԝԍӏѵɡ", "abekmhopctyxijsdhqwglvg", strict=True)),
    **dict(zip("АВЕКМНОРСТУХІЈЅԀҺԚԜӀѴ", "ABEKMHOPCTYXIJSDHQWIV", strict=True)),
}
_GREEK_TO_LATIN = {
    **dict(zip("αεηικνορτυχγ", "aenikvoptuxy", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
}
_OTHER_TO_LATIN = {
    **dict(zip("օոսհցյՕՍԼ", "ounhgjOUL", strict=True)),  # Armenian
    **dict(zip("ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "ABCDEGHJKLMPRSTVWZ", strict=True)),  # Cherokee
    **dict(zip("ɑɡɩʀɢɴʟʙʜʏ", "agirgnlbhy", strict=True)),
    **dict(zip("ᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "acdejkmoptuvwz", strict=True)),
}
_TO_LATIN = str.maketrans(_CYRILLIC_TO_LATIN | _GREEK_TO_LATIN | _OTHER_TO_LATIN)
_TO_CYRILLIC = str.maketrans("aceopxyiABCEHIKMOPTXY", "асеорхуіАВСЕНІКМОРТХУ")
_RARE = re.compile("[ѕһԁԛԝӏѵɡҺԚԜӀѴ\u0531-\u0587\u13a0-\u13fd]")
"""Look-alikes that hardly any shopper's language writes."""


def clean_query(text: str) -> str:
    """Write a text in the letters that it shows: a text without disguise, such as ASCII, stays as it is.

    Invisible characters go, ornamental and full-width letters become plain ones, and a word of mixed
    scripts is written in the one it is meant in. Nothing is done to signs such as the trade mark. A text
    of which nothing would be left stays too.
    """
    if text.isascii():
        return text
    visible = _MARKS.sub("", unicodedata.normalize("NFC", INVISIBLE.sub("", text)))
    plain = visible if visible.isascii() else "".join(map(_plain, visible))
    plain = _MARKS.sub("", unicodedata.normalize("NFC", INVISIBLE.sub("", plain)))
    if _FOREIGN.search(plain):
        plain = _written(plain)
    plain = " ".join(plain.split())
    return plain or text


def mixed_words(text: str) -> list[str]:
    """The words of several scripts that, in the letters they show, are of one."""
    if text.isascii() or not _FOREIGN.search(text):
        return []
    return [
        word
        for word, shown in zip(_WORD.findall(text), _WORD.findall(_written(text)), strict=True)
        if word != shown
    ]


def _plain(character: str) -> str:
    """A letter or digit without ornament; signs stay."""
    if character.isascii():
        return character
    if character.isalpha() or character.isdecimal() or "\uff01" <= character <= "\uff5e":
        return unicodedata.normalize("NFKC", character)
    if (
        "\u2460" <= character <= "\u24ff" or "\U0001f100" <= character <= "\U0001f1e5"
    ):  # in circles and squares
        plain = unicodedata.normalize("NFKC", character)
        return plain if plain.isalnum() else character
    return character


def _written(text: str) -> str:
    """The text with each word in one script; a word all of look-alikes is Latin where the text is."""
    cyrillic = any(_CYRILLIC.search(word.translate(_TO_LATIN)) for word in _WORD.findall(text))
    text = _WORD.sub(lambda found: _one_script(found[0], cyrillic), text)
    words = _WORD.findall(text)
    if any(word.isascii() and len(word) > 1 for word in words) and not any(
        _FOREIGN.search(word.translate(_TO_LATIN)) for word in words if len(word) > 1
    ):
        text = _WORD.sub(lambda found: found[0].translate(_TO_LATIN) if len(found[0]) > 1 else found[0], text)
    return text


def _one_script(word: str, cyrillic: bool) -> str:
    """The word in Latin or Cyrillic, where it mixes scripts and that is possible.

    Args:
        cyrillic: the text is, so that a word that could be either is too.
    """
    if word.isascii() or not _FOREIGN.search(word):
        return word
    latin = word.translate(_TO_LATIN)
    mixed = len([script for script in (_LATIN, _GREEK, _CYRILLIC) if script.search(word)]) > 1
    if not mixed and not (_RARE.search(word) and latin.isascii()):
        return word
    if cyrillic or _FOREIGN.search(latin):
        russian = word.translate(_TO_CYRILLIC)
        if not _LATIN.search(russian) and not _GREEK.search(russian):
            return russian
    return word if _FOREIGN.search(latin) else latin
