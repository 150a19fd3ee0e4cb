"""A tiny encoder and tiny prepared data, on which a training takes a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_factory.training.recipe import EncoderRecipe, check

COLOURS = ["red", "green", "blue", "white", "black", "grey", "pink", "brown"]
THINGS = ["mug", "lamp", "chair", "phone", "cable", "fridge", "desk", "kettle"]
WORDS = [*COLOURS, *THINGS, "buy", "cheap", "new", "the", "a", "large", "small"]


def make_base(folder: Path) -> Path:
    """Write a random encoder of two layers with a tokenizer of a few words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def make_data(folder: Path) -> Path:
    """Write prepared data of 64 products, each in several wordings; some colours are kept for validation."""
    from pyarrow import parquet

    pairs, offers = [], []
    for colour in COLOURS:
        split = "validation" if colour in ("pink", "brown") else "train"
        for thing in THINGS:
            cluster = f"{colour}-{thing}"
            wordings = [
                f"the {colour} {thing}",
                f"{thing} {colour} new",
                f"buy a cheap {thing} large {colour}",
            ]
            for text in wordings:
                offers.append((text, text, cluster, "all", split))
            others = [f"the {colour} {other}" for other in THINGS if other != thing]
            told = (cluster, "all", split)
            pairs.append((wordings[0], wordings[1], others[:2], "same_product", *told))
            pairs.append((wordings[1], wordings[2], [], "same_product", *told))
            pairs.append((f"{colour} {thing}", wordings[2], others[2:4], "query", *told))
    columns = ("anchor", "positive", "negatives", "objective", "group", "category", "split")
    parquet.write_table(_table(columns, pairs), folder / "pairs.parquet")
    columns = ("offer_id", "title", "cluster", "category", "split")
    parquet.write_table(_table(columns, offers), folder / "offers.parquet")
    (folder / "data.json").write_text(json.dumps({"hash": "of the tiny data"}))
    return folder


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Any:
    import pyarrow

    return pyarrow.table({column: [row[place] for row in rows] for place, column in enumerate(columns)})


def make_recipe(base: Path, **tables: Any) -> EncoderRecipe:
    """Return a recipe that trains them within a second or two; `tables` change it."""
    said: dict[str, Any] = {
        "model": {"base": str(base)},
        "optimiser": {"learning_rate": 3e-3},
        "objectives": {
            "same_product": {"batch_size": 8},
            "query": {"batch_size": 8, "weight": 0.5},
        },
        "budget": {"steps": 30},
        "validation": {"every_steps": 10},
        "machine": {"threads": 1, "checkpoint_every_steps": 4},
    }
    for name, table in tables.items():
        said[name] = {**said.get(name, {}), **table} if isinstance(table, dict) else table
    return check(said, EncoderRecipe, "test")
