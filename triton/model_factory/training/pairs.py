"""Prepared pairs, and the batches that are drawn from them: every draw is a function of seed and count."""

from __future__ import annotations

import json
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from model_factory.training.perturbation import perturb
from model_factory.training.recipe import Distillation, Objective, Objectives
from model_factory.training.texts import Numbers, Texts

NEAREST = 32
"""Texts closest to an anchor for the teacher, of which a batch takes some."""
ROWS_AT_ONCE = 512


def data_hash(data: Path) -> str:
    """Return the hash that `prepare` wrote beside its tables."""
    try:
        return str(json.loads((data / "data.json").read_text())["hash"])
    except (OSError, ValueError, KeyError):
        raise typer.BadParameter(
            f"{data} holds no data.json with a hash: make the data by `model-factory prepare`."
        ) from None


def read_table(data: Path, name: str, split: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Read the rows of one split of a prepared table, by column."""
    from pyarrow import ArrowInvalid, parquet

    path = data / f"{name}.parquet"
    try:
        table = parquet.read_table(path, columns=list(columns), filters=[("split", "=", split)])
    except (OSError, ArrowInvalid) as error:
        raise typer.BadParameter(
            f"{path} cannot be read: {error}. Make it by `model-factory prepare`."
        ) from None
    return {column: table.column(column).to_pylist() for column in columns}


@dataclass(frozen=True)
class Pairs:
    """Pairs of one objective, as numbers of texts; `relevant` holds group * texts + text of what belongs."""

    anchors: Numbers
    positives: Numbers
    negatives: list[Numbers]
    groups: Numbers
    kinds: Numbers
    """Pairs of the same category whose anchors have the same first word are of one kind."""
    relevant: Numbers
    texts: int

    def belong(self, groups: Numbers, texts: Numbers) -> NDArray[np.bool_]:
        """Say for each group and each text whether some pair of the group has the text: [groups, texts]."""
        keys = groups[:, None] * self.texts + texts[None, :]
        places = np.minimum(np.searchsorted(self.relevant, keys), len(self.relevant) - 1)
        return self.relevant[places] == keys


def read_pairs(data: Path, split: str, texts: Texts) -> dict[str, Pairs]:
    """Read the prepared pairs of a split, by objective."""
    columns = ("anchor", "positive", "negatives", "objective", "group", "category")
    rows = read_table(data, "pairs", split, columns)
    anchors, positives = texts.add(rows["anchor"]), texts.add(rows["positive"])
    lists = [negatives or [] for negatives in rows["negatives"]]
    flat = texts.add([text for negatives in lists for text in negatives])
    ragged = np.split(flat, np.cumsum([len(negatives) for negatives in lists])[:-1]) if lists else []
    objectives = np.array(rows["objective"], dtype=str)
    found = {}
    for objective in dict.fromkeys(rows["objective"]):
        places = np.flatnonzero(objectives == objective)
        groups = _numbered(rows["group"][place] for place in places)
        kinds = _numbered(
            (rows["category"][place], rows["anchor"][place].casefold().partition(" ")[0]) for place in places
        )
        members = np.concatenate([anchors[places], positives[places]])
        found[objective] = Pairs(
            anchors[places],
            positives[places],
            [ragged[place] for place in places],
            groups,
            kinds,
            np.unique(np.tile(groups, 2) * len(texts) + members),
            len(texts),
        )
    return found


def _numbered(names: Iterable[Hashable]) -> Numbers:
    """Number names in the order in which they come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


@dataclass(frozen=True)
class Batch:
    """One step's texts.

    `inputs` [texts] are encoded. Row `anchors[i]` of them belongs with row `candidates[targets[i]]`; where
    `excluded[i, j]`, candidate j is another right answer to anchor i and no wrong one.
    """

    objective: str
    inputs: Numbers
    anchors: Numbers
    candidates: Numbers
    targets: Numbers
    excluded: NDArray[np.bool_]
    same_anchors: NDArray[np.bool_] | None = None
    same_positives: NDArray[np.bool_] | None = None
    """Which anchors, and which positives, are no wrong answers to one another [pairs, pairs]."""
    teacher: NDArray[np.float32] | None = None
    """Teacher's vectors of `inputs`; with them the batch is one of distillation."""


@dataclass(frozen=True)
class TeacherVectors:
    """Texts with a teacher's vectors of length 1.

    `anchors` are numbers of rows: the queries where the file says which they are, else all; `others` are
    the rows that similarities are taken with; `nearest` [anchors, NEAREST] are rows close to each anchor.
    """

    texts: Numbers
    vectors: NDArray[np.float16]
    anchors: Numbers
    nearest: Numbers
    asymmetric: bool


def read_teacher(path: Path, texts: Texts) -> TeacherVectors:
    """Read a file of teacher's vectors: `texts` [n], `vectors` [n, width], perhaps `is_query` [n].

    Vectors of several teachers, each of length 1, may stand side by side: similarities are then their mean.
    """
    import torch

    try:
        with np.load(path, allow_pickle=False) as file:
            said, vectors = file["texts"].tolist(), file["vectors"].astype(np.float32)
            is_query = file["is_query"].astype(bool) if "is_query" in file else np.zeros(len(said), bool)
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(
            f"{path} is no file of teacher's vectors with `texts` and `vectors`: {error}. "
            "`model-factory distil` makes it."
        ) from None
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    asymmetric = bool(is_query.any())
    anchors = np.flatnonzero(is_query) if asymmetric else np.arange(len(said))
    others = np.flatnonzero(~is_query)
    tensor = torch.from_numpy(vectors)
    wanted = min(NEAREST + 1, len(others))
    nearest = [np.zeros((0, wanted), np.int64)]
    for start in range(0, len(anchors), ROWS_AT_ONCE):
        similar = tensor[anchors[start : start + ROWS_AT_ONCE]] @ tensor[others].T
        nearest.append(others[similar.topk(wanted, dim=1).indices.numpy()])
    kept = np.concatenate(nearest)
    kept = kept[:, :-1] if asymmetric else kept[:, 1:]  # the nearest of a text is itself
    return TeacherVectors(texts.add(said), vectors.astype(np.float16), anchors, kept, asymmetric)


@dataclass(frozen=True)
class Corpus:
    """All that training reads, tokenised; it can serve several runs."""

    texts: Texts
    pairs: Mapping[str, Pairs]
    teacher: TeacherVectors | None
    perturbed: Mapping[int, int]
    """Number of a text to that of its disturbed form."""


def read_corpus(data: Path, objectives: Objectives, robust: float, texts: Texts, seed: int) -> Corpus:
    """Read and tokenise the training pairs and the teacher's vectors."""
    pairs = read_pairs(data, "train", texts)
    for name, objective in objectives.given():
        if name != "distil" and objective.weight and name not in pairs:
            raise typer.BadParameter(
                f"{data} has no pairs for objectives.{name}: it has {', '.join(sorted(pairs)) or 'none'}. "
                f"Give that objective the weight 0, or prepare data that has them."
            )
    teacher = None
    if objectives.distil is not None and objectives.distil.weight:
        teacher = read_teacher(Path(objectives.distil.vectors), texts)
    perturbed: dict[int, int] = {}
    if robust:
        known = texts.known()
        rng = random.Random(seed)
        disturbed = texts.add(perturb(text, known, rng) for text in known)
        perturbed = dict(enumerate(disturbed.tolist()))
    return Corpus(texts, pairs, teacher, perturbed)


class Batches:
    """Draws batches; its position is how often each objective was drawn.

    The objective of a step is drawn by weight; its pairs come in the order of a permutation that is new in
    each epoch.
    """

    def __init__(self, corpus: Corpus, objectives: Objectives, robust: float, seed: int) -> None:
        self._corpus = corpus
        self._tables = {name: table for name, table in objectives.given() if table.weight}
        self._robust = robust
        self._seed = seed
        self._drawn = dict.fromkeys(self._tables, 0)
        self._orders: dict[str, tuple[int, Numbers]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Return about how many steps show every pair once."""
        return max(1, sum(-(-self._size(name) // self._rows(name)) for name in self._tables))

    def state_dict(self) -> dict[str, Any]:
        return dict(self._drawn)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._drawn = {name: state[name] for name in self._tables}

    def draw(self, step: int) -> Batch:
        """Return the batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        weights = np.array([table.weight for table in self._tables.values()])
        name = list(self._tables)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        rows = self._next_rows(name)
        table = self._tables[name]
        if isinstance(table, Distillation):
            return self._distillation(rows, table, rng)
        return self._contrast(name, rows, table, rng)

    def _size(self, name: str) -> int:
        if name == "distil":
            assert self._corpus.teacher is not None
            return len(self._corpus.teacher.anchors)
        return len(self._corpus.pairs[name].anchors)

    def _rows(self, name: str) -> int:
        table = self._tables[name]
        if isinstance(table, Distillation):
            return min(max(2, table.batch_size // (table.neighbours + 1)), self._size(name))
        return min(table.batch_size, self._size(name))

    def _next_rows(self, name: str) -> Numbers:
        batches = self._size(name) // self._rows(name)
        epoch, place = divmod(self._drawn[name], batches)
        self._drawn[name] += 1
        if self._orders.get(name, (-1, None))[0] != epoch:
            rng = np.random.default_rng([self._seed, list(self._tables).index(name), epoch])
            order = rng.permutation(self._size(name))
            table = self._tables[name]
            if isinstance(table, Objective) and table.similar > 1:
                order = _alike_together(order, self._corpus.pairs[name].kinds, table.similar, rng)
            self._orders[name] = (epoch, order)
        return self._orders[name][1][place * self._rows(name) : (place + 1) * self._rows(name)]

    def _contrast(self, name: str, rows: Numbers, table: Objective, rng: np.random.Generator) -> Batch:
        pairs = self._corpus.pairs[name]
        anchors, positives = pairs.anchors[rows], pairs.positives[rows]
        mined = [
            rng.permutation(pairs.negatives[row])[: table.hard_negatives]
            for row in (rows if table.hard_negatives else ())
        ]
        candidates = np.unique(np.concatenate([positives, *mined]))
        targets = np.searchsorted(candidates, positives)
        excluded = pairs.belong(pairs.groups[rows], candidates) | (anchors[:, None] == candidates[None, :])
        excluded[np.arange(len(rows)), targets] = False
        inputs = np.concatenate([anchors, candidates])
        return Batch(
            name,
            self._perturb(inputs, rng),
            np.arange(len(anchors)),
            np.arange(len(anchors), len(inputs)),
            targets,
            excluded,
            pairs.belong(pairs.groups[rows], anchors) | (anchors[:, None] == anchors[None, :]),
            pairs.belong(pairs.groups[rows], positives) | (positives[:, None] == positives[None, :]),
        )

    def _distillation(self, rows: Numbers, table: Distillation, rng: np.random.Generator) -> Batch:
        teacher = self._corpus.teacher
        assert teacher is not None
        anchors = teacher.anchors[rows]
        close = [
            rng.permutation(teacher.nearest[row])[: table.neighbours]
            for row in (rows if table.neighbours else ())
        ]
        others = np.unique(np.concatenate(close)) if close else np.zeros(0, np.int64)
        if not teacher.asymmetric:
            others = np.union1d(others, anchors)
            anchors = others
        inputs = anchors if not teacher.asymmetric else np.concatenate([anchors, others])
        start = 0 if not teacher.asymmetric else len(anchors)
        same = anchors[:, None] == others[None, :]
        return Batch(
            "distil",
            self._perturb(teacher.texts[inputs], rng),
            np.arange(len(anchors)),
            np.arange(start, start + len(others)),
            np.zeros(0, np.int64),
            same,
            teacher=teacher.vectors[inputs].astype(np.float32),
        )

    def _perturb(self, inputs: Numbers, rng: np.random.Generator) -> Numbers:
        if not self._robust:
            return inputs
        chosen = rng.random(len(inputs)) < self._robust
        return np.array(
            [
                self._corpus.perturbed.get(number, number) if disturbed else number
                for number, disturbed in zip(inputs.tolist(), chosen, strict=True)
            ],
            np.int64,
        )


def _alike_together(order: Numbers, kinds: Numbers, at_most: int, rng: np.random.Generator) -> Numbers:
    """Reorder so that up to so many of a kind follow one another; what follows what else stays random."""
    sorted_by_kind = order[np.argsort(kinds[order], kind="stable")]
    starts = np.flatnonzero(np.diff(kinds[sorted_by_kind], prepend=-1))
    runs = [
        run[start : start + at_most]
        for run in np.split(sorted_by_kind, starts[1:])
        for start in range(0, len(run), at_most)
    ]
    return np.concatenate([runs[number] for number in rng.permutation(len(runs))])
