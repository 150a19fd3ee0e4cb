"""The contract as documents: a JSON Schema of each message, and AsyncAPI 3 of the topics.

Both are made from the message types of `stream.core.events`, with the descriptions that stand there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from stream import __version__
from stream.config import Config, attribute_docs
from stream.core import events
from stream.core.events import ErrorCode
from stream.core.rules import AnyRule
from stream.core.rules.audience import Audience
from stream.core.rules.matching import Match
from stream.core.rules.rule import Rule
from stream.core.rules.schedule import Schedule

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KAFKA_BINDING = "0.5.0"
ASYNCAPI_FILE = "asyncapi.json"

Document = dict[str, Any]


RULE_STRUCTS: dict[str, type[msgspec.Struct]] = {
    struct.__name__: struct for struct in (Match, Schedule, Audience, *get_args(AnyRule))
}


class Message(NamedTuple):
    """A message of the contract: its type, the file of its schema, an example of it, and the key's field.

    `described` is the struct that says what it is, where the type is a union.
    """

    type: Any
    file: str
    example: Document
    key: str = "user_id"
    described: type[msgspec.Struct] | None = None

    @property
    def struct(self) -> type[msgspec.Struct]:
        """The struct whose name and docstring tell what the message is."""
        return self.described or self.type


MESSAGES = {
    "click": Message(
        events.ClickMessage,
        "schema/click.json",
        {
            "event_id": "e-1001",
            "event_type": "view_item",
            "event_time": "2026-01-31T12:00:00Z",
            "user_id": "u-7",
            "item_id": "85048",
        },
    ),
    "search": Message(
        events.SearchMessage,
        "schema/search.json",
        {
            "event_id": "e-1002",
            "event_time": 1769860801000,
            "user_id": "u-7",
            "search_query": "christmas lights",
        },
    ),
    "item": Message(
        events.ItemMessage,
        "schema/item.json",
        {
            "item_id": "85048",
            "title": "15CM CHRISTMAS GLASS BALL 20 LIGHTS",
            "category": ["Christmas", "Lights"],
            "price": 7.95,
            "currency": "GBP",
        },
        "item_id",
    ),
    "rule": Message(
        AnyRule,
        "schema/rule.json",
        {
            "id": "no-clearance-at-night",
            "kind": "exclude",
            "where": {"categories": ["Clearance"]},
            "placements": ["home"],
            "schedule": {"hours": ["22:00-06:00"], "time_zone": "Europe/London"},
        },
        "id",
        Rule,
    ),
    "recommendationList": Message(
        events.RecommendationList,
        "schema/recommendation-list.json",
        {
            "schema_version": 1,
            "recommendation_id": "u-7-3",
            "user_id": "u-7",
            "placement": "default",
            "sequence": 3,
            "generated_at": 1769860801012,
            "expires_at": 1769947201012,
            "trigger": {
                "event_id": "e-1002",
                "topic": "searches",
                "partition": 5,
                "offset": 42,
                "event_time": 1769860801000,
            },
            "model_versions": {"encoder": "1", "reranker": "1", "cross_encoder": "1"},
            "degraded": [],
            "items": [
                {
                    "item_id": "22111",
                    "rank": 1,
                    "score": 0.83,
                    "source": "query",
                    "reason": "because you searched for “christmas lights”",
                }
            ],
        },
    ),
    "attribution": Message(
        events.Attribution,
        "schema/attribution.json",
        {
            "schema_version": 1,
            "attribution_id": "0f3c5d0a1b2e4f6071829304",
            "user_id": "u-7",
            "outcome": "purchase",
            "event_id": "e-1007",
            "event_time": 1769861400000,
            "recommendation_id": "u-7-3",
            "placement": "default",
            "generated_at": 1769860801012,
            "matched": "item",
            "model_versions": {"encoder": "1", "reranker": "1"},
            "items": [{"item_id": "22111", "rank": 1, "source": "query", "quantity": 2, "price": 4.25}],
            "currency": "GBP",
            "value": 8.5,
        },
    ),
}

DEAD_LETTER_HEADERS: Document = {
    "type": "object",
    "description": "Why it could not be used, and where it lay; each is UTF-8 text.",
    "required": [
        "source-topic",
        "source-partition",
        "source-offset",
        "error-code",
        "error-message",
        "failed-at",
    ],
    "properties": {
        "source-topic": {"type": "string", "description": "The topic it lay in."},
        "source-partition": {"type": "string", "pattern": "^[0-9]+$", "description": "Its partition there."},
        "source-offset": {"type": "string", "pattern": "^[0-9]+$", "description": "Its offset there."},
        "error-code": {
            "type": "string",
            "enum": [code.value for code in ErrorCode],
            "description": "Why, for programs.",
        },
        "error-message": {"type": "string", "description": "Names the field and the reason, for people."},
        "failed-at": {"type": "string", "format": "date-time", "description": "When it was given up."},
        "cut": {
            "type": "string",
            "description": "What of key, value and headers was too large to keep, joined by commas.",
        },
        "null-value": {"type": "string", "description": "Present where key and value were null."},
    },
    "patternProperties": {"^original-": {"description": "A header of the message, as it came."}},
}


def documents() -> Iterator[tuple[str, bytes]]:
    """Yield each document: its path below `docs/` and its bytes."""
    for message in MESSAGES.values():
        yield message.file, _bytes({"$schema": DIALECT, **json_schema(message.type)})
    yield ASYNCAPI_FILE, _bytes(asyncapi())


def write(folder: Path) -> list[Path]:
    """Write the documents below a folder and return where they lie."""
    written = []
    for name, content in documents():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append(path)
    return written


def stale(folder: Path) -> list[Path]:
    """The documents below a folder that are missing or not what `write` would write."""
    return [
        folder / name
        for name, content in documents()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]


def json_schema(message: Any) -> Document:
    """The JSON Schema (2020-12) of a message, with the descriptions that stand below its attributes.

    Args:
        message: a struct, or a union of structs that are told apart by a tag.
    """
    schema = msgspec.json.schema(message)
    definitions = schema.pop("$defs")
    for name, definition in definitions.items():
        struct = RULE_STRUCTS.get(name) or getattr(events, name)
        config = struct.__struct_config__
        if config.tag_field:
            summary = (struct.__doc__ or "").partition("\n")[0]
            definition["properties"][config.tag_field]["description"] = summary
        written = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
        for field, description in _docs(struct).items():
            definition["properties"][written[field]].setdefault("description", description)
    root = definitions.pop(schema["$ref"].rpartition("/")[2]) if "$ref" in schema else schema
    return {**root, "$defs": definitions} if definitions else root


def _docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What stands below the attributes of a struct and of those that it extends."""
    bases = [base for base in reversed(struct.__mro__) if base in RULE_STRUCTS.values() or base is Rule]
    return {name: doc for base in bases or [struct] for name, doc in attribute_docs(base).items()}


