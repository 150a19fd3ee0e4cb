"""The written contract: never stale, valid, and true of the messages that are taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from stream import schema
from stream.core.events import Source, decode_click, decode_item, decode_search

DOCS = Path(__file__).parents[2] / "docs"
NOW = Source("t", 0, 0, 1_900_000_000_000)


def _document(name: str) -> Any:
    return json.loads((DOCS / name).read_text())


def test_the_documents_are_what_the_code_says_now() -> None:
    assert schema.stale(DOCS) == [], "`streamrec schema` writes them anew"


def test_a_changed_or_missing_document_is_stale(tmp_path: Path) -> None:
    written = schema.write(tmp_path)
    assert schema.stale(tmp_path) == []
    written[0].write_text("{}")
    written[1].unlink()
    assert schema.stale(tmp_path) == written[:2]


@pytest.mark.parametrize("name", schema.MESSAGES)
def test_every_schema_is_valid_and_its_example_too(name: str) -> None:
    message = schema.MESSAGES[name]
    document = _document(message.file)
    jsonschema.Draft202012Validator.check_schema(document)
    jsonschema.validate(message.example, document)


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _objects(inner)


@pytest.mark.parametrize("name", schema.MESSAGES)
def test_every_field_has_a_description(name: str) -> None:
    document = _document(schema.MESSAGES[name].file)
    for node in _objects(document):
        for field, definition in node.get("properties", {}).items():
            assert definition.get("description"), field


def test_the_examples_are_taken_by_the_engine() -> None:
    examples = {name: msgspec.json.encode(message.example) for name, message in schema.MESSAGES.items()}
    assert decode_click(NOW, b"u-7", examples["click"]).user_id == "u-7"
    assert decode_search(NOW, b"u-7", examples["search"]).query == "christmas lights"
    assert decode_item(b"85048", examples["item"])[0] == "85048"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("click", {"event_type": "wave"}),
        ("click", {"price": -1}),
        ("click", {"items": []}),
        ("search", {"search_query": ""}),
        ("item", {"title": None}),
        ("recommendationList", {"sequence": "3"}),
    ],
)
def test_a_schema_refuses_what_the_engine_refuses(name: str, change: dict[str, Any]) -> None:
    message = schema.MESSAGES[name]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**message.example, **change}, _document(message.file))


def _follow(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        document = document[part]
    return document


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = _document(schema.ASYNCAPI_FILE)
    references = [node["$ref"] for node in _objects(document) if "$ref" in node]
    assert references
    for reference in references:
        _follow(document, reference)


def test_the_asyncapi_document_has_the_shape_that_version_3_asks_for() -> None:
    document = _document(schema.ASYNCAPI_FILE)
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert document.keys() <= {
        *("asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components")
    }
    for server in document["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for channel in document["channels"].values():
        assert channel["address"]
        assert all(message.keys() == {"$ref"} for message in channel["messages"].values())
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = _follow(document, operation["channel"]["$ref"])
        for message in operation["messages"]:
            # Messages of an operation must be among those of its channel.
            assert _follow(document, message["$ref"]) in channel["messages"].values()


def test_the_asyncapi_document_tells_topics_keys_and_examples() -> None:
    document = _document(schema.ASYNCAPI_FILE)
    assert {channel["address"] for channel in document["channels"].values()} == {
        *("clicks", "searches", "items", "recommendations", "attributions", "dead-letters", "rules")
    }
    for name, message in schema.MESSAGES.items():
        described = document["components"]["messages"][name]
        assert described["bindings"]["kafka"]["key"]["type"] == "string"
        assert described["examples"][0]["payload"] == message.example
    headers = document["components"]["schemas"]["DeadLetterHeaders"]
    assert set(headers["required"]) == headers["properties"].keys() - {"cut", "null-value"}
