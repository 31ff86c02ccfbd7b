"""Proof that all forms of a model agree: torch, ONNX windowed, ONNX streaming at any hop, the device's engine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import ParityError
from edge_runtime.contract.manifest import Graph, beats_of
from edge_runtime.contract.rhythm import N_FEATURES
from edge_runtime.contract.signal import Block, Float32Array
from edge_runtime.engine.engine import Engine, StreamingTrunk
from host_tools.compress.quantize import Scale
from host_tools.export.onnx_head import write_head
from host_tools.export.onnx_trunk import write_trunk
from host_tools.export.program import Program
from host_tools.nets.beats import BeatNet

FP32_TOLERANCE = 1e-5  # of the largest output
# INT8 is a different model, not a rounding: this only catches wrong scales, swapped channels and the like.
MIN_INT8_SQNR_DB = 10.0
HOPS = (5, 25, 125)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Largest differences found, as shares of the largest output; 0 means equal to the bit."""

    windowed: float
    streaming: float
    device: float
    head: float
    int8_sqnr_db: float | None


def verify(
    student: BeatNet,
    program: Program,
    scales: dict[str, Scale] | None,
    bundle: Bundle,
    engine: Engine,
    signal: Float32Array,
) -> Parity:
    """Compare all forms on a conditioned signal float32 (samples,); raises ParityError naming the two that differ.

    fp32 forms agree to 1e-5 of the largest output; INT8 forms agree with each other to the bit.
    """
    m = bundle.manifest
    n = len(signal) // np.lcm.reduce([*HOPS, m.hop_samples]) * np.lcm.reduce([*HOPS, m.hop_samples])
    x = np.ascontiguousarray(signal[:n], np.float32)
    with torch.no_grad():
        reference = student.trunk(torch.from_numpy(x)[None, None])[0].numpy().T
    size = float(np.abs(reference).max())
    fp32 = _windowed(program, x, None)
    windowed = _require("torch", reference, "ONNX windowed fp32", fp32, FP32_TOLERANCE, size)
    streaming = max(
        _require(
            "torch",
            reference,
            f"ONNX streaming fp32, hop {hop}",
            _streaming(program, x, hop, None),
            FP32_TOLERANCE,
            size,
        )
        for hop in HOPS
    )
    wanted, sqnr = reference, None
    tolerance = FP32_TOLERANCE
    if scales is not None:
        wanted, tolerance = _windowed(program, x, scales), 0.0
        sqnr = float(10 * np.log10((reference**2).sum() / ((wanted - reference) ** 2).sum()))
        if sqnr < MIN_INT8_SQNR_DB:
            raise ParityError(
                f"INT8 against fp32: {sqnr:.1f} dB signal to error; at least {MIN_INT8_SQNR_DB:g} dB wanted"
            )
        for hop in HOPS:
            _require(
                "ONNX windowed INT8",
                wanted,
                f"ONNX streaming INT8, hop {hop}",
                _streaming(program, x, hop, scales),
                0.0,
                size,
            )
    device = _require(
        "ONNX windowed", wanted, f"device engine {engine.name}", _device(bundle, engine, x), tolerance, size
    )
    return Parity(
        windowed=windowed,
        streaming=streaming,
        device=device,
        head=_verify_head(student, bundle, engine),
        int8_sqnr_db=sqnr,
    )


def _require(left: str, a: Float32Array, right: str, b: Float32Array, tolerance: float, size: float) -> float:
    if a.shape != b.shape:
        raise ParityError(f"{left} gives {a.shape}; {right} gives {b.shape}")
    worst = float(np.abs(a - b).max()) / size
    if not worst <= tolerance:
        raise ParityError(f"{left} and {right} differ by {worst:.2e} of the largest output; {tolerance:g} allowed")
    return worst


def session(model: onnx.ModelProto) -> Any:
    """A fully optimized single-threaded session, as the device opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _windowed(program: Program, x: Float32Array, scales: dict[str, Scale] | None) -> Float32Array:
    model, _ = write_trunk(program, "windowed", len(x), scales)
    y = session(model).run(None, {"x": x.reshape(1, 1, 1, -1)})[0]
    return np.asarray(y if scales is not None else y[0, :, 0].T, np.float32)


def _streaming(program: Program, x: Float32Array, hop: int, scales: dict[str, Scale] | None) -> Float32Array:
    """Step by step, carrying the state as the manifest says: the tail of each output."""
    model, graph = write_trunk(program, "streaming", hop, scales)
    run = session(model).run
    state = {s.input: np.full(s.shape, s.initial, s.dtype) for s in graph.states}
    rows = []
    for start in range(0, len(x), hop):
        scores, *written = run(None, {"x": x[start : start + hop].reshape(graph.inputs[0].shape), **state})
        state = {s.input: _tail(w, s.shape) for s, w in zip(graph.states, written, strict=True)}
        rows.append(scores.reshape(-1, scores.shape[-1]))
    return np.concatenate(rows)


def _tail(written: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    index = tuple(slice(total - kept, None) for total, kept in zip(written.shape, shape, strict=True))
    return np.ascontiguousarray(written[index])


def _device(bundle: Bundle, engine: Engine, x: Float32Array) -> Float32Array:
    """Through the device's own stage, cut unevenly."""
    m = beats_of(bundle.manifest)
    graph = m.graph("trunk")
    stage = StreamingTrunk(engine.load(bundle, graph), graph, m.hop_samples, m.timing.stride)
    cut, rows, start = np.random.default_rng(0), [], 0
    while start < len(x):
        stop = min(len(x), start + int(cut.integers(1, 70)))
        rows += [f.scores for f in stage.feed(Block(start=start, samples=x[start:stop, None]))]
        start = stop
    return np.concatenate(rows)


def _verify_head(student: BeatNet, bundle: Bundle, engine: Engine) -> float:
    """The head over a sequence of beats: torch against the device's graph, beat by beat."""
    rng = np.random.default_rng(1)
    graph = bundle.manifest.graph("head")
    e = rng.standard_normal((50, graph.inputs[0].shape[1])).astype(np.float32)
    rhythm = rng.standard_normal((50, N_FEATURES)).astype(np.float32)
    with torch.no_grad():
        logits = student.head(torch.from_numpy(e)[None], torch.from_numpy(rhythm)[None])[0]
    wanted = torch.softmax(logits, -1).numpy()
    given = _head_outputs(engine.load(bundle, graph), graph, e, rhythm)
    if graph.precision == "fp32":
        return _require("torch head", wanted, f"device engine {engine.name}", given, FP32_TOLERANCE, 1.0)
    # Weights rounded to int8 are compared with torch loosely, and with the fp32 graph's structure tightly.
    _require("torch head", wanted, f"device engine {engine.name}, int8 weights", given, 0.1, 1.0)
    model, plain = write_head(student.head, weights_int8=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / plain.file
        path.write_bytes(model.SerializeToString())
        loaded = engine.load(Bundle(path=Path(folder), manifest=bundle.manifest, id=bundle.id), plain)
        return _require(
            "torch head",
            wanted,
            "ONNX head fp32",
            _head_outputs(loaded, plain, e, rhythm),
            FP32_TOLERANCE,
            1.0,
        )


def _head_outputs(stepper: Any, graph: Graph, e: Float32Array, rhythm: Float32Array) -> Float32Array:
    rows = []
    for embedding, features in zip(e, rhythm, strict=True):
        stepper.inputs[graph.inputs[0].name][0] = embedding
        stepper.inputs[graph.inputs[1].name][0] = features
        stepper.step()
        rows.append(stepper.outputs[graph.outputs[0].name][0].copy())
    return np.array(rows)
