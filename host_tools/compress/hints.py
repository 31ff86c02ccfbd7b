"""Learning from a teacher's feature maps: their values (hints), or where they are strong (attention).

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015. Zagoruyko and Komodakis, "Paying More Attention to
Attention", ICLR 2017.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError


def as_maps(features: torch.Tensor) -> torch.Tensor:
    """Features (n, c), (n, c, t) or (n, c, h, w) as maps (n, c, h, w): a vector is a map of one place.

    So a 1x1 convolution is the adapter of all of them; over one place it is a linear layer.
    """
    if features.dim() > 4:
        raise SettingsError(f"a layer gives {tuple(features.shape)}; (n, c), (n, c, t) or (n, c, h, w) wanted")
    while features.dim() < 4:
        features = features.unsqueeze(2)
    return features


def same_size(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two maps averaged to the smaller size of both, along each axis."""
    height, width = (min(one.shape[axis], other.shape[axis]) for axis in (2, 3))
    return F.adaptive_avg_pool2d(one, (height, width)), F.adaptive_avg_pool2d(other, (height, width))


def adapter(student: torch.Tensor, teacher: torch.Tensor) -> nn.Module:
    """A new layer from the student's channels to the teacher's."""
    return nn.Conv2d(as_maps(student).shape[1], as_maps(teacher).shape[1], 1)


def hint_loss(student: torch.Tensor, teacher: torch.Tensor, adapt: nn.Module) -> torch.Tensor:
    """Mean squared difference between the adapted student's map and the teacher's; a scalar."""
    # Averaging over places and mixing channels commute, so the adapter works on the smaller map.
    ours, theirs = same_size(as_maps(student), as_maps(teacher))
    return F.mse_loss(adapt(ours), theirs)


def attention_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared distance of attention maps (squares summed over channels, of length 1), mean over examples: 0 to 2.

    Blind to the number of channels and to a common factor. Raises SettingsError for maps of fewer than two places.
    """
    ours, theirs = same_size(*(as_maps(f).pow(2).sum(1, keepdim=True) for f in (student, teacher)))
    if ours[0].numel() < 2:
        raise SettingsError(f"attention over {tuple(student.shape)} and {tuple(teacher.shape)}: two places wanted")
    return (F.normalize(ours.flatten(1), dim=1) - F.normalize(theirs.flatten(1), dim=1)).pow(2).sum(1).mean()
