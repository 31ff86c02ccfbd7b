"""Bytes that a model costs after a little more training, against the whole file.

    python benchmarks/delta_bytes.py

More training is simulated: noise of a share of each int8 tensor's spread, and of each float32 number. "Head" is the
last three tensors of more than eight numbers. All codecs of CPython are taken to be on the device.
"""

# A script: what it prints is its result.
# ruff: noqa: T201

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from host_tools.ship.parcels import Base, pack

BUNDLES = Path(__file__).resolve().parents[1] / "deploy" / "bundles"
MODELS = ("ecg-beats/trunk.onnx", "ecg-rhythm/model.onnx", "ppg-respiration/model.onnx")
CODECS = ("raw", "zlib", "lzma", "bz2")


def retrained(model: bytes, share: float, last: int | None, seed: int) -> bytes:
    """The model with noise on its weights; `last`: only so many tensors at its end."""
    rng = np.random.default_rng(seed)
    loaded = onnx.load_from_string(model)
    # Small ones are shapes, axes and single numbers.
    tensors = [t for t in loaded.graph.initializer if numpy_helper.to_array(t).size > 8]
    for tensor in tensors if last is None else tensors[-last:]:
        x = numpy_helper.to_array(tensor)
        if x.dtype == np.int8:
            noisy = np.clip(np.rint(x + rng.normal(0, share * x.astype(float).std(), x.shape)), -127, 127)
        else:
            noisy = x * (1 + rng.normal(0, share, x.shape))
        tensor.CopyFrom(numpy_helper.from_array(noisy.astype(x.dtype), tensor.name))
    return bytes(loaded.SerializeToString())


def cost(old: bytes, new: bytes) -> float:
    """Share of the whole file that is sent."""
    keys = [hashlib.sha256(x).hexdigest() for x in (old, new)]
    base = Base(path="old", sha256=keys[0], contents=old)
    return pack(keys[1], new, CODECS, base).payload_bytes / len(new)


def main() -> None:
    """A line for each model: median and range over five seeds."""
    print("| model | bytes | head, 2 % | all weights, 1 % | all weights, 2 % |\n|---|---|---|---|---|")
    for name in MODELS:
        old = (BUNDLES / name).read_bytes()
        cells = []
        for share, last in ((0.02, 3), (0.01, None), (0.02, None)):
            shares = sorted(100 * cost(old, retrained(old, share, last, seed)) for seed in range(5))
            cells.append(f"{shares[2]:.1f} % [{shares[0]:.1f}, {shares[-1]:.1f}]")
        print(f"| `{name}` | {len(old)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
