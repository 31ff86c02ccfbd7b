"""Missing values inside the network: what is NaN is found, filled and told in the graph that the device runs.

NaN is taken out first, by one IsNaN and one Where, so that no arithmetic of the graph ever sees it; a quantizer that
calibrates on inputs with NaN has to leave those two nodes alone. Masks as inputs: Lipton, Kale and Wetzel, "Modeling
Missing Data in Clinical Time Series with RNNs", MLHC 2016. Fills that are learnt along: Le Morvan, Josse, Scornet and
Varoquaux, "What's a good imputation to predict with missing values?", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError

# mean: a missing value is the training mean, and nothing tells it from a measured one; learned: the value that stands
# for it is learnt; mean+mask: the mean, and another input says that it was missing (a learnt value beside a mask would
# be the same, the layer after being linear); drop-mask: mean+mask, and in training a tenth of what was measured is
# hidden too.
Missing = Literal["mean", "learned", "mean+mask", "drop-mask"]
HIDDEN = 0.1


def check_missing(missing: str) -> None:
    """Refuse a word that is none of `Missing`."""
    if missing not in get_args(Missing):
        raise SettingsError(f"missing is {missing!r}; one of {', '.join(get_args(Missing))} wanted")


def has_masks(missing: Missing) -> bool:
    """Whether the network is told what was missing."""
    return missing in ("mean+mask", "drop-mask")


def hide(x: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """A copy of `x` where a share of the cells is NaN."""
    return x.masked_fill(torch.rand(x.shape, generator=generator) < share, float("nan"))


def observed_and_values(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """1 where `x` is a number and 0 where it is NaN, and `x` with 0 for NaN."""
    missing = torch.isnan(x)
    return torch.logical_not(missing).to(x.dtype), x.masked_fill(missing, 0.0)


class MaskedStandard(nn.Module):
    """Values (n, features, *size) to mean 0 and variance 1 of what was observed; 0 where it was not.

    In train mode mean and variance follow all values seen so far, by the pairwise update of Chan, Golub and LeVeque
    ("Updating formulae and a pairwise algorithm for computing sample variances", COMPSTAT 1982); in eval mode and in
    the exported graph they are constants. Beyond `limit` standard deviations values are clamped, which bounds what an
    outlier can do and what an integer has to represent.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    count: torch.Tensor

    def __init__(self, n_features: int, limit: float = 5.0) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))
        self.register_buffer("count", torch.zeros(n_features))

    def forward(self, values: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Standardized values, same shape; `observed` is 1 or 0 for each."""
        if self.training:
            self._follow(values.detach(), observed)
        shape = (1, -1) + (1,) * (values.dim() - 2)
        scale = torch.rsqrt(self.variance + 1e-6)
        z = (values - self.mean.view(shape)) * scale.view(shape)
        return torch.clamp(z, -self.limit, self.limit) * observed

    @torch.no_grad()
    def _follow(self, values: torch.Tensor, observed: torch.Tensor) -> None:
        shape = (1, -1) + (1,) * (values.dim() - 2)
        others = [d for d in range(values.dim()) if d != 1]
        n = observed.sum(others)
        mean = (values * observed).sum(others) / n.clamp(min=1)
        variance = ((values - mean.view(shape)).square() * observed).sum(others) / n.clamp(min=1)
        share = n / (self.count + n).clamp(min=1)
        step = mean - self.mean
        self.variance += share * (variance - self.variance) + share * (1 - share) * step.square()
        self.mean += share * step
        self.count += n


class TabularInput(nn.Module):
    """A row of measures with NaN (n, columns) to what a linear layer can use (n, n_features).

    Numbers are standardized. Codes become one input per code, because their order means nothing (chest pain 4 is not
    twice chest pain 2) and one threshold could not tell 1 and 3 from 2; a missing code has none of them.

    codes  column -> the codes it can have
    """

    source: torch.Tensor
    code: torch.Tensor
    fill: nn.Parameter | None

    def __init__(self, n_columns: int, codes: Mapping[int, tuple[int, ...]], missing: Missing) -> None:
        super().__init__()
        check_missing(missing)
        numbers = [c for c in range(n_columns) if c not in codes]
        coded = [(c, code) for c, of in codes.items() for code in of]
        self.n_numbers = len(numbers)
        self.register_buffer("source", torch.tensor([*numbers, *(c for c, _ in coded)]))
        self.register_buffer("code", torch.tensor([float(code) for _, code in coded]))
        n = len(numbers) + len(coded)
        self.standard = MaskedStandard(n)
        self.fill = nn.Parameter(torch.zeros(n)) if missing == "learned" else None
        self.tells = has_masks(missing)
        self.n_features = n + (n_columns if self.tells else 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, columns) -> (n, n_features): standardized values, then 1 for each column that is missing."""
        observed, values = observed_and_values(x)
        spread = values[:, self.source]
        is_code = (spread[:, self.n_numbers :] == self.code).to(x.dtype)
        seen = observed[:, self.source]
        z = self.standard(torch.cat([spread[:, : self.n_numbers], is_code], 1), seen)
        if self.fill is not None:
            z = z + self.fill * (1.0 - seen)
        return torch.cat([z, 1.0 - observed], 1) if self.tells else z
