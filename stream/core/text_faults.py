"""Faults that a product's text shows by itself: empty, damaged, stuffed, disguised, injected.

Each rule takes what `stream.core.quality` prepares (the text, folded or not, and its words; `strange` is the
text where it holds other characters than `PLAIN`, else "") and gives a strength in 0..1 that grows with the
evidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream.core.disguise import INVISIBLE, mixed_words
from stream.core.letters import likely
from stream.core.shop_words import FUNCTION_WORDS, KINDS, MAKERS, kinds_in, makers_in

PLAIN = frozenset(
    "\t\n" + "".join(map(chr, range(32, 127))) + "®™©°²³½µμΩ×±·–—‘’“”…€£äöüßéèêëàáçñóíúøåæØÄÖÜÉÅ"
)
"""Characters that no rule objects to: most texts hold no others, and need not be searched for them."""


def at(count: int, steps: Sequence[float]) -> float:
    """The strength of so many pieces of evidence: steps[0] for none, the last one for many."""
    return steps[min(count, len(steps) - 1)]


_HAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

_PLACEHOLDER_WORDS = """
null none nil nan undefined unknown untitled test testing tbd tba todo dummy sample placeholder default asdf
qwerty xxx lorem ipsum title name product item description na
"""
_PLACEHOLDERS = frozenset(_PLACEHOLDER_WORDS.split()) | {
    "product name",
    "product title",
    "new product",
    "test product",
    "no title",
    "no name",
    "n a",
    "lorem ipsum",
    "lorem ipsum dolor",
}


def empty(title: str, head: list[str], body: list[str]) -> float:
    """Too little to know what is sold. A character of Chinese, Japanese or Korean counts as three letters."""
    if " ".join(head) in _PLACEHOLDERS or " ".join(head[:3]) == "lorem ipsum dolor":
        return 0.9
    letters = sum(map(len, head)) + 2 * len(_HAN.findall(title))
    if letters >= 4:
        return 0.0
    more = sum(map(len, body)) + 2 * len(_HAN.findall(" ".join(body)))
    if letters == 0:
        return 0.6 if more >= 12 else 0.9
    if more >= 12:
        return 0.0
    return 0.55 if letters < 3 else 0.4


_LOST = re.compile(
    "[\ufffd\ue000-\uf8ff\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]"  # lost, private, control
    "|[\u00c2\u00c3][\u0080-\u00bf\u0152-\u0192\u2018-\u2122]"  # UTF-8 read as Latin 1, here and below
    "|\u00e2\u20ac|\u00ef\u00bb\u00bf"
    "|(?:[\u00d0\u00d1][\u0080-\u00bf\u0152-\u0192\u2018-\u2122]){2}"
)
_NO_VOWEL = re.compile(r"[bcdfghjklmnpqrstvwxz]+\Z")


def damaged(text: str, strange: str, head: list[str], body: list[str], words: set[str]) -> float:
    """Lost or wrongly decoded characters, signs instead of letters, and words that are none."""
    lost = len(_LOST.findall(strange))
    strength = at(lost, (0.0, 0.2, 0.35, 0.6, 0.75))
    letters = sum(map(len, head)) + sum(map(len, body))
    if len(text) - text.count(" ") - letters > letters + 10:
        strength = max(strength, 0.6)
    odd = [word for word in words if len(word) > 6 and (len(word) > 45 or _NO_VOWEL.match(word))]
    return max(strength, at(len(odd), (0.0, 0.2, 0.4, 0.6)))


def gibberish(head: list[str]) -> float:
    """A title whose letters follow one another as they do in no language."""
    mean, count = likely(set(head))
    if count < 3:
        return 0.0
    return 0.6 if mean < 2.8 else 0.3 if mean < 3.2 else 0.0


_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|&(?:[a-zA-Z]{2,8}|#\d{2,5});")


def markup(text: str) -> float:
    """Tags that a shop forgot to take out; they disturb, but they are no reason to hold a product back."""
    tags = len(_TAG.findall(text)) if "<" in text or "&" in text else 0
    return min(0.05 * tags, 0.3)


WINDOW = 24
"""Repetitions count within so many words: a long description may say a word often."""
_REPEATED_IN_TITLE = (0.0, 0.0, 0.0, 0.0, 0.25, 0.45, 0.6, 0.75, 0.85)
_REPEATED_IN_BODY = (0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.3, 0.5, 0.65, 0.8)


def repetition(head: list[str], body: list[str]) -> float:
    """How often a word stands within `WINDOW` words, or a phrase in a row, in title or description."""
    return max(_repeated(head, _REPEATED_IN_TITLE), _repeated(body, _REPEATED_IN_BODY))


def _repeated(words: list[str], steps: Sequence[float]) -> float:
    if len(words) < 3 or len(words) - len(set(words)) < 2:
        return 0.0
    places: dict[str, list[int]] = {}
    most = 0
    for place, word in enumerate(words):
        if len(word) < 3 or word in FUNCTION_WORDS or not word.isalpha():
            continue
        near = places.setdefault(word, [])
        near.append(place)
        while place - near[0] >= WINDOW:
            near.pop(0)
        most = max(most, len(near))
    return max(_in_a_row(words), at(most, steps))


def _in_a_row(words: list[str]) -> float:
    """Whether a phrase of up to three words, with a letter in it, stands three times in a row."""
    for length in (1, 2, 3):
        run = 0
        for place in range(length, len(words)):
            run = run + 1 if words[place] == words[place - length] else 0
            if run >= 2 * length and not "".join(words[place - length + 1 : place + 1]).isdecimal():
                return 0.6
    return 0.0


_KINDS_IN_TITLE = (0.0, 0.0, 0.0, 0.52, 0.65, 0.75, 0.85)
_KINDS_IN_BODY = (0.0, 0.0, 0.0, 0.0, 0.2, 0.4, 0.55, 0.65, 0.75)


_HASHTAG = re.compile(r"(?<![\w&#])#[^\W\d_]\w{2,}")
_HASHTAGS = (0.0, 0.1, 0.2, 0.4, 0.55, 0.65, 0.75, 0.85)


def hashtags(text: str) -> float:
    """Words that are there to be found by, as in a social network."""
    return at(len(_HASHTAG.findall(text)) if "#" in text else 0, _HASHTAGS)


def brands(head: list[str]) -> float:
    """Many makers in one title."""
    return at(len(makers_in(head)), (0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.75, 0.85))


def keywords(head: list[str], body: list[str]) -> float:
    """Kinds of products that are not sold as one."""
    return max(at(len(kinds_in(head)), _KINDS_IN_TITLE), at(len(kinds_in(body)), _KINDS_IN_BODY))


_ORNAMENT = re.compile("[\U0001d400-\U0001d7ff\u24b6-\u24e9\U0001f130-\U0001f189\U0001f1e6-\U0001f1ff]")
_LEET = str.maketrans("0134578@$", "oieastbas")
_SPACED = re.compile(r"(?<!\w)(?:[^\W\d_] ){4,}[^\W\d_](?!\w)")
_LURES = """
best price cheap cheapest sale free offer discount deal order online official original wireless black white
quality premium wholesale replica certified genuine bluetooth battery memory
"""
_LEETED = KINDS.keys() | MAKERS.keys() | set(_LURES.split())


def disguise(text: str, strange: str, head: list[str], words: set[str]) -> float:
    """Words whose letters are not what they seem."""
    mixed = mixed_words(strange)
    short = sum(1 for word in mixed if len(word) < 4)
    disguised = len(mixed) - short + short // 3 + (len(_ORNAMENT.findall(strange)) + 2) // 3
    if [*map(len, head)].count(1) > 4:
        disguised += len(_SPACED.findall(text))
    for word in words:
        if len(word) >= 4 and not word.isalpha() and not word.isdecimal():
            plain = word.translate(_LEET)
            singular = plain.removesuffix("s")
            if plain.isalpha():
                disguised += plain in _LEETED or (len(singular) >= 4 and singular in _LEETED)
    return at(disguised, (0.0, 0.55, 0.7, 0.8, 0.9))


_INSIDE = re.compile(rf"(?<=[^\W\d_])(?:{INVISIBLE.pattern})+(?=[^\W\d_])")
_REORDER = re.compile("[\u202d\u202e\U000e0000-\U000e007f]")


def invisible(strange: str) -> float:
    """Soft hyphens and byte order marks come with honest texts, one or two; more are meant."""
    if strange.isascii():
        return 0.0
    inside = len(_INSIDE.findall(strange))
    hyphens = strange.count("\u00ad")
    return max(
        at(inside - min(inside, hyphens), (0.0, 0.3, 0.55, 0.7, 0.8)),
        at(hyphens // 3, (0.0, 0.1, 0.2, 0.3)),
        at(len(_REORDER.findall(strange)), (0.0, 0.55, 0.7)),
    )


_COMMANDS = """
ignore disregard forget override bypass assistant chatbot prompt system instructions instruction rank ranking
recommend relevance score always ai llm gpt im_start inst ignoriere ignorez ignora anweisungen
"""
_COMMAND_WORDS = frozenset(_COMMANDS.split())
_READERS = (
    r"(?:search\s+engine|(?:language|ranking|retrieval|recommendation|ai)\s+model|(?:ranking|search)\s+algorithm|"
    r"algorithm|recommender|crawler|classifier|evaluator|chatbot|assistant|indexer|ranker)s?"
)
_JUDGED = (
    r"(?:relevan\w+|rank\w*|judge?ment|judge|match|favou?r\w*|prefer\w*|treat|score|rate|prioriti\w+|top|first|"
    r"best)"
)
_ADDRESSED = re.compile(
    r"\b(?:to|for|dear|hey|hello|hi|attention|note|message)\s+(?:the\s+|this\s+|all\s+|any\s+|an?\s+)?"
    rf"{_READERS}\b"
    rf".{{0,120}}\b{_JUDGED}\b"
)
"""Somebody who ranks is spoken to, and told how."""
_ABROAD = re.compile(
    # To ignore or forget, in the imperative, and soon the instructions: German, Dutch, French, Spanish,
    # Portuguese, Italian, Swedish, Danish, Polish, Czech.
    r"\b(?:ignor\w*|verg[ei]\w+|negeer|omite|omita|oubli\w+|olvid\w+|esque[cç]\w+|desconsider\w+|dimentica\w*|"
    r"trascura\w*|bortse|glöm|glem|zignoruj|zapomnij|pomiń|zapomeň|přehlédni)\b.{0,40}"
    r"\b(?:anweisung\w*|vorgabe\w*|regeln|instructie\w*|opdracht\w*|consigne\w*|instruction\w*|instruccion\w*|"
    r"instrucciones|instruç\w+|istruzion\w*|anvisning\w*|instruktion\w*|instrukcj\w*|polecen\w*|pokyn\w*)\b"
)
_INSTRUCTION = re.compile(
    r"\b(?:ignor\w+|disregard|forget|override|bypass)\b.{0,40}\b(?:previous|prior|above|earlier|all|every|any|"
    r"system|other|your|everything|précédent\w*|vorherig\w*|bisherig\w*|anterior\w*)\b"
    r"|\b(?:system|developer|new)\s+(?:prompt|instructions?|message)\b"
    r"|\byou\s+(?:are|must|should|will)\s+(?:now\s+)?"
    r"(?:an?\s|act|always|rank|recommend|respond|answer|output|return|give|score|rate|place|put)"
    r"|\b(?:rank|place|put|list|show|recommend|return|rate|score|boost|display|output|answer|choose|select)\s+"
    r"(?:this|it|me|us)\b.{0,30}\b"
    r"(?:first|top|highest|number\s+one|no\.?\s*1|10|100|1\.0|above|relevant|maximum|best|always|instead|higher)\b"
    r"|\balways\s+(?:rank|recommend|show|return|choose|select|place|put|answer|output)\b"
    r"|\b(?:do\s+not|don['’]t|never)\s+(?:show|recommend|rank|list|mention)\b"
    r"|\b(?:relevance|relevancy|relevant)\b.{0,12}(?:score|:|=|is).{0,8}(?:1\.0|10\b|100|max\w*|highest|perfect)"
    r"|\bas\s+an?\s+(?:ai|language\s+model|assistant)\b"
    r"|<\|?/?(?:im_start|im_end|system|endoftext|assistant|user)\|?>|\[/?inst\]"
    r"|#{2,}\s*(?:instruction|system|response)"
    r"|(?:^|\n)\s*(?:system|assistant|user)\s*:"
)


def instructions(lower: str, words: set[str]) -> float:
    """Sentences that speak to a model or to a ranking."""
    found = 0
    if not _COMMAND_WORDS.isdisjoint(words) or "<|" in lower:
        found += len(_INSTRUCTION.findall(lower))
    found += len(_ADDRESSED.findall(lower)) + len(_ABROAD.findall(lower))
    return at(found, (0.0, 0.7, 0.85, 0.95))


_CODE_SIGNS = re.compile(r"[<{$;]|--|' |\bselect\b|\bdrop\b|javascript")
_CODE = re.compile(
    r"<\s*/?\s*(?:script|iframe|svg|img|object|embed|form|input|style|meta|link|base)\b[^>]{0,20}"
    r"|javascript\s*:|\bon(?:error|load|click|mouseover)\s*=|document\.(?:cookie|location)|\beval\s*\(|alert\s*\("
    r"|\b(?:drop|truncate)\s+table\b|\bunion\s+(?:all\s+)?select\b|\binsert\s+into\b|\bdelete\s+from\b"
    r"|['\"]\s*(?:or|and)\s+['\"]?\d+['\"]?\s*=\s*['\"]?\d|;\s*--|\bselect\b.{1,30}\bfrom\b.{1,30}\bwhere\b"
    r"|\$\{[^}]{2,}|\{\{.{1,60}?\}\}|\{%.{1,60}?%\}|<\?php|\.\./\.\./|%3cscript|\\x[0-9a-f]{2}\\x"
)


def code(lower: str) -> float:
    """What a page, a database or a template engine would run."""
    return at(len(_CODE.findall(lower)) if _CODE_SIGNS.search(lower) else 0, (0.0, 0.7, 0.85, 0.95))


_URL = re.compile(
    r"https?://|\bwww\.|\b[\w-]+\.(?:com|net|org|info|biz|shop|store|xyz|online|ru|cn|top|io|ly)/\w",
    re.IGNORECASE,
)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.IGNORECASE)
_CALL_WORDS = frozenset(
    (
        "call",
        "tel",
        "telephone",
        "phone",
        "fax",
        "whatsapp",
        "telegram",
        "viber",
        "contact",
        "hotline",
        "sms",
        "text",
    )
)
_CALL = re.compile(
    r"\b(?:call|tel|telephone|hotline|contact|fax|text|sms|phone)\b(?:\W{1,3}(?:us|me|now|at|on|or|whatsapp)\b|\s*[:.#]|"
    r"\s+(?=[+(0]))+\W{0,3}\d[\d ()./-]{6,}\d"
    r"|\b(?:whatsapp|telegram|viber)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<!\w)\+\d{1,3}[ (.-]{1,2}\d[\d ().-]{6,}\d\b|\+\d{10,14}\b")


_SPELT = re.compile(
    r"\w\s*[(\[{]?\s*\b(?:dot|punkt|punto|point)\b\s*[)\]}]?\s*(?:com|net|org|info|biz|shop|store|online|de|uk|fr|eu)\b"
    r"|\w\s*[(\[{]\s*(?:at|ät)\s*[)\]}]\s*\w|(?<!\w)\d(?:[ .\-]\d){7,}(?!\w)"
    r"|\b(?:find|follow|visit|message|dm|write|search|look)\s+(?:to\s+)?(?:us|me|for|our)\b.{0,30}"
    r"\b(?:instagram|facebook|tiktok|twitter|telegram|wechat|snapchat|browser|google|web|website|shop)\b",
    re.IGNORECASE,
)
"""Addresses and numbers spelt out so that machines do not see them, and other ways to lead away."""


def contact(title: str, description: str, words: set[str]) -> float:
    """Shops name their own pages in descriptions; in a title there is no reason to."""
    strength = 0.0
    for text, url_steps in ((title, (0.0, 0.55, 0.7)), (description, (0.0, 0.15, 0.25, 0.55))):
        if "." in text or "/" in text:
            strength = max(strength, at(len(_URL.findall(text)), url_steps))
        if "@" in text:
            strength = max(strength, at(len(_MAIL.findall(text)), (0.0, 0.55, 0.7)))
        if "+" in text and _NUMBER.search(text):
            strength = max(strength, 0.55)
    if _SPELT.search(f"{title}\n{description}"):
        strength = max(strength, 0.55)
    if not words.isdisjoint(_CALL_WORDS) and _CALL.search(f"{title}\n{description}"):
        strength = max(strength, 0.55)
    return strength


_PROMISE = re.compile(
    r"\b(?:best|lowest|cheapest|unbeatable|amazing|crazy)\s+(?:price|deal|offer|quality|seller|selling)s?\b"
    r"|\b(?:buy|order|shop|call|act|click)\s+(?:it\s+)?(?:now|today|here|online)\b|\bbuy\s+\d\s+get\b"
    r"|\bhot\s+(?:sale|deal)\b|\b(?:huge|big|mega|super)\s+(?:discount|sale)s?\b|\b\d{2}\s?%\s*off\b"
    r"|\b(?:free|fast|worldwide|express)\s+(?:shipping|delivery|gift)\b"
    r"|\b100\s?%\s*(?:free|genuine|guarantee\w*|original|satisf\w+)|\bguaranteed\b|\brisk[\s-]free\b"
    r"|\b(?:limited|special|exclusive)\s+(?:time\s+)?offer\b|\bwhile\s+(?:stocks?|supplies)\s+lasts?\b"
    r"|\b(?:don['’]t|do\s+not)\s+miss\b|\bmoney[\s-]back\b|\bclick\s+(?:the\s+link|below)\b"
    r"|\bbest\s?sellers?\b|\bmust[\s-]have\b|\bearn\s+money\b|\bwinner\b"
)
_PROMISE_WORDS = """
best lowest cheapest unbeatable amazing crazy buy order shop call act click hot free fast worldwide express
limited special exclusive miss money huge big mega super off bestseller bestsellers must guaranteed winner
risk 100 while
"""
_PROMISES = frozenset(_PROMISE_WORDS.split())
_SHOUT = re.compile("[!?]{3,}|[\u2605\u2606\u2702-\u27bf\u203c\u2049\u2b50\U0001f300-\U0001faff]")


def advertising(lower: str, words: set[str], text: str) -> float:
    """Promises, and signs that shout; a single promise is common."""
    promises = set() if words.isdisjoint(_PROMISES) else {found.group() for found in _PROMISE.finditer(lower)}
    shouts = len(_SHOUT.findall(text)) if not text.isascii() or "!!" in text or "??" in text else 0
    return at(len(promises) + min(shouts, 3), (0.0, 0.15, 0.4, 0.6, 0.75, 0.85))
