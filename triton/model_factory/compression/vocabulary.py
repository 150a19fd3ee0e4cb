"""A smaller vocabulary: pieces that a shop's texts never use are taken out of tokenizer and embeddings.

A text that is cut into kept pieces alone is cut the same afterwards and has the very same vector: WordPiece
takes the longest piece that it knows, and the longest one is still known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from model_factory.compression.bert import WORDS, Bert

CONTINUES = "##"
AT_ONCE = 2_048


def count(tokenizer: Path, texts: Sequence[str]) -> Counter[int]:
    """Count how often the texts use each piece, by its id."""
    from tokenizers import Tokenizer

    cutting = Tokenizer.from_file(str(tokenizer))
    cutting.no_padding()
    cutting.no_truncation()
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), AT_ONCE):
        for encoding in cutting.encode_batch(list(texts[start : start + AT_ONCE])):
            counts.update(encoding.ids)
    return counts


def kept(said: Mapping[str, Any], counts: Mapping[int, int], least: int, general: int) -> list[int]:
    """Choose the ids that stay, rising.

    Args:
        said: what tokenizer.json says.
        counts: of the texts, by id.
        least: times that a piece was seen.
        general: so many pieces of whole words stay in any case, the first ones: published vocabularies list
            them by how frequent they are in general English.

    Returns:
        Those, the special tokens and all single characters, so that a known character never becomes unknown.

    Raises:
        typer.BadParameter: the tokenizer is no WordPiece.
    """
    if said.get("model", {}).get("type") != "WordPiece":
        raise typer.BadParameter("Only the vocabulary of a WordPiece tokenizer can be pruned.")
    pieces: Mapping[str, int] = said["model"]["vocab"]
    special = {token["id"] for token in said.get("added_tokens", ())}
    characters = {number for piece, number in pieces.items() if len(piece.removeprefix(CONTINUES)) == 1}
    words = sorted(
        number
        for piece, number in pieces.items()
        if len(piece) > 1 and piece.isalpha() and number not in special
    )
    seen = {number for number, times in counts.items() if times >= least}
    return sorted(special | characters | seen | set(words[:general]))


def rewritten(said: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """Return tokenizer.json with the kept ids alone, numbered anew in their order."""
    number = {old: new for new, old in enumerate(ids)}
    changed: dict[str, Any] = json.loads(json.dumps(said))
    changed["model"]["vocab"] = {
        piece: number[old]
        for piece, old in sorted(said["model"]["vocab"].items(), key=lambda item: item[1])
        if old in number
    }
    for token in changed.get("added_tokens", ()):
        token["id"] = number[token["id"]]
    processor = changed.get("post_processor") or {}
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [number[old] for old in token["ids"]]
    for name in ("sep", "cls"):  # BertProcessing
        if name in processor:
            processor[name][1] = number[processor[name][1]]
    if changed.get("padding"):
        changed["padding"]["pad_id"] = number[changed["padding"]["pad_id"]]
    return changed


def select(bert: Bert, ids: Iterable[int]) -> Bert:
    """Return the model with the embeddings of the kept ids, in their order."""
    rows = np.fromiter(ids, np.int64)
    weights = {**bert.weights, WORDS: bert.weights[WORDS][rows]}
    padding = bert.config.get("pad_token_id")
    places = {int(old): new for new, old in enumerate(rows)}
    return bert.having(weights, vocab_size=len(rows), pad_token_id=places.get(padding, padding))
