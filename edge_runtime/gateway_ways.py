"""The two ways of a gateway: streams that share the engine's calls, and streams with a pipeline each."""

from __future__ import annotations

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.manifest import BeatManifest, Manifest, Precision
from edge_runtime.forms import EngineWish, open_form
from edge_runtime.one_by_one import Opened, open_alone
from edge_runtime.slots import Model, open_model


def why_one_by_one(manifest: Manifest, engine: EngineWish) -> str | None:
    """Why streams of this bundle cannot share a call; None if they can, as far as the manifest tells."""
    if not isinstance(manifest, BeatManifest):
        return f"task {manifest.task} has no form for many streams"
    if manifest.fill_gap_s > 0.0:
        return f"it fills gaps up to {manifest.fill_gap_s:g} s"
    if engine == "litert" or all(f.engine != "onnxruntime" for f in manifest.all_forms):
        return "LiteRT takes one stream in a call"
    return None


@dataclass(frozen=True, kw_only=True)
class Ways:
    """What was asked for, and how a bundle is opened for so many streams in each of the two ways."""

    engine: EngineWish
    precision: Precision | None
    threads: int
    n_slots: int

    def together(self, bundle: Bundle) -> Model:
        """For streams that share calls; raises BundleError or EngineError if it cannot run many in a call."""
        # LiteRT takes one stream in a call, so it is no choice here.
        engine: EngineWish = "onnxruntime" if self.engine == "auto" else self.engine
        return open_model(*open_form(bundle, engine, self.precision, self.threads), self.n_slots)

    def one_by_one(self, bundle: Bundle) -> Opened:
        """For streams with a pipeline each; raises EngineError if no engine takes it."""
        return open_alone(*open_form(bundle, self.engine, self.precision, self.threads))
