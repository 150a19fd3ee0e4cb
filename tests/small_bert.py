"""A BERT of a few thousand random weights, with a tokenizer, in a Hugging Face folder."""

import json
from pathlib import Path

import numpy as np

WORDS = [
    "red",
    "blue",
    "mouse",
    "laptop",
    "bag",
    "case",
    "cable",
    "keyboard",
    "the",
    "a",
    "of",
    "with",
    "for",
    "monitor",
    "usb",
    "wire",
    "less",
    "##less",
    "##s",
]
TEXTS = [
    "red mouse",
    "laptop bag with cable",
    "the blue keyboard for a laptop",
    "usb cables",
    "wireless mouse",
]
HIDDEN, HEADS, LAYERS, NEURONS, POSITIONS = 32, 4, 3, 48, 128


def write(folder: Path, *, classifier: bool = False, seed: int = 3, **config: object) -> Path:
    """Write config.json, model.safetensors and tokenizer.json."""
    from safetensors.numpy import save_file

    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in letters),
        *WORDS[1:],
    ]
    vocabulary = list(dict.fromkeys([*vocabulary, WORDS[0]]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(vocabulary)))
    said = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification" if classifier else "BertModel"],
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": NEURONS,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_labels": 1,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(vocabulary),
        **({"id2label": {"0": "match"}, "label2id": {"match": 0}} if classifier else {}),
        **config,
    }
    (folder / "config.json").write_text(json.dumps(said))
    weights = _weights(np.random.default_rng(seed), len(vocabulary))
    if classifier:
        rng = np.random.default_rng(seed + 1)
        weights = {f"bert.{name}": array for name, array in weights.items()}
        weights["bert.pooler.dense.weight"] = rng.normal(0, 0.3, (HIDDEN, HIDDEN)).astype(np.float32)
        weights["bert.pooler.dense.bias"] = rng.normal(0, 0.1, HIDDEN).astype(np.float32)
        weights["classifier.weight"] = rng.normal(0, 0.3, (1, HIDDEN)).astype(np.float32)
        weights["classifier.bias"] = rng.normal(0, 0.1, 1).astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _weights(rng: np.random.Generator, pieces: int) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}

    def linear(name: str, wide: int, into: int) -> None:
        weights[f"{name}.weight"] = rng.normal(0, 0.25, (into, wide)).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, into).astype(np.float32)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = rng.normal(1, 0.1, HIDDEN).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, HIDDEN).astype(np.float32)

    for name, count in (("word", pieces), ("position", POSITIONS), ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = rng.normal(0, 1, (count, HIDDEN)).astype(np.float32)
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(f"{at}attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{at}attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{at}attention.output.LayerNorm")
        linear(f"{at}intermediate.dense", HIDDEN, NEURONS)
        linear(f"{at}output.dense", NEURONS, HIDDEN)
        norm(f"{at}output.LayerNorm")
    return weights


def _tokenizer(vocabulary: list[str]) -> dict[str, object]:
    number = {piece: place for place, piece in enumerate(vocabulary)}
    special = [
        {
            "id": number[piece],
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                piece: {"id": piece, "ids": [number[piece]], "tokens": [piece]}
                for piece in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": number,
        },
    }
