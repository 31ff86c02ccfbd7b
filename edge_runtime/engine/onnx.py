"""ONNX Runtime behind the engine protocol; the only importer of onnxruntime."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph
from edge_runtime.engine.engine import STREAMS
from edge_runtime.engine.onnx_batch import OnnxBatch
from edge_runtime.engine.onnx_cache import ModelCache, processor
from edge_runtime.engine.onnx_stepper import OnnxStepper

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "xnnpack": "XnnpackExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


def model_cache(folder: Path) -> ModelCache:
    """Optimized graphs of this device, in a folder's `onnxruntime`."""
    return ModelCache(folder / "onnxruntime", processor())


class OnnxEngine:
    """ONNX Runtime; on the CPU unless asked, one thread unless asked, no spinning (it would burn the gateway's cores).

    provider        what runs the graphs, in ONNX Runtime's words; after a fall-back, what it fell back to
    allow_fallback  the CPU may run what `provider` cannot; else that is an EngineError
    cache           where graphs are kept as this device optimized them, or None
    """

    name = "onnxruntime"

    def __init__(
        self, threads: int = 1, provider: str = "cpu", *, allow_fallback: bool = False, cache: ModelCache | None = None
    ) -> None:
        # From 1.31 on it would keep a device's identity in the user's cache folder and could report what it runs.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                f"onnxruntime cannot be imported ({error}); install it with `pip install 'vitaledge[onnx]'`, "
                "or, on a gateway, deploy again"
            ) from error
        self._ort: Any = onnxruntime
        self.version = str(onnxruntime.__version__)
        self.threads, self._allow_fallback, self._cache = threads, allow_fallback, cache
        self.provider = self._available(provider)

    def load(self, bundle: Bundle, graph: Graph) -> OnnxStepper:
        """Load one graph of a bundle with its state bound; raises EngineError if it is refused."""
        return OnnxStepper(self._ort, self._open(bundle, graph, None), graph, str(bundle.file(graph.file)))

    def load_batch(self, bundle: Bundle, graph: Graph, n_streams: int) -> OnnxBatch:
        """Load one graph for that many streams in a call; raises EngineError if it is refused or takes one only."""
        return OnnxBatch(
            self._ort, self._open(bundle, graph, n_streams), graph, n_streams, str(bundle.file(graph.file))
        )

    def _available(self, name: str) -> str:
        if name not in PROVIDERS:
            raise EngineError(f"provider is {name!r}; one of {', '.join(PROVIDERS)} wanted")
        wanted = PROVIDERS[name]
        if wanted == CPU or wanted in self._ort.get_available_providers():
            return wanted
        text = f"onnxruntime {self.version} was built without {wanted}"
        if not self._allow_fallback:
            raise EngineError(f"{text}; use --provider cpu, or --allow-fallback")
        log.warning("%s; graphs run on the CPU", text)
        return CPU

    def _options(self, graph: Graph, n_streams: int | None) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A step needs a few kilobytes for itself: the system's allocator is quicker than an arena, and keeps less.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_free_dimension_override_by_name(STREAMS, n_streams or 1)
        if n_streams is not None and graph.integer_operators == 0:
            # Weights that are only stored as integers become numbers once, at the load, not at every call.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if self.provider != CPU and not self._allow_fallback:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return options

    def _open(self, bundle: Bundle, graph: Graph, n_streams: int | None) -> Any:
        """A session for a stepper, or for that many streams in a call; checked for what it runs on."""
        path = bundle.file(graph.file)
        if self._cache is not None and self.provider == CPU:
            key = (bundle.manifest.files.get(graph.file, ""), self.version, self.threads, n_streams)
            session = self._cache.open(key, path, partial(self._session, graph, n_streams))
        else:
            session = self._session(graph, n_streams, path)
        used = session.get_providers()
        if self.provider not in used[:1] or (len(used) > 1 and self.provider == CPU):
            if not self._allow_fallback:
                raise EngineError(f"{path}: runs on {used}; {self.provider} wanted")
            log.warning("%s: runs on %s; %s wanted", path, used, self.provider)
            self.provider = str(used[0])
        return session

    def _session(
        self,
        graph: Graph,
        n_streams: int | None,
        path: Path,
        target: Path | None = None,
        *,
        is_optimized: bool = False,
    ) -> Any:
        """A session over a file; `target` keeps the graph as it was optimized."""
        options = self._options(graph, n_streams)
        if target is not None:
            options.optimized_model_filepath = str(target)
        if is_optimized:
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return self._ort.InferenceSession(str(path), options, providers=[self.provider])
        except Exception as error:
            raise EngineError(f"{path}: onnxruntime {self.version} refuses it ({error})") from error
