"""What a bundle says about itself: stream, conditioning, timing, graphs with their tensors and state, origin."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.strict import build

SCHEMA = 1
Runs = Literal["every hop", "once per beat"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A graph's input or output: name, shape, numpy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class State:
    """A tensor that the runtime hands from one call to the next; it starts filled with `initial`.

    The next call's input is the tail, along the first axis in which the shapes differ, of this call's output.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: str
    initial: float


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One model file and when it runs.

    integer_operators, operators  how many of the convolutions and matrix products compute in integers
    """

    name: str
    file: str
    runs: Runs
    precision: Literal["fp32", "int8"]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[State, ...]
    parameters: int
    macs: int
    integer_operators: int
    operators: int


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Stored input and the readings that every device must give for it.

    sample_tolerance, confidence_tolerance  how far another processor's rounding may move a reading
    """

    file: str
    rate_hz: float
    sample_tolerance: int
    confidence_tolerance: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where the weights come from."""

    commit: str
    recipe: str
    recipe_sha256: str
    seed: int
    records: str
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest of a bundle; every field is read by the runtime, the shipper or the report."""

    schema: int
    name: str
    task: Literal["ecg-beats"]
    created: str
    unit: str
    lead: str
    conditioning: Conditioning
    conditioning_sha256: str
    timing: BeatTiming
    hop_samples: int
    receptive_field_samples: int
    delay_samples: int
    classes: tuple[str, ...]
    detection_threshold: float
    graphs: tuple[Graph, ...]
    golden: Golden
    files: dict[str, str]
    training: Training
    metrics: dict[str, float]

    def graph(self, name: str) -> Graph:
        """The graph called `name`; raises BundleError naming those that exist."""
        for graph in self.graphs:
            if graph.name == name:
                return graph
        raise BundleError(f"manifest: no graph '{name}'; graphs are {', '.join(g.name for g in self.graphs)}")


def to_json(manifest: Manifest) -> str:
    """The manifest as the text of `manifest.json`."""
    return json.dumps(asdict(manifest), indent=1) + "\n"


def from_json(text: str, where: str) -> Manifest:
    """Read a manifest; raises BundleError for a newer schema, unknown or missing keys, broken promises."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{where}: not JSON ({error})") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, int):
        raise BundleError(f"{where}: schema is {schema!r}; a number wanted")
    if schema > SCHEMA:
        raise BundleError(f"{where}: schema is {schema}; this runtime reads up to {SCHEMA}, so update it")
    manifest = build(Manifest, value, where, BundleError)
    _check(manifest, where)
    return manifest


def _check(m: Manifest, where: str) -> None:
    found = m.conditioning.sha256()
    if found != m.conditioning_sha256:
        raise BundleError(
            f"{where}: this runtime's conditioning is {found[:12]}...; the model was trained on "
            f"{m.conditioning_sha256[:12]}...; install the runtime the bundle was made with"
        )
    if m.hop_samples % m.timing.stride:
        raise BundleError(f"{where}: hop_samples is {m.hop_samples}; a multiple of {m.timing.stride} wanted")
    if m.delay_samples != m.timing.delay_samples(m.hop_samples):
        raise BundleError(
            f"{where}: delay_samples is {m.delay_samples}; the timing says {m.timing.delay_samples(m.hop_samples)}"
        )
    for file in [m.golden.file, *(g.file for g in m.graphs)]:
        if file not in m.files:
            raise BundleError(f"{where}: {file} is named but has no sha256 in 'files'")
