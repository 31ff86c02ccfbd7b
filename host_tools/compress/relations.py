"""Learning how a teacher's examples lie to each other, rather than where.

Source: Park et al., "Relational Knowledge Distillation", CVPR 2019: distances of pairs and angles of triplets in a
batch, compared by the Huber loss. Embeddings may differ in width.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

MOST_FOR_ANGLES = 128  # triplets grow with the cube; a batch is in random order, so its beginning is a fair choice
COINCIDE = 1e-6  # of an embedding's length: between two such examples there is no direction, only rounding


def distance_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Huber loss of distances over all pairs, each divided by their mean; embeddings (n, d) -> scalar."""
    (ours, is_ours), (theirs, is_theirs) = (_distances(e.double()) for e in (student, teacher))
    # A pair that coincides on one side only still has a distance to learn; the same example twice has none.
    pairs = is_ours | is_theirs
    if not pairs.any():
        return student.sum() * 0.0
    return F.smooth_l1_loss(_scaled(ours, is_ours)[pairs], _scaled(theirs, is_theirs)[pairs]).float()


def angle_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Huber loss of the cosines at j between i and k over all triplets of a batch; embeddings (n, d) -> scalar.

    Blind to rotation, shift and scale. Of larger batches, the first 128 examples. Triplets with two examples in one
    place, in either embedding, are left out.
    """
    (ours, is_ours), (theirs, is_theirs) = (_cosines(e[:MOST_FOR_ANGLES].double()) for e in (student, teacher))
    triplets = (is_ours & is_theirs).double()
    # A factor of 0 or 1 rather than a choice of elements, which takes several times as long.
    losses = F.smooth_l1_loss(ours, theirs, reduction="none") * triplets
    return (losses.sum() / triplets.sum().clamp(min=1.0)).float()


def _distances(e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances (n, n), and which of them lie between two examples in two places; elsewhere they are 0."""
    size = e.pow(2).sum(1).mean()
    e = e - e.mean(0)
    gram = e @ e.T
    square = e.pow(2).sum(1)
    squares = (square[:, None] + square[None, :] - 2.0 * gram).clamp(min=0.0)
    apart = squares > COINCIDE**2 * size
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0), apart


def _scaled(distances: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    n = len(distances)
    return distances / (distances.sum() / (n * (n - 1))).clamp(min=1e-12)


def _cosines(e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines (n, n, n) at [i, j, k] of the angle at j between i and k, and which of them there are."""
    distances, apart = _distances(e)
    e = e - e.mean(0)
    gram = e @ e.T
    inner = gram[:, None, :] - gram[:, :, None] - gram[None, :, :] + gram.diagonal()[None, :, None]
    inverse = torch.where(apart, 1.0 / torch.where(apart, distances, 1.0), 0.0)
    cosines = inner * inverse[:, :, None] * inverse[None, :, :]
    ends = ~torch.eye(len(e), dtype=torch.bool, device=e.device)
    return cosines, apart[:, :, None] & apart[None, :, :] & ends[:, None, :]
