"""Losses over the vectors of a batch."""

from __future__ import annotations

from typing import Any

from model_factory.training.pairs import Batch
from model_factory.training.recipe import Contrast, Distillation


def contrast(vectors: Any, batch: Batch, recipe: Contrast) -> Any:
    """InfoNCE: the cross-entropy of each anchor's right candidate among all of the batch.

    With `symmetric`, also that of each pair's anchor among all anchors, and the mean of the two. With
    `within`, the other anchors join the wrong answers to an anchor, the other positives those to a positive.

    Args:
        vectors: of `batch.inputs`, of length 1 [texts, width].
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = vectors.device
    targets = torch.from_numpy(batch.targets).to(device)
    excluded = torch.from_numpy(batch.excluded).to(device)
    similar = vectors[: len(batch.anchors)] @ vectors[len(batch.anchors) :].T / recipe.temperature
    similar = similar.masked_fill(excluded, float("-inf"))
    anchors, positives = vectors[: len(batch.anchors)], vectors[len(batch.anchors) :][targets]
    loss = cross_entropy(_beside(similar, anchors, batch.same_anchors, recipe), targets)
    if recipe.symmetric:
        own = torch.eye(len(targets), dtype=torch.bool, device=device)
        back = similar[:, targets].T  # [pairs, anchors]
        also_right = (excluded[:, targets].T | (targets[:, None] == targets[None, :])) & ~own
        back = back.masked_fill(also_right, float("-inf"))
        back = _beside(back, positives, batch.same_positives, recipe)
        loss = 0.5 * (loss + cross_entropy(back, torch.arange(len(targets), device=device)))
    return loss


def _beside(similar: Any, vectors: Any, same: Any, recipe: Contrast) -> Any:
    """Put the similarities of the texts of one side with one another beside those with the other side."""
    import torch

    if not recipe.within:
        return similar
    among = vectors @ vectors.T / recipe.temperature
    among = among.masked_fill(torch.from_numpy(same).to(vectors.device), float("-inf"))
    return torch.cat([similar, among], dim=1)


def distillation(vectors: Any, batch: Batch, recipe: Distillation) -> Any:
    """Divergence of the model's similarities in the batch from the teacher's, and cosine with its vectors.

    Args:
        vectors: of `batch.inputs`, of length 1 [texts, width].
    """
    import torch
    from torch.nn.functional import kl_div, log_softmax

    teacher = torch.from_numpy(batch.teacher).to(vectors.device)
    anchors = torch.from_numpy(batch.anchors).to(vectors.device)
    candidates = torch.from_numpy(batch.candidates).to(vectors.device)
    loss = vectors.new_zeros(())
    if recipe.similarities:
        same = torch.from_numpy(batch.excluded).to(vectors.device)
        expected = (teacher[anchors] @ teacher[candidates].T / recipe.teacher_temperature).masked_fill(
            same, -1e4
        )
        found = (vectors[anchors] @ vectors[candidates].T / recipe.temperature).masked_fill(same, -1e4)
        divergence = kl_div(
            log_softmax(found, dim=1), log_softmax(expected, dim=1), log_target=True, reduction="batchmean"
        )
        loss = loss + recipe.similarities * divergence
    if recipe.cosine:
        loss = loss + recipe.cosine * (1 - (vectors * teacher).sum(dim=1)).mean()
    return loss
