"""Networks that read a rate from a window of pulse wave: fixed and learned demodulation, spectra, convolutions.

Breathing changes a pulse wave's baseline, its amplitude and its rate (Charlton et al., "Breathing Rate Estimation from
the Electrocardiogram and Photoplethysmogram: A Review", IEEE Reviews in Biomedical Engineering 11, 2018). The graph
computes these three series with fixed filters and some more with learned ones, the spectrum of each at the rates of
the bins by one fixed matrix, and what the spectra mean by convolutions along the rates. So a network starts from the
classical estimates and stays one graph over the raw window. All convolutions are 2-D (1, K).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

LARGEST = 4.0  # standard deviations of the window; artefacts beyond are cut
# Of a window, normalized units squared; pulse waves have 1e-3 and more. The exporter takes 1e-8 for nothing.
LEAST_VARIANCE = 1e-6
CARDIAC_HZ = (0.7, 3.3)
QUADRATURE_S = 2.6
FLOOR = 0.02  # of the mean power; weaker lines are all alike


@dataclass(frozen=True, kw_only=True)
class RateNetShape:
    """Size of a network.

    rate_hz       of the window
    samples       of the window
    every         samples of the window per sample of the series
    rates         per minute, at which spectra are taken and which the logits stand for
    demodulated   whether baseline, amplitude and pulse rate are among the series
    hidden        channels of the learned demodulation
    learned       series that it makes
    width, depth  of the convolutions along the rates
    kernel        their taps
    rank          width of the dense path over all rates
    dropout       in training
    """

    rate_hz: int
    samples: int
    every: int
    rates: tuple[float, ...]
    demodulated: bool
    hidden: int
    learned: int
    width: int
    depth: int = 3
    kernel: int = 7
    rank: int = 24
    dropout: float = 0.2


class RateNet(nn.Module):
    """float32 (n, 1, samples) -> logits (n, rates); the same for a x + b, whatever b and a > 0 that leaves a pulse."""

    def __init__(self, shape: RateNetShape) -> None:
        super().__init__()
        self.demodulated = Demodulated(shape.rate_hz, shape.every) if shape.demodulated else None
        self.learned = nn.Sequential(
            *_conv(1, shape.hidden, 15, 1),
            nn.ReLU(),
            *_conv(shape.hidden, shape.hidden, 9, shape.every),
            nn.ReLU(),
            nn.Conv2d(shape.hidden, shape.learned, (1, 5), padding=(0, 2)),
        )
        self.spectra = Spectra(-(-shape.samples // shape.every), shape.rate_hz / shape.every, shape.rates)
        layers: list[nn.Module] = []
        before = shape.learned + (3 if shape.demodulated else 0)
        for _ in range(shape.depth):
            layers += [*_conv(before, shape.width, shape.kernel, 1), nn.ReLU()]
            before = shape.width
        self.body = nn.Sequential(*layers, nn.Dropout(shape.dropout))
        n = len(shape.rates)
        self.near = nn.Conv2d(before, 1, 1)
        self.far = nn.Sequential(
            nn.Conv2d(before, 4, 1),
            nn.Flatten(),
            nn.Dropout(shape.dropout),
            nn.Linear(4 * n, shape.rank),
            nn.ReLU(),
            nn.Linear(shape.rank, n),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is near a rate in the spectra says whether it is the one; so does the whole, for harmonics."""
        x = _standardized(x.unsqueeze(2), LEAST_VARIANCE).clamp(-LARGEST, LARGEST)
        series = self.learned(x)
        if self.demodulated is not None:
            series = torch.cat([self.demodulated(x), series], 1)
        y = self.body(self.spectra(_standardized(series, 1e-4)))
        return self.near(y).flatten(1) + self.far(y)


class Demodulated(nn.Module):
    """Baseline, amplitude and pulse rate of a wave, by fixed filters; 65 + 65 + 11 taps at 25 Hz.

    A quadrature pair of band-pass filters gives the pulse's fundamental as I and Q: its amplitude is sqrt(I^2 + Q^2)
    and its rate the phase's advance, weighted by power, so that moments without a pulse do not count.
    """

    def __init__(self, rate_hz: int, every: int) -> None:
        super().__init__()
        half = round(QUADRATURE_S * rate_hz / 2)
        t = torch.arange(-half, half + 1) / rate_hz
        centre, band = sum(CARDIAC_HZ) / 2, CARDIAC_HZ[1] - CARDIAC_HZ[0]
        low_pass = 2 * band / rate_hz * torch.sinc(band * t) * _taper(len(t))
        turn = 2 * math.pi * centre * t
        # Convolution layers do not reverse their taps: the sine's sign makes a phase that advances positive.
        pair = torch.stack([low_pass * torch.cos(turn), -low_pass * torch.sin(turn)])
        smooth = _taper(2 * every + 1)
        self.pair: torch.Tensor
        self.smooth: torch.Tensor
        self.register_buffer("pair", pair[:, None, None, :])
        self.register_buffer("smooth", (smooth / smooth.sum())[None, None, None, :])
        self._every, self._half = every, half

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, 1, 1, samples) -> (n, 3, 1, samples / every)."""
        iq = F.conv2d(x, self.pair, padding=(0, self._half))
        i, q = iq[:, :1], iq[:, 1:]
        power = i * i + q * q
        turned = i[..., :-1] * q[..., 1:] - q[..., :-1] * i[..., 1:]
        rate = self._smoothed(F.pad(turned, (0, 1))) / (self._smoothed(power) + 1e-2)
        return torch.cat([self._smoothed(x), self._smoothed(torch.sqrt(power + 1e-4)), rate], 1)

    def _smoothed(self, y: torch.Tensor) -> torch.Tensor:
        return F.conv2d(y, self.smooth, stride=(1, self._every), padding=(0, self._every))


class Spectra(nn.Module):
    """Logarithm of the power at given rates, relative to its mean over them; 2 x samples x rates products a series."""

    def __init__(self, samples: int, rate_hz: float, rates: tuple[float, ...]) -> None:
        super().__init__()
        turns = torch.tensor(rates, dtype=torch.float64)[:, None] / 60.0 * torch.arange(samples) / rate_hz
        taper = _taper(samples)
        lines = torch.cat([torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)]) * taper / taper.sum()
        self.lines: torch.Tensor
        self.register_buffer("lines", lines.T.float().contiguous())
        self._n = len(rates)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """float32 (n, series, 1, samples) -> (n, series, 1, rates)."""
        z = torch.matmul(y, self.lines)
        power = z[..., : self._n] ** 2 + z[..., self._n :] ** 2
        return torch.log(power / (power.mean(-1, keepdim=True) + 1e-5) + FLOOR)


def _standardized(y: torch.Tensor, least: float) -> torch.Tensor:
    """Mean 0 and deviation 1 along time; a variance well below `least` is not made larger."""
    y = y - y.mean(-1, keepdim=True)
    return y / torch.sqrt((y * y).mean(-1, keepdim=True) + least)


def _taper(n: int) -> torch.Tensor:
    """Hann's, without its zeros."""
    return torch.hann_window(n + 2, periodic=False)[1:-1]


def _conv(before: int, channels: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """Convolution and batch norm."""
    conv = nn.Conv2d(before, channels, (1, kernel), stride=(1, stride), padding=(0, kernel // 2), bias=False)
    return conv, nn.BatchNorm2d(channels)
