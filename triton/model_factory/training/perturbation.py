"""Perturbed inputs: what an encoder should see through, mixed into what it learns from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from model_factory.preparation.augmentation import reorder, typing_error

LOOK_ALIKES = dict(zip("aceiopxy", "асеіорху", strict=True))
"""Latin letters and the Cyrillic ones that look the same."""
STUFFED_WORDS = 4


def perturb(text: str, strangers: Sequence[str], rng: random.Random) -> str:
    """Disturb a text in one of four ways.

    Args:
        strangers: other texts, whose first words a stuffed one borrows.
    """
    kind = rng.choice(("typing", "order", "letters", "stuffing"))
    if kind == "typing":
        return typing_error(typing_error(text, rng), rng)
    if kind == "order":
        return reorder(text, rng)
    if kind == "letters":
        return "".join(LOOK_ALIKES.get(letter, letter) if rng.random() < 0.3 else letter for letter in text)
    stuffing = " ".join(rng.choice(strangers).split()[:STUFFED_WORDS])
    return f"{stuffing} {text}" if rng.random() < 0.5 else f"{text} {stuffing} {stuffing}"
