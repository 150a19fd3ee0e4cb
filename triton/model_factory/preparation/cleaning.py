"""Repair texts that are broken, and leave the others as they are: what serves cleans nothing."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

BOILERPLATE_WORDS = 5
"""A shorter sentence says too little to be called boilerplate."""

_SUSPICIOUS = re.compile(r"[&<\\']|  ")
"""What plain ASCII must hold, to be repaired."""
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>|<!--.*?-->", re.DOTALL)
_ESCAPED_BREAK = re.compile(r"\\[nrt](?![a-z])")
_MOJIBAKE = re.compile("[ÃÂâ][\u0080-\u00bf\u0152-\u0178\u02c6\u02dc\u2013-\u2122€]")
_INCHES = re.compile(r"(?<=\d)\s?(?:''|′′|[”“″])")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_LOOKALIKES = str.maketrans("АВЕКМНОРСТХасеорху", "ABEKMHOPCTXaceopxy")
_WORD = re.compile(r"\w+")
_LATIN = re.compile(r"[A-Za-z0-9]")


def clean(text: str) -> str:
    """Repair markup, entities, encodings, inch marks and white space; cleaning twice changes nothing."""
    if text.isascii() and text.isprintable() and not _SUSPICIOUS.search(text):
        return text.strip()
    while True:
        repaired = _clean_once(text)
        if repaired == text:
            return text
        text = repaired


def _clean_once(text: str) -> str:
    text = html.unescape(_TAG.sub(" ", text))
    text = _ESCAPED_BREAK.sub(" ", _decode_again(text))
    text = "".join(_visible(character) for character in unicodedata.normalize("NFC", text))
    text = _WORD.sub(_latin_word, _INCHES.sub('"', text))
    return " ".join(text.split())


def _decode_again(text: str) -> str:
    """Undo UTF-8 that was read as Windows-1252 ("cafÃ©"), where all of the text allows it."""
    if not _MOJIBAKE.search(text):
        return text
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def _visible(character: str) -> str:
    """Control characters become a space, those without width and U+FFFD nothing."""
    category = unicodedata.category(character)
    if category in {"Cc", "Zl", "Zp"}:
        return " "
    return "" if category in {"Cf", "Cs", "Co", "Cn"} or character == "\ufffd" else character


def _latin_word(found: re.Match[str]) -> str:
    """Put Latin letters for Cyrillic ones that look the same, in a word that is Latin without them."""
    word = found.group()
    if word.isascii():
        return word
    latin = word.translate(_LOOKALIKES)
    return latin if latin.isascii() and _LATIN.search(word) else word


def boilerplate(texts: Iterable[str], at_least: int) -> set[str]:
    """Find sentences of five words or more that at least so many of the texts share."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({part for part in _SENTENCE.split(text) if part.count(" ") >= BOILERPLATE_WORDS - 1})
    return {sentence for sentence, count in counts.items() if count >= at_least}


def without(text: str, sentences: set[str]) -> str:
    """Leave out these sentences, unless nothing else would be left."""
    kept = " ".join(part for part in _SENTENCE.split(text) if part not in sentences)
    return kept or text
