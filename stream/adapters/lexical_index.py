"""Products by the words of their text: BM25 in memory on tantivy, updated while it is searched."""

from __future__ import annotations

import itertools
import threading
from functools import lru_cache

from tantivy import Document, Filter, Index, Occur, Query, SchemaBuilder, TextAnalyzerBuilder, Tokenizer

from stream.core.text import joined, words

JOINED_WEIGHT = 0.5
"""What two neighbouring words of the query, written as one, count beside each of them."""

MAX_QUERY_WORDS = 32
MAX_DESCRIPTION_CHARS = 10_000
NAMES_KEPT = 4_096
"""Brands and categories whose words are remembered."""
_WRITER_HEAP_BYTES = 50_000_000
"""With the least that tantivy takes, 15 MB, it writes and merges more parts of a large catalogue."""


@lru_cache(NAMES_KEPT)
def _of_name(name: str) -> tuple[str, ...]:
    return tuple(words(name))


class LexicalIndex:
    """`stream.ports.TextIndex`: title, description, brand and category in one field, stemmed (English).

    Thread-safe: changes and commits wait for one another, searches wait for nobody. BM25 has tantivy's
    fixed k1 1.2 and b 0.75.
    """

    def __init__(self) -> None:
        self._analyzer = TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.stemmer("english")).build()
        builder = SchemaBuilder()
        builder.add_text_field("item_id", tokenizer_name="raw", index_option="basic")
        builder.add_text_field("text", tokenizer_name="stemmed", index_option="freq")
        builder.add_unsigned_field("number", fast=True)
        self._schema = builder.build()
        self._index = Index(self._schema)
        self._index.register_tokenizer("stemmed", self._analyzer)
        self._index.config_reader("manual")  # reloading by itself too, it would wait for our own reload
        self._writer = self._index.writer(_WRITER_HEAP_BYTES, num_threads=1)
        self._changes = threading.Lock()
        # Hits carry a number for each version of an item: reading stored ids would cost more than the search.
        self._numbers = itertools.count()
        self._number_of: dict[str, int] = {}
        self._item_of: dict[int, str] = {}
        self._outdated: list[int] = []

    def add(self, item_id: str, title: str, description: str, brand: str, category: str) -> None:
        """Add or replace an item's text; found after the next `commit`."""
        parts = [words(title), words(description[:MAX_DESCRIPTION_CHARS])]
        said = set[str]().union(*parts)
        parts += [[word for word in _of_name(name) if word not in said] for name in (brand, category)]
        document = Document()
        document.add_text("item_id", item_id)
        document.add_text("text", " ".join([word for part in parts for word in (*part, *joined(part))]))
        with self._changes:
            self._forget(item_id)
            number = next(self._numbers)
            document.add_unsigned("number", number)
            self._writer.add_document(document)
            self._number_of[item_id] = number
            self._item_of[number] = item_id

    def remove(self, item_id: str) -> None:
        """Forget an item with the next `commit`; nothing happens where it is unknown."""
        with self._changes:
            self._forget(item_id)

    def commit(self) -> None:
        """Make what was added and removed count."""
        with self._changes:
            self._writer.commit()
            self._index.reload()
            for number in self._outdated:
                del self._item_of[number]
            self._outdated.clear()

    def search(self, query: str, limit: int) -> list[tuple[str, float]]:
        """Up to `limit` item ids with their BM25 scores, best first; any text will do as a query."""
        found = words(query)[:MAX_QUERY_WORDS]
        wanted = dict.fromkeys(self._stems(joined(found)), JOINED_WEIGHT)
        wanted |= dict.fromkeys(self._stems(found), 1.0)
        if not wanted or limit < 1:
            return []
        clauses = [
            (Occur.Should, Query.boost_query(Query.term_query(self._schema, "text", stem), weight))
            for stem, weight in wanted.items()
        ]
        searcher = self._index.searcher()
        hits = searcher.search(Query.boolean_query(clauses), limit, count=False).hits
        numbers = searcher.fast_field_values("number", [address for _, address in hits])
        item_ids = [self._item_of.get(number) for number in numbers]
        return [
            (item_id, score)
            for item_id, (score, _) in zip(item_ids, hits, strict=True)
            if item_id is not None
        ]

    def _stems(self, found: list[str]) -> list[str]:
        stems: list[str] = self._analyzer.analyze(" ".join(found))
        return stems

    def _forget(self, item_id: str) -> None:
        number = self._number_of.pop(item_id, None)
        if number is not None:
            self._writer.delete_documents_by_term("item_id", item_id)
            self._outdated.append(number)
