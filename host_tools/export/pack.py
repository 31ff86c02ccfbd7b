"""Network -> bundle: write the graphs, prove that all forms agree, store golden vectors, write the manifest."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_runtime import golden
from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from edge_runtime.contract.errors import ParityError
from edge_runtime.contract.manifest import BEATS_SCHEMA, BeatManifest, Golden, Training, to_json
from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.signal import Block, Float32Array
from edge_runtime.engine.engine import Engine
from edge_runtime.sensors.synthetic import simulate
from host_tools.compress.quantize import Scale
from host_tools.export.onnx_head import write_head
from host_tools.export.onnx_trunk import write_trunk
from host_tools.export.program import fold
from host_tools.export.verify import Parity, verify
from host_tools.nets.beats import BeatNet

CLASSES = ("N", "S", "V", "F")
HOP_SAMPLES = 25
GOLDEN_FILE = "golden.npz"
GOLDEN_RATE_HZ, GOLDEN_S = 250.0, 40.0


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A bundle on disk and how well its forms agree."""

    bundle: Bundle
    parity: Parity


def pack(
    student: BeatNet,
    scales: dict[str, Scale] | None,
    destination: Path,
    *,
    conditioning: Conditioning,
    engine: Engine,
    training: Training,
    threshold: float = 0.5,
    metrics: dict[str, float] | None = None,
    name: str = "ecg-beats",
) -> Packed:
    """Write a verified bundle, replacing `destination` only when it is complete; raises ParityError.

    scales  activation scales for INT8; None packs fp32
    """
    student = student.eval()
    program = fold(student.trunk)
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        trunk_model, trunk = write_trunk(program, "streaming", HOP_SAMPLES, scales)
        head_model, head = write_head(student.head, weights_int8=scales is not None)
        for model, graph in ((trunk_model, trunk), (head_model, head)):
            (folder / graph.file).write_bytes(model.SerializeToString())
        signal_uv = _golden_signal()
        manifest = BeatManifest(
            schema=BEATS_SCHEMA,
            name=name,
            task="ecg-beats",
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            unit="mV",
            lead="MLII",
            conditioning=conditioning,
            conditioning_sha256=conditioning.sha256(),
            timing=student.timing,
            hop_samples=HOP_SAMPLES,
            receptive_field_samples=student.receptive_field_samples,
            delay_samples=student.timing.delay_samples(HOP_SAMPLES),
            classes=CLASSES,
            detection_threshold=threshold,
            graphs=(trunk, head),
            golden=Golden(file=GOLDEN_FILE, rate_hz=GOLDEN_RATE_HZ, sample_tolerance=1, confidence_tolerance=0.05),
            files={g.file: file_sha256(folder / g.file) for g in (trunk, head)},
            training=training,
            metrics=metrics or {},
        )
        draft = Bundle(path=folder, manifest=manifest, id="draft")
        parity = verify(student, program, scales, draft, engine, _conditioned(signal_uv, conditioning))
        beats = golden.as_arrays(
            golden.readings_of(draft, engine, golden.from_microvolts(signal_uv), GOLDEN_RATE_HZ), CLASSES
        )
        np.savez_compressed(
            folder / GOLDEN_FILE,
            signal_uv=signal_uv,
            sample=beats["sample"],
            label=beats["label"],
            confidence=beats["confidence"],
        )
        manifest = replace(manifest, files={**manifest.files, GOLDEN_FILE: file_sha256(folder / GOLDEN_FILE)})
        (folder / MANIFEST).write_text(to_json(manifest))
        if not golden.check(open_bundle(folder), engine).is_equal:
            raise ParityError("golden vectors are not answered equally by the engine that made them")
        folder.chmod(0o755)
        put_in_place(folder, destination)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Packed(bundle=open_bundle(destination), parity=parity)


def with_metrics(bundle: Bundle, metrics: dict[str, float]) -> Bundle:
    """The same bundle with measured figures in its manifest (its id changes with them)."""
    manifest = replace(bundle.manifest, metrics=metrics)
    place = bundle.path / MANIFEST
    draft = place.with_suffix(".new")
    draft.write_text(to_json(manifest))
    os.replace(draft, place)
    return open_bundle(bundle.path)


def _golden_signal() -> np.ndarray:
    """A simulated patient with ectopic beats, int16 microvolts: no recording of a person travels in a bundle."""
    ecg = simulate(GOLDEN_S, rate_hz=GOLDEN_RATE_HZ, seed=7, heart_rate_bpm=75, pvc=0.12, pac=0.12, noise_mv=0.02)
    return np.asarray(np.clip(np.rint(ecg.samples[:, 0] * golden.MICROVOLTS_PER_MV), -32768, 32767), np.int16)


def _conditioned(signal_uv: np.ndarray, conditioning: Conditioning) -> Float32Array:
    stage = Conditioner(conditioning, GOLDEN_RATE_HZ)
    return np.concatenate(
        [b.samples[:, 0] for b in stage.feed(Block(start=0, samples=golden.from_microvolts(signal_uv)))]
    )


def put_in_place(folder: Path, destination: Path) -> None:
    """Make a complete folder the destination, in place of what was there."""
    if destination.exists():
        old = destination.with_name(f".{destination.name}-old-{os.getpid()}")
        os.replace(destination, old)
        os.replace(folder, destination)
        shutil.rmtree(old)
    else:
        os.replace(folder, destination)
