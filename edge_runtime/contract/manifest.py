"""What a bundle says about itself: stream, conditioning, timing or window, graphs with tensors and state, origin.

Manifest
├── BeatManifest     task `ecg-beats`: a streaming trunk and a head that runs once per beat
└── WindowManifest   any other task: one graph over windows of samples, or over rows of a table
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Literal

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.budget import Budget
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.strict import build
from edge_runtime.contract.window import Window

SCHEMA = 3  # the newest that this reader reads
BEATS_SCHEMA, WINDOW_SCHEMA = 1, 2
FORMS_SCHEMA = 3  # of either kind, with further forms
MAX_FILL_GAP_S = 0.5  # a longer one may hide a beat
ONCE_PER_BEAT = "once per beat"
Runs = Literal["every hop", "once per beat"]
Precision = Literal["fp32", "fp16", "int8"]
EngineName = Literal["onnxruntime", "litert"]
FIRST_ENGINE: EngineName = "onnxruntime"  # of the manifest's own graphs


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
    precision: Precision
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[State, ...]
    parameters: int
    macs: int
    integer_operators: int
    operators: int


@dataclass(frozen=True, kw_only=True)
class Form:
    """The same model for another engine or in another precision: its graphs stand for the manifest's own.

    precision  of the graph that runs every hop
    """

    engine: EngineName
    precision: Precision
    graphs: tuple[Graph, ...]

    @property
    def name(self) -> str:
        """Engine and precision, as in `litert int8`."""
        return f"{self.engine} {self.precision}"


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
class WindowGolden(Golden):
    """The same for windows, of which a reading may be a number.

    value_tolerance  how far rounding may move it
    """

    value_tolerance: float


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
    """What bundles of all kinds say: what the runtime works by, and what `edge-runtime info` tells people.

    hop_samples                 from one model step to the next, at the model's rate
    classes                     in the order of the logits or probabilities; empty if a number is estimated
    forms                       further ones of the same model; golden vectors have answers for each
    fill_gap_s                  gaps of at most so long are interpolated; 0: none, the usual
    budget                      what deployments hold it to; None, the usual: only to what they are asked for
    created, training, metrics  told, not enforced
    """

    schema: int
    name: str
    task: str
    created: str
    unit: str
    hop_samples: int
    classes: tuple[str, ...]
    graphs: tuple[Graph, ...]
    golden: Golden
    files: dict[str, str]
    training: Training
    metrics: dict[str, float]
    forms: tuple[Form, ...] = ()
    fill_gap_s: float = 0.0
    budget: Budget | None = None

    @property
    def all_forms(self) -> tuple[Form, ...]:
        """The form of the manifest's own graphs, and the further ones."""
        own = Form(engine=FIRST_ENGINE, precision=self.step_graph.precision, graphs=self.graphs)
        return (own, *self.forms)

    def graph(self, name: str) -> Graph:
        """The graph called `name`; raises BundleError naming those that exist."""
        for graph in self.graphs:
            if graph.name == name:
                return graph
        raise BundleError(f"manifest: no graph '{name}'; graphs are {', '.join(g.name for g in self.graphs)}")

    @property
    def step_graph(self) -> Graph:
        """The graph that runs every hop; raises BundleError if there is none."""
        for graph in self.graphs:
            if graph.runs != ONCE_PER_BEAT:
                return graph
        raise BundleError(f"manifest: no graph runs every hop; graphs are {', '.join(g.name for g in self.graphs)}")

    @property
    def rate_hz(self) -> float:
        """Rate of the samples that the model sees."""
        raise NotImplementedError

    @property
    def n_channels(self) -> int:
        """Columns of the stream's blocks."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class BeatManifest(Manifest):
    """The manifest of a bundle of the task `ecg-beats`.

    lead, receptive_field_samples  told, not enforced
    """

    task: Literal["ecg-beats"]
    lead: str
    conditioning: Conditioning
    conditioning_sha256: str
    timing: BeatTiming
    receptive_field_samples: int
    delay_samples: int
    detection_threshold: float

    @property
    def rate_hz(self) -> float:
        """Rate of the samples that the trunk sees."""
        return float(self.conditioning.rate_hz)

    @property
    def n_channels(self) -> int:
        """One lead."""
        return 1


@dataclass(frozen=True, kw_only=True)
class WindowManifest(Manifest):
    """The manifest of a bundle of one graph over windows.

    conditioning  None: the source's samples are the graph's
    """

    window: Window
    conditioning: Conditioning | None
    conditioning_sha256: str
    golden: WindowGolden

    @property
    def rate_hz(self) -> float:
        """Rate of the samples that the graph sees."""
        return self.window.rate_hz

    @property
    def n_channels(self) -> int:
        """Channels of the window."""
        return len(self.window.channels)


def beats_of(manifest: Manifest) -> BeatManifest:
    """The manifest as that of `ecg-beats`; raises BundleError for a bundle of windows."""
    if not isinstance(manifest, BeatManifest):
        raise BundleError(f"bundle {manifest.name}: task is {manifest.task}; ecg-beats wanted")
    return manifest


def to_json(manifest: Manifest) -> str:
    """The manifest as the text of `manifest.json`; without what is optional as older runtimes know it."""
    value = asdict(manifest)
    if not manifest.forms:
        del value["forms"]
    if not manifest.fill_gap_s:
        del value["fill_gap_s"]
    if manifest.budget is None:
        del value["budget"]
    return json.dumps(value, indent=1) + "\n"


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
    cls = WindowManifest if "window" in value else BeatManifest
    manifest = build(cls, value, where, BundleError)
    _check(manifest, where)
    return manifest


def _check(m: Manifest, where: str) -> None:
    if not 0.0 <= m.fill_gap_s <= MAX_FILL_GAP_S:
        raise BundleError(f"{where}: fill_gap_s is {m.fill_gap_s:g}; 0 to {MAX_FILL_GAP_S:g} wanted")
    if isinstance(m, BeatManifest):
        _check_conditioning(m.conditioning, m.conditioning_sha256, where)
        _check_beats(m, where)
    elif isinstance(m, WindowManifest):
        if m.conditioning is not None:
            _check_conditioning(m.conditioning, m.conditioning_sha256, where)
        _check_window(m, where)
    _check_forms(m, where)
    for file in [m.golden.file, *(g.file for form in m.all_forms for g in form.graphs)]:
        if file not in m.files:
            raise BundleError(f"{where}: {file} is named but has no sha256 in 'files'")


def _check_forms(m: Manifest, where: str) -> None:
    if m.forms and m.schema < FORMS_SCHEMA:
        raise BundleError(f"{where}: schema is {m.schema} with forms; {FORMS_SCHEMA} wanted")
    names = [f.name for f in m.all_forms]
    if len(set(names)) < len(names):
        raise BundleError(f"{where}: forms are {', '.join(names)}; each once wanted")
    wanted = [(g.name, g.runs) for g in m.graphs]
    for form in m.forms:
        if [(g.name, g.runs) for g in form.graphs] != wanted:
            raise BundleError(
                f"{where}: form '{form.name}' has graphs {', '.join(g.name for g in form.graphs)}; those of the "
                f"manifest wanted: {', '.join(name for name, _ in wanted)}, which run as often"
            )
        found = next(g.precision for g in form.graphs if g.runs != ONCE_PER_BEAT)
        if found != form.precision:
            raise BundleError(f"{where}: form '{form.name}' has a graph of precision {found}")


def _check_conditioning(conditioning: Conditioning, wanted: str, where: str) -> None:
    found = conditioning.sha256()
    if found != wanted:
        raise BundleError(
            f"{where}: this runtime's conditioning is {found[:12]}...; the model was trained on "
            f"{wanted[:12]}...; install the runtime the bundle was made with"
        )


def _check_beats(m: BeatManifest, where: str) -> None:
    if m.hop_samples % m.timing.stride:
        raise BundleError(f"{where}: hop_samples is {m.hop_samples}; a multiple of {m.timing.stride} wanted")
    if m.delay_samples != m.timing.delay_samples(m.hop_samples):
        raise BundleError(
            f"{where}: delay_samples is {m.delay_samples}; the timing says {m.timing.delay_samples(m.hop_samples)}"
        )


def _check_window(m: WindowManifest, where: str) -> None:
    w = m.window
    if not 1 <= m.hop_samples <= w.window_samples:
        raise BundleError(f"{where}: hop_samples is {m.hop_samples}; 1 to window_samples = {w.window_samples} wanted")
    if (w.output == "number") == bool(m.classes):
        raise BundleError(f"{where}: window.output is '{w.output}' with {len(m.classes)} classes; one of both wanted")
    if m.conditioning is not None and (m.conditioning.rate_hz != w.rate_hz or w.missing == "in graph"):
        raise BundleError(
            f"{where}: conditioning to {m.conditioning.rate_hz} Hz with a window at {w.rate_hz:g} Hz and missing "
            f"'{w.missing}'; the same rate and 'refused' wanted"
        )
    if len(m.graphs) != 1:
        raise BundleError(f"{where}: {len(m.graphs)} graphs; one wanted")
    for graph in (m.graphs[0], *(g for form in m.forms for g in form.graphs)):
        _check_window_graph(m, graph, where)


def _check_window_graph(m: WindowManifest, graph: Graph, where: str) -> None:
    sizes = [math.prod(t.shape) for t in (*graph.inputs, *graph.outputs)]
    wanted = [m.n_channels * m.window.window_samples, len(m.classes) or len(m.window.values)]
    if sizes != wanted or graph.states or graph.runs == ONCE_PER_BEAT:
        raise BundleError(
            f"{where}: graph '{graph.name}' has tensors of {sizes} values and {len(graph.states)} states, and runs "
            f"{graph.runs}; tensors of {wanted}, no state, every hop wanted"
        )
