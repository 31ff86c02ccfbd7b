"""Tiny window models of three kinds, packed: a class of one lead, a number of two channels, a class of table rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.manifest import Training
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.window import Window
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.export.card import Figure, write_card
from host_tools.export.golden_inputs import GoldenInput, ecg, pulse_wave, rows
from host_tools.export.pack_window import Cost, Description, PackedWindow, pack_window
from host_tools.export.plain import export_plain

ORIGIN = Training(commit="", recipe="tiny", recipe_sha256="0" * 64, seed=0, records="simulated", simulated=True)
CARD = write_card(
    title="tiny",
    intended_use="Tests.",
    sees="what it is given",
    says="something",
    data="none",
    protocol="none",
    figures=[Figure(name="accuracy", value=0.5, low=0.25, high=0.75)],
    failures=["It was never trained."],
    simulated=True,
)
COST = Cost(parameters=0, macs=0, operators=1)
BINS = tuple(float(b) for b in np.linspace(6.0, 30.0, 25))


class Convolved(nn.Module):
    """A network with random weights: one convolution, the mean over time, logits."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, 6, 9, stride=4)
        self.last = nn.Linear(12, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, samples) -> (n, outputs)."""
        y = torch.relu(self.first(x - x.mean(-1, keepdim=True)))
        return self.last(8.0 * torch.cat([y.mean(-1), y.amax(-1)], -1))


class Filled(nn.Module):
    """Rows with missing values: NaN becomes 0 and is told by a mask."""

    def __init__(self, columns: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(2 * columns, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, columns) -> (n, outputs)."""
        missing = torch.isnan(x)
        return self.last(torch.cat([torch.where(missing, torch.zeros_like(x), x), missing.to(x.dtype)], -1))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A tiny model: its description, network, the shape of an example, its golden input."""

    description: Description
    network: nn.Module
    shape: tuple[int, ...]
    given: GoldenInput


@torch.no_grad()
def _network(make: Callable[[int, int], nn.Module], sizes: tuple[int, int], x: np.ndarray) -> nn.Module:
    """Random weights, the logits moved and stretched so that inputs like x (n, *shape) are told apart."""
    torch.manual_seed(3)
    network = make(*sizes).eval()
    logits = network(torch.from_numpy(np.ascontiguousarray(x)))
    network.last.bias -= logits.mean(0)
    stretch = 2.0 / logits.std(0).clamp(min=1e-6)
    network.last.weight *= stretch[:, None]
    network.last.bias *= stretch
    return network


def _cut(samples: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Windows (n, channels, length)."""
    starts = range(0, len(samples) - length + 1, hop)
    return np.stack([samples[i : i + length].T for i in starts])


@cache
def rhythm() -> Kind:
    """A class of 4 s of one conditioned lead, every second."""
    window = Window(
        reading="rhythm", channels=("ECG",), rate_hz=125.0, window_samples=500, least_movement=0.005, largest=15.0
    )
    description = Description(
        name="tiny-rhythm",
        task="rhythm",
        unit="mV",
        window=window,
        hop_samples=125,
        conditioning=Conditioning(),
        classes=("N", "A", "O"),
    )
    given = ecg(14.0, 250.0)
    network = _network(Convolved, (1, 3), _cut(given.samples[::2], 500, 125))
    return Kind(description=description, network=network, shape=(1, 500), given=given)


@cache
def rate() -> Kind:
    """A number of 3 s of two channels as they are at 50 Hz, every 1.4 s; half of the readings are refused."""
    window = Window(
        reading="respiration_rate",
        reading_unit="1/min",
        output="number",
        values=BINS,
        reach=2,
        channels=("PLETH", "RESP"),
        rate_hz=50.0,
        window_samples=150,
        refuse_below=0.35,
    )
    description = Description(name="tiny-rate", task="respiration-rate", unit="NU", window=window, hop_samples=70)
    one, other = pulse_wave(20.0, 50.0, seed=1), pulse_wave(20.0, 50.0, seed=2)
    samples = np.concatenate([one.samples, other.samples[::-1]], axis=1)
    network = _network(Convolved, (2, len(BINS)), _cut(samples, 150, 70))
    return Kind(
        description=description,
        network=network,
        shape=(2, 150),
        given=GoldenInput(samples=samples, rate_hz=50.0),
    )


@cache
def table() -> Kind:
    """A class of rows of 13 values, of which some are missing."""
    window = Window(
        reading="vessels",
        channels=tuple(f"c{i}" for i in range(13)),
        rate_hz=1.0,
        window_samples=1,
        missing="in graph",
        refuse_below=0.7,
    )
    description = Description(
        name="tiny-table", task="vessels", unit="row", window=window, hop_samples=1, classes=("healthy", "diseased")
    )
    given = rows(60, np.zeros(13), np.linspace(1.0, 4.0, 13), missing=0.2)
    network = _network(Filled, (13, 2), given.samples)
    return Kind(description=description, network=network, shape=(13,), given=given)


KINDS = {"rhythm": rhythm, "rate": rate, "table": table}


def packed(kind: Kind, folder: Path) -> PackedWindow:
    """A verified bundle."""
    return pack_window(
        export_plain(kind.network, kind.shape),
        folder,
        description=kind.description,
        cost=COST,
        given=kind.given,
        engine=OnnxEngine(),
        training=ORIGIN,
        card=CARD,
        metrics={"accuracy": 0.5},
        network=kind.network,
    )
