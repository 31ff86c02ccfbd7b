"""Graph over windows -> bundle: prove that all forms agree, store golden vectors, write manifest and model card."""

from __future__ import annotations

import copy
import datetime
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from torch import nn

from edge_runtime import golden
from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from edge_runtime.contract.errors import ParityError, SettingsError
from edge_runtime.contract.manifest import (
    WINDOW_SCHEMA,
    Graph,
    Tensor,
    Training,
    WindowGolden,
    WindowManifest,
    from_json,
    to_json,
)
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.window import Window
from edge_runtime.engine.engine import Engine
from host_tools.export.card import CARD_FILE
from host_tools.export.compact import compact
from host_tools.export.golden_inputs import GoldenInput
from host_tools.export.pack import GOLDEN_FILE, put_in_place
from host_tools.export.verify_window import WindowParity, verify_window

GRAPH, GRAPH_FILE = "model", "model.onnx"
CONFIDENCE_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a graph costs: parameters, multiply-accumulates a call, how many operators compute in integers."""

    parameters: int
    macs: int
    integer_operators: int = 0
    operators: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a task says about its model.

    unit          of the stream; any word for rows of a table, whose columns have units of their own
    hop_samples   from one window's begin to the next, at most a window
    conditioning  None: the source's samples are the graph's
    classes       empty where the window says a number
    """

    name: str
    task: str
    unit: str
    window: Window
    hop_samples: int
    conditioning: Conditioning | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PackedWindow:
    """A bundle on disk and how well its forms agree."""

    bundle: Bundle
    parity: WindowParity


def pack_window(
    graph: onnx.ModelProto,
    destination: Path,
    *,
    description: Description,
    cost: Cost,
    given: GoldenInput,
    engine: Engine,
    training: Training,
    card: str,
    metrics: dict[str, float] | None = None,
    network: nn.Module | None = None,
) -> PackedWindow:
    """Write a verified bundle, replacing `destination` only when it is complete.

    graph    one input float32 (n or 1, *size), one output float32 (n or 1, outputs)
    given    what the golden vectors are asked of; made up, see `golden_inputs`
    card     the text of MODEL_CARD.md, see `write_card`
    network  what the graph was exported from, compared with it
    Raises ParityError if two forms disagree, SettingsError or BundleError for a description that does not fit.
    """
    model = one_window(graph)
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        (folder / GRAPH_FILE).write_bytes(model.SerializeToString())
        (folder / CARD_FILE).write_text(card)
        draft = _draft(model, folder, description, cost, given.rate_hz, training, metrics or {})
        parity = verify_window(model, network, draft, engine, given)
        said = golden.window_arrays(
            golden.readings_of(draft, engine, given.samples, given.rate_hz), description.classes
        )
        np.savez_compressed(
            folder / GOLDEN_FILE,
            samples=given.samples,
            sample=said["sample"],
            value=said["value"],
            confidence=said["confidence"],
        )
        files = {**draft.manifest.files, GOLDEN_FILE: file_sha256(folder / GOLDEN_FILE)}
        (folder / MANIFEST).write_text(to_json(replace(draft.manifest, files=files)))
        if not golden.check(open_bundle(folder), engine).is_equal:
            raise ParityError("golden vectors are not answered equally by the engine that made them")
        folder.chmod(0o755)
        put_in_place(folder, destination)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return PackedWindow(bundle=open_bundle(destination), parity=parity)


def one_window(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for one window a call, compact; raises SettingsError if it has not one input and output of float32."""
    model = copy.deepcopy(graph)
    constants = {i.name for i in model.graph.initializer}
    tensors = [t for t in model.graph.input if t.name not in constants], list(model.graph.output)
    for kind, found in zip(("input", "output"), tensors, strict=True):
        kinds = [t.type.tensor_type.elem_type for t in found]
        if kinds != [onnx.TensorProto.FLOAT]:
            raise SettingsError(f"graph: {kind}s are {[t.name for t in found]} of types {kinds}; one of float32 wanted")
        first = found[0].type.tensor_type.shape.dim[0]
        if first.dim_value not in (0, 1):
            raise SettingsError(f"graph: {kind} {found[0].name} holds {first.dim_value} examples; 1 wanted")
        first.ClearField("dim_param")
        first.dim_value = 1
    del model.graph.value_info[:]  # shapes for another number of examples
    return compact(model)


def _draft(
    model: onnx.ModelProto,
    folder: Path,
    d: Description,
    cost: Cost,
    golden_rate_hz: float,
    training: Training,
    metrics: dict[str, float],
) -> Bundle:
    """The bundle as far as it is known before its golden vectors are."""
    constants = {i.name for i in model.graph.initializer}
    steps = np.diff(d.window.values) if d.window.values else np.zeros(1)
    manifest = WindowManifest(
        schema=WINDOW_SCHEMA,
        name=d.name,
        task=d.task,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        unit=d.unit,
        hop_samples=d.hop_samples,
        classes=d.classes,
        graphs=(
            Graph(
                name=GRAPH,
                file=GRAPH_FILE,
                runs="every hop",
                precision=_precision(model, cost),
                inputs=tuple(_tensor(t) for t in model.graph.input if t.name not in constants),
                outputs=tuple(_tensor(t) for t in model.graph.output),
                states=(),
                parameters=cost.parameters,
                macs=cost.macs,
                integer_operators=cost.integer_operators,
                operators=cost.operators,
            ),
        ),
        golden=WindowGolden(
            file=GOLDEN_FILE,
            rate_hz=golden_rate_hz,
            sample_tolerance=0,
            confidence_tolerance=CONFIDENCE_TOLERANCE,
            value_tolerance=0.5 * float(steps.min()),  # half a bin
        ),
        files={name: file_sha256(folder / name) for name in (GRAPH_FILE, CARD_FILE)},
        training=training,
        metrics=metrics,
        window=d.window,
        conditioning=d.conditioning,
        conditioning_sha256="" if d.conditioning is None else d.conditioning.sha256(),
    )
    # Read back, so that what an opening would refuse is refused before anything is measured.
    text = to_json(replace(manifest, files={**manifest.files, GOLDEN_FILE: ""}))
    from_json(text, f"{d.name}: {MANIFEST}")
    return Bundle(path=folder, manifest=manifest, id="draft")


def _precision(model: onnx.ModelProto, cost: Cost) -> Literal["fp32", "fp16", "int8"]:
    if cost.integer_operators:
        return "int8"
    halves = any(i.data_type == onnx.TensorProto.FLOAT16 for i in model.graph.initializer)
    return "fp16" if halves else "fp32"


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return Tensor(name=value.name, shape=shape, dtype="float32")
