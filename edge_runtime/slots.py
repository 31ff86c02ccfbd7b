"""A bundle's graphs with a slot for every stream: what a gateway runs, and what a new bundle must share with it."""

from __future__ import annotations

import math

from edge_runtime.assemble import HEAD, TRUNK
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.manifest import BeatManifest, beats_of
from edge_runtime.engine.batch import SlottedGraph
from edge_runtime.engine.engine import BatchEngine, Engine

# What a bundle that takes over must say like the one before it.
SHARED = ("task", "unit", "conditioning", "timing", "hop_samples", "delay_samples", "classes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """An opened bundle: `trunk` steps every hop, `head` once per beat."""

    bundle: Bundle
    manifest: BeatManifest
    trunk: SlottedGraph
    head: SlottedGraph


def open_model(bundle: Bundle, engine: Engine, n_slots: int) -> Model:
    """Load a bundle for that many streams; raises BundleError or EngineError if it cannot run many in a call."""
    manifest = beats_of(bundle.manifest)
    fill_gap_s = getattr(manifest, "fill_gap_s", 0.0)
    if fill_gap_s > 0.0:
        raise BundleError(
            f"bundle {manifest.name}: fills gaps up to {fill_gap_s:g} s, so its streams share no calls; restart"
        )
    if not isinstance(engine, BatchEngine):
        raise EngineError(f"{engine.name}: takes one stream in a call; onnxruntime takes many")
    return Model(
        bundle=bundle,
        manifest=manifest,
        trunk=SlottedGraph(engine, bundle, manifest.graph(TRUNK), n_slots),
        head=SlottedGraph(engine, bundle, manifest.graph(HEAD), n_slots),
    )


def refuse_other_contract(old: BeatManifest, new: BeatManifest, n_past: int) -> None:
    """Raise BundleError if a bundle cannot take over running streams: it would read them another way.

    n_past  conditioned samples that are kept to warm it up with
    """
    for name in SHARED:
        was, wanted = getattr(new, name), getattr(old, name)
        if was != wanted:
            raise BundleError(f"bundle {new.name}: {name} is {was}; the running bundle has {wanted}, so restart")
    if new.receptive_field_samples > n_past:
        raise BundleError(
            f"bundle {new.name}: receptive_field_samples is {new.receptive_field_samples}; the running streams keep "
            f"{n_past}, so restart"
        )
    outputs = [_outputs(m) for m in (new, old)]
    if outputs[0] != outputs[1]:
        raise BundleError(
            f"bundle {new.name}: outputs are {outputs[0]}; the running bundle has {outputs[1]}, so restart"
        )


def _outputs(m: BeatManifest) -> list[tuple[int, int]]:
    """Rows and columns of each graph's result; which axes of length 1 a form has does not matter."""
    shapes = [m.graph(name).outputs[0].shape for name in (TRUNK, HEAD)]
    return [(math.prod(shape[:-1]), shape[-1]) for shape in shapes]


def has_same_head(old: Model, new: Model) -> bool:
    """Whether the memory over beats means the same to both: their heads are the same file."""
    files = [m.manifest.files[m.manifest.graph(HEAD).file] for m in (old, new)]
    return files[0] == files[1]
