"""How far a product's text can be trusted: a score in 0..1 and the findings that lower it.

Each rule gives its finding a strength in 0..1, and the score is the product of (1 - strength). Strengths
grow with counts, never with shares, so that a text cannot be diluted: stuffing more into it never raises
its score. The rules are made for what attackers and broken feeds do, and must be silent on real catalogues,
whose texts are full of numbers, lists of compatible models and words without grammar. The figures are in
docs/models.md; `model-factory evaluate robustness` measures them anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stream.core import contradictions, text_faults
from stream.core.items import Item
from stream.core.policy import Policy
from stream.core.shop_words import WORD

CHARS_READ = 20_000
"""So much of a description is looked at."""

FINDINGS = {
    "empty": "next to nothing is written, or only a placeholder",
    "damaged": "characters were lost or decoded wrongly, or signs outnumber letters",
    "markup": "tags or entities of HTML stand in the text",
    "repetition": "words are repeated over and over",
    "gibberish": "the title's letters are those of no language",
    "keywords": "unrelated kinds of products are listed",
    "hashtags": "words hang there to be found by",
    "brands": "many makers are listed",
    "disguise": "letters of other scripts, ornamental, split or number-like letters imitate words",
    "invisible": "words hold characters that are drawn as nothing",
    "instructions": "the text addresses a model or the ranking instead of a shopper",
    "code": "script, SQL or template code",
    "contact": "web or mail addresses, or telephone numbers",
    "advertising": "promises and shouting instead of the product",
    "brand_conflict": "the brand, or a second one, disagrees with the title",
    "size_conflict": "two different values of one measure",
    "colour_conflict": "the title's colour is not that of the description or the attributes",
    "kind_conflict": "category or description are about another kind of product than the title",
    "misfit": "category and brand are not those of the text, as the cross-encoder reads them",
}
"""What a finding means, for the shop that has to repair the product."""


MISFIT = "misfit"
"""The one finding that is made by a model, in the background: see `stream.catalog.product_fit`."""


class Quality(NamedTuple):
    """A score in 0..1, 1 where nothing was found, and the names of the findings, gravest first."""

    score: float
    findings: tuple[str, ...]


def assess(
    title: str,
    description: str = "",
    brand: str = "",
    category: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> Quality:
    """Score what a shop says of a product; `category` is its path joined by " > "."""
    strengths = findings_of(title, description, brand, category, attributes)
    score = 1.0
    for strength in strengths.values():
        score *= 1.0 - strength
    return Quality(round(score, 3), tuple(sorted(strengths, key=lambda name: (-strengths[name], name))))


def stated(brand: str, category: str, facts: Sequence[str] = ()) -> str:
    """Write what a product is said to be, as the left text of a pair: brand, kind, attributes.

    Args:
        category: a path joined by " > ", of which the last part counts.
    """
    kind = category.rpartition(" > ")[2]
    return " ".join(part for part in (brand, kind, *facts) if part).casefold()


def with_fit(item: Item, fit: float, version: str, policy: Policy) -> Item:
    """An item after the cross-encoder has read how well its category and brand fit its text."""
    by_text = item.quality if item.text_quality is None else item.text_quality
    findings = tuple(finding for finding in item.quality_findings if finding != MISFIT)
    misfit = fit < policy.min_fit
    return msgspec.structs.replace(
        item,
        quality=round(by_text * (1.0 - policy.misfit_weight), 3) if misfit else by_text,
        quality_findings=(*findings, MISFIT) if misfit else findings,
        text_quality=by_text,
        fit=round(fit, 3),
        fit_version=version,
    )


def findings_of(
    title: str,
    description: str = "",
    brand: str = "",
    category: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """The strength in 0..1 of each finding, of which those that are 0 are left out."""
    description = description[:CHARS_READ]
    text = f"{title}\n{description}"
    folded_title, folded_body = title.casefold(), description.casefold()
    lower = f"{folded_title}\n{folded_body}"
    head, body = WORD.findall(folded_title), WORD.findall(folded_body)
    words = {*head, *body}
    strange = "" if text_faults.PLAIN.issuperset(text) else text
    attributes = attributes or {}
    strengths = {
        "empty": text_faults.empty(title, head, body),
        "damaged": text_faults.damaged(text, strange, head, body, words),
        "markup": text_faults.markup(text),
        "repetition": text_faults.repetition(head, body),
        "gibberish": text_faults.gibberish(head),
        "keywords": text_faults.keywords(head, body),
        "hashtags": text_faults.hashtags(text),
        "brands": text_faults.brands(head),
        "disguise": text_faults.disguise(text, strange, head, words),
        "invisible": text_faults.invisible(strange),
        "instructions": text_faults.instructions(lower, words),
        "code": text_faults.code(lower),
        "contact": text_faults.contact(title, description, words),
        "advertising": text_faults.advertising(lower, words, text),
        "brand_conflict": contradictions.brand_conflict(head, brand),
        "size_conflict": contradictions.size_conflict(folded_title, folded_body, attributes),
        "colour_conflict": contradictions.colour_conflict(head, body, attributes),
        "kind_conflict": contradictions.kind_conflict(head, body, category),
    }
    return {name: strength for name, strength in strengths.items() if strength > 0.0}