def asyncapi() -> Document:
    """The AsyncAPI 3.0 document of the topics, seen from the engine: it receives events and sends lists."""
    topics, kafka = Config().topics, Config().kafka
    schemas: Document = {}
    for message in MESSAGES.values():
        schema = json_schema(message.type)
        for name, definition in schema.pop("$defs", {}).items():
            schemas[name] = definition
        schemas[message.struct.__name__] = schema
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "streamrec",
            "version": __version__,
            "description": "What shoppers do goes in, and their refreshed lists come out.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": kafka.bootstrap, "protocol": "kafka"}},
        "channels": {
            "clicks": _channel(topics.clicks, "click", "What shoppers did to items."),
            "searches": _channel(topics.searches, "search", "What shoppers searched for."),
            "items": _channel(
                topics.items, "item", "The catalogue. A null value removes the item named by the key.", True
            ),
            "recommendations": _channel(
                topics.recommendations,
                "recommendationList",
                "Each shopper's list. A null value means that the shopper was erased.",
                True,
            ),
            "rules": _channel(
                topics.rules,
                "rule",
                "What the shop demands of lists. A null value removes the rule named by the key.",
                True,
            ),
            "attributions": _channel(
                topics.attributions, "attribution", "What came of which list: one for each event and list."
            ),
            "deadLetters": _channel(
                topics.dead_letters, "deadLetter", "Messages that can never be used, and why."
            ),
        },
        "operations": {
            "receiveClicks": _operation("receive", "clicks", "click"),
            "receiveSearches": _operation("receive", "searches", "search"),
            "receiveItems": _operation("receive", "items", "item"),
            "receiveRules": _operation("receive", "rules", "rule"),
            "sendRecommendations": _operation("send", "recommendations", "recommendationList"),
            "sendAttributions": _operation("send", "attributions", "attribution"),
            "sendDeadLetters": _operation("send", "deadLetters", "deadLetter"),
        },
        "components": {
            "messages": {
                **{name: _message(name, message) for name, message in MESSAGES.items()},
                "deadLetter": {
                    "name": "deadLetter",
                    "title": "Dead letter",
                    "summary": "The original key and bytes, whatever they are.",
                    "contentType": "application/octet-stream",
                    "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
                    "payload": {"$ref": "#/components/schemas/DeadLetterValue"},
                    "bindings": {
                        "kafka": {
                            "key": {"type": "string", "description": "The key of the original message."},
                            "bindingVersion": KAFKA_BINDING,
                        }
                    },
                },
            },
            "schemas": _at_components(
                {
                    **dict(sorted(schemas.items())),
                    "DeadLetterHeaders": DEAD_LETTER_HEADERS,
                    "DeadLetterValue": {"description": "The bytes as they arrived."},
                }
            ),
        },
    }


def _channel(topic: str, message: str, description: str, compacted: bool = False) -> Document:
    return {
        "address": topic,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": Config().kafka.partitions,
                "topicConfiguration": {"cleanup.policy": ["compact" if compacted else "delete"]},
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _operation(action: str, channel: str, message: str) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _message(name: str, message: Message) -> Document:
    return {
        "name": name,
        "title": message.struct.__name__,
        "summary": (message.struct.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{message.struct.__name__}"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"The same as `{message.key}`, in UTF-8."},
                "bindingVersion": KAFKA_BINDING,
            }
        },
        "examples": [{"name": f"{name}Example", "payload": message.example}],
    }


def _at_components(value: Any) -> Any:
    """Let references to a schema's own definitions point to the document's components."""
    if isinstance(value, dict):
        return {
            key: inner.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref"
            else _at_components(inner)
            for key, inner in value.items()
        }
    return [_at_components(inner) for inner in value] if isinstance(value, list) else value


def _bytes(document: Document) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
