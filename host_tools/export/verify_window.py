"""Proof that all forms of a window model agree: torch, ONNX, the device's engine, the device's pipeline however cut."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
from torch import nn

from edge_runtime import golden
from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.channels import AsTheyAre, EachConditioned
from edge_runtime.contract.errors import ParityError, SettingsError
from edge_runtime.contract.manifest import WindowManifest
from edge_runtime.contract.signal import Block, Float32Array, Frames
from edge_runtime.engine.engine import Engine
from host_tools.export.golden_inputs import GoldenInput
from host_tools.export.sessions import session
from host_tools.measure.logits import network_logits

# Of the largest logit. Integer and half-precision models are other models, not a rounding: only wrong scales, swapped
# channels and the like are caught there.
FP32_TOLERANCE = 1e-4
MIN_SQNR_DB = 10.0
SIZES = ((1000,), (64, 3), (7,), (250, 1, 33))
MIN_WINDOWS = 2


@dataclass(frozen=True, kw_only=True)
class WindowParity:
    """Largest differences found, as shares of the largest logit; 0 means equal to the bit.

    network  torch and ONNX; None without a network
    device   ONNX here and the device's engine
    """

    windows: int
    network: float | None
    device: float
    sqnr_db: float | None


def verify_window(
    graph: onnx.ModelProto, network: nn.Module | None, bundle: Bundle, engine: Engine, given: GoldenInput
) -> WindowParity:
    """Compare all forms on `given`; raises ParityError naming the two that differ."""
    m = _manifest(bundle)
    precision = m.step_graph.precision
    run = session(graph)
    name = run.get_inputs()[0].name
    x = windows_of(m, given).reshape(-1, *m.step_graph.inputs[0].shape[1:])
    wanted = np.concatenate([run.run(None, {name: x[i : i + 1]})[0].reshape(1, -1) for i in range(len(x))])
    if not np.isfinite(wanted).all():
        raise ParityError("ONNX gives logits that are not numbers for the golden input")
    size = max(float(np.abs(wanted).max()), 1e-12)
    difference = sqnr = None
    if network is not None:
        torch_logits = network_logits(network, x)
        if precision == "fp32":
            difference = _require("torch", torch_logits, "ONNX", wanted, FP32_TOLERANCE, size)
        else:
            difference = _require("torch", torch_logits, f"ONNX {precision}", wanted, np.inf, size)
            error = float(((torch_logits - wanted) ** 2).sum())
            sqnr = float(10 * np.log10((torch_logits**2).sum() / max(error, 1e-30)))
            if sqnr < MIN_SQNR_DB:
                raise ParityError(f"ONNX {precision} against torch: {sqnr:.1f} dB; at least {MIN_SQNR_DB:g} dB wanted")
    tolerance = 0.0 if precision == "int8" else FP32_TOLERANCE
    device = max(_through_pipeline(bundle, engine, given, wanted, sizes, tolerance) for sizes in SIZES)
    return WindowParity(windows=len(x), network=difference, device=device, sqnr_db=sqnr)


def windows_of(m: WindowManifest, given: GoldenInput) -> Float32Array:
    """The windows that a pipeline would make of the samples, as a batch; float32 (n, channels, window_samples).

    Raises SettingsError for an input with gaps where the model refuses them, or with fewer than two windows.
    """
    if np.isinf(given.samples).any() or (m.window.missing == "refused" and np.isnan(given.samples).any()):
        raise SettingsError("golden input: a sample is not a number; the window refuses it")
    stage = (
        AsTheyAre(takes_missing=m.window.missing == "in graph")
        if m.conditioning is None
        else EachConditioned(m.conditioning, given.rate_hz, given.samples.shape[1])
    )
    blocks = [*stage.feed(Block(start=0, samples=given.samples)), *stage.finish(0.0)]
    whole = np.concatenate([b.samples for b in blocks])
    n = m.window.window_samples
    if len(whole) < n + (MIN_WINDOWS - 1) * m.hop_samples:
        raise SettingsError(
            f"golden input: {len(whole)} samples at the model's rate; {MIN_WINDOWS} windows of {n} wanted"
        )
    view = np.lib.stride_tricks.sliding_window_view(whole, n, axis=0)[:: m.hop_samples]
    return np.array(view, np.float32, order="C")


def _through_pipeline(
    bundle: Bundle, engine: Engine, given: GoldenInput, wanted: Float32Array, sizes: tuple[int, ...], tolerance: float
) -> float:
    """Logits and readings of the device's pipeline, the input cut in `sizes`, against those of the batch."""
    m = _manifest(bundle)
    what = f"device pipeline with {engine.name}, blocks of {sizes}"
    rows: list[Float32Array] = []

    def keep(frames: Frames, readings: object) -> None:
        rows.append(frames.scores)

    pipeline = open_pipeline(bundle, golden.stream_spec(bundle, given.rate_hz), engine, on_frames=keep)
    readings = golden.stream(pipeline, given.samples, sizes)
    logits = np.concatenate(rows) if rows else np.zeros((0, wanted.shape[1]), np.float32)
    worst = _require("ONNX", wanted, what, logits, tolerance, max(float(np.abs(wanted).max()), 1e-12))
    step = Fraction(given.rate_hz) / Fraction(m.rate_hz)
    last = [i * m.hop_samples + m.window.window_samples - 1 for i in range(len(wanted))]
    expected = [(int(k * step), *m.window.read(row, m.classes)) for k, row in zip(last, logits, strict=True)]
    if [(r.sample, r.value, r.confidence) for r in readings] != expected:
        raise ParityError(f"{what}: readings are not those of its logits")
    if not pipeline.ledger.is_balanced or pipeline.ledger.received != len(given.samples):
        raise ParityError(f"{what}: ledger does not balance ({pipeline.ledger})")
    return worst


def _manifest(bundle: Bundle) -> WindowManifest:
    if not isinstance(bundle.manifest, WindowManifest):
        raise SettingsError(f"bundle {bundle.manifest.name}: task is {bundle.manifest.task}; one of windows wanted")
    return bundle.manifest


def _require(left: str, a: Float32Array, right: str, b: Float32Array, tolerance: float, size: float) -> float:
    if a.shape != b.shape:
        raise ParityError(f"{left} gives {a.shape}; {right} gives {b.shape}")
    worst = float(np.abs(a - b).max()) / size
    if not worst <= tolerance:
        raise ParityError(f"{left} and {right} differ by {worst:.2e} of the largest logit; {tolerance:g} allowed")
    return worst
