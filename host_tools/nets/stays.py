"""Networks for intensive-care stays: what was measured in 48 hours as summaries of each channel, then a small head.

Summaries over observed values stand for carrying values forward, which takes a graph one operator per hour. Johnson
et al., "Patient specific predictions in the intensive care unit using a Bayesian ensemble", Computing in Cardiology 39,
2012, won the challenge with summaries of this kind. A temporal convolution beside them learnt the training stays by
heart: it lowered the AUROC of the validation parts.
"""

from __future__ import annotations

import torch
from torch import nn

from host_tools.data.challenge2012 import CHANNELS, DESCRIPTORS, HOURS, SERIES, SKEWED
from host_tools.nets.missing import MaskedStandard, Missing, check_missing, has_masks, observed_and_values

N_SERIES = len(SERIES)
UNIT = CHANNELS.index("ICUType")
UNITS = (1, 2, 3, 4)
LIMIT = 5.0


class StayInput(nn.Module):
    """Hourly values with NaN (n, 41, 48) to standardized ones (n, 40, 48), 0 where missing, and 1 or 0 for observed.

    Skewed channels go through log(1 + x) first; the type of the unit is no number and is left to `units`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.standard = MaskedStandard(UNIT, LIMIT)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and observed, both (n, 40, 48)."""
        observed, values = observed_and_values(x[:, :UNIT])
        skewed, plain = values[:, : len(SKEWED)], values[:, len(SKEWED) :]
        return self.standard(torch.cat([torch.log(skewed + 1.0), plain], 1), observed), observed


class Summaries(nn.Module):
    """Of each channel over some stretches of the stay: mean, least, largest, and the share of hours with a value.

    Stretches are (start, stop) in hours; the channel's last value in the stay comes first. Where there is no value the
    figures are 0, the training mean, or learnt. Without masks the shares are left out.
    """

    hour: torch.Tensor
    unit: torch.Tensor

    def __init__(self, stretches: tuple[tuple[int, int], ...], missing: Missing) -> None:
        super().__init__()
        check_missing(missing)
        tells = has_masks(missing)
        self.stretches, self.tells = stretches, tells
        self.fill = nn.Parameter(torch.zeros(N_SERIES)) if missing == "learned" else None
        self.register_buffer("hour", torch.arange(1.0, HOURS + 1))
        self.register_buffer("unit", torch.tensor([float(u) for u in UNITS]))
        per_stretch = 4 if tells else 3
        self.n_features = (per_stretch * len(stretches) + 1) * N_SERIES + len(UNITS)
        self.n_features += (len(DESCRIPTORS) - 1) * (2 if tells else 1)

    def forward(self, x: torch.Tensor, values: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """(n, n_features) from the hourly values as they are (for the unit), standardized, and observed."""
        z, seen = values[:, :N_SERIES], observed[:, :N_SERIES]
        parts = [(x[:, UNIT, :1] == self.unit).to(values.dtype), values[:, N_SERIES:, 0]]
        if self.tells:
            parts.append(1.0 - observed[:, N_SERIES:, 0])
        newest = (seen * self.hour).amax(2, keepdim=True)
        newest_z = (z * (self.hour == newest).to(z.dtype)).sum(2)
        parts += self._filled(newest[:, :, 0].clamp(max=1.0), newest_z)
        for start, stop in self.stretches:
            zs, ss = z[:, :, start:stop], seen[:, :, start:stop]
            n = ss.sum(2)
            some = n.clamp(max=1.0)
            gap = (1.0 - ss) * (2 * LIMIT)  # puts what is missing beyond every value
            means, least, largest = zs.sum(2) / n.clamp(min=1.0), (zs + gap).amin(2) * some, (zs - gap).amax(2) * some
            parts += self._filled(some, means, least, largest)
            if self.tells:
                parts.append(2.0 * n / (stop - start) - 1.0)
        return torch.cat(parts, 1)

    def _filled(self, some: torch.Tensor, *figures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.fill is None:
            return figures
        fill = self.fill * (1.0 - some)
        return tuple(f + fill for f in figures)


class SummaryNet(nn.Module):
    """Summaries of stretches of the stay and a perceptron: (n, 41, 48) -> logits (n, 2).

    dropout  share of the summaries, and of the hidden units, that training leaves out
    """

    def __init__(
        self,
        *,
        missing: Missing,
        hidden: tuple[int, ...],
        stretches: tuple[tuple[int, int], ...] = ((0, HOURS), (HOURS - 12, HOURS)),
        dropout: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self.first = StayInput()
        self.summaries = Summaries(stretches, missing)
        before = self.summaries.n_features
        layers: list[nn.Module] = [nn.Dropout(dropout[0])]
        for width in hidden:
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout[1])]
            before = width
        self.head = nn.Sequential(*layers, nn.Linear(before, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of surviving and dying."""
        z, observed = self.first(x)
        return self.head(self.summaries(x, z, observed))
