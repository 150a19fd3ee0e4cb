"""The command `distil`: a smaller model learns the vectors of larger ones, on texts that need no labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from model_factory.compression import corpus
from model_factory.compression.teachers import Teacher, Vectors

TARGETS, TEXTS = "distil.npz", "distil.parquet"

ROWS_OF_COMPONENTS = 12_000
"""So many rows are enough to find the principal components of several teachers' vectors."""

console = Console(stderr=True)


def distil(
    data: Annotated[Path, typer.Argument(help="Folder that `model-factory prepare` wrote.", exists=True)],
    output: Annotated[Path, typer.Argument(help="Folder of the teachers' vectors, and of the run.")],
    teachers: Annotated[
        list[Path],
        typer.Option("--teacher", help="Folder of a teacher, repeatable: see `fetch-teachers`."),
    ],
    weights: Annotated[
        str | None, typer.Option(help="What each teacher counts, as in 2,1,1; else all the same.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A TOML file, or the name of a shipped recipe.")] = "distil",
    changes: Annotated[
        list[str], typer.Option("--set", help="A value of the recipe, as in model.layers=[0,2,5].")
    ] = [],  # noqa: B006 - typer's way
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Turn the teachers' vectors into one space as wide as the first one's and as close to it as "
            "can be, so that a student which starts from it can learn the vectors themselves.",
        ),
    ] = False,
    only_vectors: Annotated[
        bool, typer.Option("--only-vectors", help="Write the teachers' vectors and train nothing.")
    ] = False,
    kinds: Annotated[
        list[str],
        typer.Option("--kind", help="Teach these texts alone: product, offer, query; else all."),
    ] = [],  # noqa: B006 - typer's way
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    threads: Annotated[int, typer.Option(help="Threads of a teacher's forward.", min=1)] = 1,
) -> None:
    """Teach a smaller encoder what larger ones say: their similarities between a shop's texts.

    Example: model-factory distil data/prepared runs/small --teacher runs/encoder/model
    --teacher teachers/bge-small-en-v1.5

    Every teacher reads every text once; its vectors are kept in OUTPUT/vectors. The student is trained by
    `train encoder` with the recipe, its result is OUTPUT/run/model.
    """
    shares = _shares(weights, len(teachers))
    targets = output / TARGETS
    if unknown := set(kinds) - set(get_args(corpus.Kind)):
        raise typer.BadParameter(
            f"--kind {min(unknown)}: texts are of the kinds {', '.join(get_args(corpus.Kind))}."
        )
    texts = [text for text in corpus.read([data]) if not kinds or text.kind in kinds]
    if not texts:
        raise typer.BadParameter(f"{data} has no text of the kind {', '.join(kinds)}.")
    console.print(f"{len(texts)} texts")
    make(texts, [Teacher(folder, threads) for folder in teachers], shares, output, align=align)
    console.print(f"wrote {targets}")
    if only_vectors:
        return
    from model_factory.training import encoder, runs
    from model_factory.training import recipe as recipes

    runs.require_train_extra()
    said = recipes.read(recipe, recipes.EncoderRecipe, [*changes, f"objectives.distil.vectors={targets}"])
    summary = encoder.train(data, output / "run", said, resume=resume)
    console.print(f"wrote {output / 'run' / 'model'} after {summary['steps']} steps ({summary['stopped']})")


def make(
    texts: Sequence[corpus.Text],
    teachers: Sequence[Teacher],
    shares: Sequence[float],
    output: Path,
    *,
    align: bool = False,
) -> None:
    """Write what the student learns: distil.parquet for people, distil.npz for `train encoder`.

    distil.npz holds `texts`, `is_query`, `texts_sha`, each teacher's `vectors_NAME`, and all side by side
    as `vectors`, scaled so that products of rows are the weighted means of the teachers' cosines; with
    `align`, what `aligned` makes of them.
    """
    said = np.array([text for text, _ in texts])
    vectors: dict[str, NDArray[np.float16]] = {}
    for number, teacher in enumerate(teachers):
        name = f"vectors_{teacher.name}"
        name = f"{name}_{number}" if name in vectors else name
        vectors[name] = teacher.encode(texts, output / "vectors").astype(np.float16)
    output.mkdir(parents=True, exist_ok=True)
    is_query = np.array([kind == "query" for _, kind in texts])
    each = [found.astype(np.float32) for found in vectors.values()]
    together = aligned(each, shares, is_query) if align else side_by_side(each, shares)
    beside = output / f"tmp_{TARGETS}"
    np.savez(
        beside,
        texts=said,
        is_query=is_query,
        texts_sha=np.array(hashlib.sha256("\0".join(said.tolist()).encode()).hexdigest()),
        vectors=together.astype(np.float16),
        **vectors,
    )
    beside.replace(output / TARGETS)
    _write_texts(texts, output / TEXTS)


def side_by_side(vectors: Sequence[Vectors], shares: Sequence[float]) -> Vectors:
    """Scale and join vectors [n, d] so that products of rows are the weighted means of their products."""
    return np.concatenate(
        [np.float32(np.sqrt(share)) * each for share, each in zip(shares, vectors, strict=True)], axis=1
    )


def aligned(vectors: Sequence[Vectors], shares: Sequence[float], is_query: NDArray[np.bool_]) -> Vectors:
    """Make one space of several, as wide as the first and turned towards it; rows have length 1 [n, d].

    The others are centred, queries and texts apart, since their cosines differ in level and spread; the joint
    space is cut to its principal components, and rotated by the orthogonal Procrustes solution
    (Schönemann 1966, doi:10.1007/BF02289451).
    """
    first = vectors[0]
    joined = side_by_side([first, *(_centred(other, is_query) for other in vectors[1:])], shares)
    _, _, components = np.linalg.svd(
        joined[:: max(1, len(joined) // ROWS_OF_COMPONENTS)], full_matrices=False
    )
    cut = joined @ components[: first.shape[1]].T
    left, _, right = np.linalg.svd(cut.T @ first)
    return _normed(cut @ (left @ right))


def _centred(vectors: Vectors, is_query: NDArray[np.bool_]) -> Vectors:
    centred = vectors.copy()
    for kind in (is_query, ~is_query):
        if kind.any():
            centred[kind] -= centred[kind].mean(axis=0)
    return _normed(centred)


def _normed(vectors: Vectors) -> Vectors:
    normed: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return normed


def _write_texts(texts: Sequence[corpus.Text], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    columns = {"text": [text for text, _ in texts], "kind": [kind for _, kind in texts]}
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def _shares(weights: str | None, teachers: int) -> list[float]:
    """Return what each teacher counts, in all 1."""
    try:
        said = [float(part) for part in weights.split(",")] if weights else [1.0] * teachers
    except ValueError:
        said = []
    if len(said) != teachers or not all(weight > 0 for weight in said):
        raise typer.BadParameter(
            f"--weights {weights}: a number above 0 for each of the {teachers} teacher(s), as in 2,1."
        )
    return [weight / sum(said) for weight in said]
