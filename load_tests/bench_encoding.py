"""Print how quickly a catalogue is encoded beside plain ONNX Runtime: python load_tests/bench_encoding.py

Example:

    python load_tests/bench_encoding.py --rounds 5 --texts 1024

Encodes the texts of the same made-up products twice a round: as a worker does with a catalogue, by requests
of 32 to Triton's encoder, one after another; and in this process, by the same model file on ONNX Runtime with
one thread, 32 texts a forward, padded to the longest of them. Both split texts into tokens, and the vectors
are held to be the same. CPU on Triton's side is that of Triton, of its encoder's processes and of this one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import onnxruntime
from bench_catalogue import products
from bench_worker import servers, spread
from tokenizers import Tokenizer

from stream.adapters import triton_servers
from stream.adapters.triton_models import ENCODER_BATCH, TritonEncoder
from stream.cli.progress import progress_bar
from stream.config import load_config
from stream.core.items import FloatArray
from stream.local.stack import Stack
from stream.planning.processes import spent

MODEL = Path(__file__).parents[1] / "model_repository" / "encoder"
MAX_TOKENS = 64
PATIENCE_S = 600.0
LEAST_COSINE = 0.999


class Took(NamedTuple):
    """What encoding all texts once took."""

    seconds: float
    cpu_s: float


class Raw:
    """The model file on ONNX Runtime and nothing around it."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Encode texts [n] to [n, 384]."""
        parts = [texts[start : start + ENCODER_BATCH] for start in range(0, len(texts), ENCODER_BATCH)]
        vectors: FloatArray = np.concatenate([self._forward(part) for part in parts])
        return vectors

    def _forward(self, texts: Sequence[str]) -> FloatArray:
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([one.ids for one in encoded], np.int64)
        there = np.array([one.attention_mask for one in encoded], np.int64)
        numbers = np.arange(1, len(texts) + 1)
        given = {
            "token_ids": ids,
            "positions": np.broadcast_to(np.arange(ids.shape[1]), ids.shape) * there,
            "text_numbers": numbers[:, None] * there,
            "numbers": numbers,
        }
        vectors: FloatArray = self._session.run(["embeddings"], given)[0]
        return vectors


async def measure(stack: Stack, given: argparse.Namespace) -> list[tuple[Took, Took]]:
    """Encode with both in turn; for each round what Triton took and what plain ONNX Runtime took."""
    config = load_config(env={"STREAMREC_TRITON__URL": stack.endpoints.triton_grpc})
    servers = triton_servers.connect(config.triton)
    encoder, raw = TritonEncoder(servers), Raw(MODEL / given.version)
    texts = [item.text for item in products(given.texts)]

    def of_triton_s() -> float:
        found = spent(stack).by_server
        return found["triton"] + found["triton/encoder"] + time.process_time()

    rounds = []
    with progress_bar("rounds", given.rounds + 1) as show:
        for number in range(given.rounds + 1):
            show(number, "")
            # Spaces at the end are no tokens, but Triton does not know the bytes from the round before.
            fresh = [text + " " * (number + 1) for text in texts]
            began = _books(of_triton_s)
            served, _ = await encoder.encode(fresh, PATIENCE_S, given.version)
            by_triton = _since(began, of_triton_s)
            began = _books(time.process_time)
            own = raw.encode(texts)
            rounds.append((by_triton, _since(began, time.process_time)))
            least = float(np.min(np.sum(served * own, axis=1)))
            if least < LEAST_COSINE:
                raise SystemExit(f"the vectors are not the same: cosine {least:.3f}")
    await servers.close()
    return rounds[1:]  # the first one is to warm up


def _books(cpu_s: Callable[[], float]) -> tuple[float, float]:
    return time.monotonic(), cpu_s()


def _since(began: tuple[float, float], cpu_s: Callable[[], float]) -> Took:
    seconds, used_s = (now - then for now, then in zip(_books(cpu_s), began, strict=True))
    return Took(seconds, used_s)


def told(rounds: Sequence[tuple[Took, Took]], texts: int) -> list[str]:
    """The figures as lines: medians over the rounds, with the least and the most."""
    lines = [f"{len(rounds)} rounds of {texts} texts"]
    for place, name in enumerate(("by Triton", "ONNX Runtime")):
        some = [one[place] for one in rounds]
        lines.append(
            f"  {name + ':':14s} {spread([texts / took.seconds for took in some])} texts/s, "
            f"{spread([took.cpu_s / texts * 1e3 for took in some])} ms of CPU a text"
        )
    rates = [raw.seconds / triton.seconds for triton, raw in rounds]
    cpu = [raw.cpu_s / triton.cpu_s for triton, raw in rounds]
    lines.append(
        f"  Triton ÷ ONNX Runtime: {spread(rates)} of its texts/s, {spread(cpu)} of its texts a CPU second"
    )
    return lines


def main() -> int:
    """Measure as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python load_tests/bench_encoding.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--texts", type=int, default=1_024, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--version", default="2", help="of the encoder (default %(default)s)")
    given = parser.parse_args()
    with servers() as (stack, _):
        print("\n".join(told(asyncio.run(measure(stack, given)), given.texts)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
