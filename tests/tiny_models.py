"""A small student that was trained for seconds, its training records, and what packing a bundle needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.manifest import Training
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.signal import Float32Array
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.compress.quantize import Scale, calibrate
from host_tools.data import simulated
from host_tools.data.examples import ChunkSampler, ConditionedRecord, Sampling, condition
from host_tools.data.records import EcgRecord
from host_tools.export.pack import Packed, pack
from host_tools.export.program import Program, fold
from host_tools.nets.beats import BeatNet, BeatNetShape
from host_tools.training import Schedule, train

TIMING, CONDITIONING = BeatTiming(), Conditioning()
SHAPE = BeatNetShape(channels=8, kernel=4, dilations=(1, 3), embedding=4, hidden=6, is_residual=False)
RESIDUAL = BeatNetShape(channels=6, kernel=3, dilations=(1, 2), embedding=3, hidden=5, is_residual=True)
ORIGIN = Training(commit="", recipe="tiny", recipe_sha256="0" * 64, seed=0, records="simulated", simulated=True)


@cache
def records() -> tuple[EcgRecord, ...]:
    """Three simulated patients, 90 s each."""
    return tuple(simulated.load(Path(), f"sim{i:02d}", seconds=90.0) for i in (1, 2, 3))


@cache
def conditioned() -> tuple[ConditionedRecord, ...]:
    """The same on the model's grid."""
    return tuple(condition(r, TIMING, CONDITIONING) for r in records())


@cache
def signal() -> Float32Array:
    """30 s of the first patient as the trunk sees them, float32 (3750,)."""
    return np.ascontiguousarray(conditioned()[0].x[:3750, 0])


@cache
def trained_student(shape: BeatNetShape = SHAPE, steps: int = 150) -> BeatNet:
    """A student after a few steps: it finds most simulated beats. Callers must not change it."""
    torch.manual_seed(0)
    sampling = Sampling(chunk_s=10.0, chunks=8, noise_probability=0.0)
    batches = iter(ChunkSampler(conditioned(), TIMING, CONDITIONING.rate_hz, sampling, seed=0))
    return train(BeatNet(shape, TIMING), batches, Schedule(steps=steps, learning_rate=1e-2, mean_decay=0.9)).eval()


def untrained_student(shape: BeatNetShape = SHAPE, seed: int = 0) -> BeatNet:
    """Random weights, and batch norms with statistics of their own, so that folding them shows."""
    torch.manual_seed(seed)
    student = BeatNet(shape, TIMING).eval()
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for values, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_var, 0.02)):
                values.data = low + torch.rand_like(values)
            module.running_mean.copy_(0.1 * torch.randn_like(module.running_mean))
    return student


def scales_of(program: Program) -> dict[str, Scale]:
    """INT8 scales from training signals."""
    return calibrate(program, [np.ascontiguousarray(r.x[:, 0]) for r in conditioned()])


def packed(student: BeatNet, folder: Path, *, is_int8: bool) -> Packed:
    """A verified bundle."""
    scales = scales_of(fold(student.trunk)) if is_int8 else None
    return pack(student, scales, folder, conditioning=CONDITIONING, engine=OnnxEngine(), training=ORIGIN)
