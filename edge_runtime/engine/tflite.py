"""LiteRT behind the engine protocol; the only importer of ai_edge_litert and of its forerunner tflite_runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph
from edge_runtime.engine.engine import check_tensors, state_tail

DELEGATE, BUILT_IN = "XNNPACK", "built-in kernels"
PART = f"{DELEGATE} in part"


class LiteRtEngine:
    """LiteRT on the CPU, one thread unless asked.

    provider  what really runs the operators of all graphs that were loaded; LiteRT gives XNNPACK what it can take
    """

    name = "litert"

    def __init__(self, threads: int = 1, library: str = "") -> None:
        """Raises EngineError if there is no library; `library` wants this one of LIBRARIES."""
        self._interpreter, self.version = _library((library,) if library else LIBRARIES)
        self.provider = BUILT_IN
        self.threads = threads
        self._found: set[str] = set()

    def load(self, bundle: Bundle, graph: Graph) -> LiteRtStepper:
        """Load one graph of a bundle; raises EngineError if it is refused."""
        path = bundle.file(graph.file)
        try:
            interpreter = self._interpreter(model_path=str(path), num_threads=self.threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise EngineError(f"{path}: LiteRT {self.version} refuses it ({reason})") from error
        stepper = LiteRtStepper(interpreter, graph, str(path))
        self._found.add(_provider(interpreter))
        self.provider = self._found.pop() if len(self._found) == 1 else PART
        self._found.add(self.provider)
        return stepper


class LiteRtStepper:
    """An interpreter whose inputs, outputs and state are read and written in its own memory.

    What a step leaves in a state's output is copied to its input: a library of this interface has one place for each.
    """

    def __init__(self, interpreter: Any, graph: Graph, where: str) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        check_tensors(_shapes(inputs), _shapes(outputs), graph, where)
        self._check_dtypes([*inputs, *outputs], graph, where)
        interpreter.invoke()  # memory that would still move does so now
        read = {t["name"]: _memory(interpreter, t) for t in inputs}
        written = {t["name"]: _memory(interpreter, t) for t in outputs}
        self._where, self._interpreter = where, interpreter
        self._states = graph.states
        self._read = {s.input: read[s.input] for s in graph.states}
        self._carried = [(read[s.input], state_tail(written[s.output], s)) for s in graph.states]
        self.inputs = {t.name: read[t.name] for t in graph.inputs}
        self.outputs = {t.name: written[t.name] for t in graph.outputs}
        interpreter.invoke()
        for tensor in (*inputs, *outputs):
            array = {**read, **written}[tensor["name"]]
            if _memory(interpreter, tensor).ctypes.data != array.ctypes.data:
                raise EngineError(f"{where}: memory of {tensor['name']} moves from step to step; a fixed place wanted")
        self._invoke = interpreter.invoke
        for array in self.inputs.values():
            array[...] = 0
        self.reset()

    def step(self) -> None:
        """Run the graph once and hand its state on."""
        self._invoke()
        for read, tail in self._carried:
            read[...] = tail

    def reset(self) -> None:
        """Put the state back to its initial values."""
        for state in self._states:
            self._read[state.input][...] = state.initial

    def _check_dtypes(self, tensors: list[dict[str, Any]], graph: Graph, where: str) -> None:
        wanted = {t.name: t.dtype for t in (*graph.inputs, *graph.outputs)}
        wanted |= {name: s.dtype for s in graph.states for name in (s.input, s.output)}
        for tensor in tensors:
            found = np.dtype(tensor["dtype"]).name
            if found != wanted[tensor["name"]]:
                raise EngineError(f"{where}: {tensor['name']} is {found}; manifest says {wanted[tensor['name']]}")


def _newer() -> tuple[Any, str]:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter, str(ai_edge_litert.__version__)


def _older() -> tuple[Any, str]:
    import tflite_runtime

    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        # It is built against numpy 1, declares nothing, and fails at load.
        raise EngineError(f"tflite_runtime needs numpy < 2; {np.__version__} is installed")
    from tflite_runtime.interpreter import Interpreter

    return Interpreter, f"{tflite_runtime.__version__} (tflite_runtime)"


LIBRARIES: dict[str, Callable[[], tuple[Any, str]]] = {"ai_edge_litert": _newer, "tflite_runtime": _older}


def _library(names: Iterable[str]) -> tuple[Any, str]:
    """The interpreter's class and the version, of the first library that is there."""
    reasons = []
    for name in names:
        try:
            return LIBRARIES[name]()
        except ImportError as error:
            reasons.append(" ".join(str(error).split()))
    raise EngineError(
        f"LiteRT cannot be imported ({'; '.join(reasons)}); install it with `pip install 'vitaledge[tflite]'`, "
        "or, on a gateway, deploy with `--engine litert`"
    )


def _shapes(tensors: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    return {t["name"]: tuple(int(n) for n in t["shape"]) for t in tensors}


def _memory(interpreter: Any, tensor: dict[str, Any]) -> np.ndarray:
    """A tensor's own memory as an array that keeps the interpreter alive.

    The interpreter refuses to run while an array from `tensor()` is held, because its memory moves when a size is
    changed. No size is changed here, so the address is taken and the array let go.
    """
    shown = interpreter.tensor(tensor["index"])()
    memory = (ctypes.c_byte * shown.nbytes).from_address(shown.ctypes.data)
    memory.owner = interpreter
    return np.frombuffer(memory, shown.dtype).reshape(shown.shape)


def _provider(interpreter: Any) -> str:
    """Who runs the operators: asked of the interpreter, whose list ends with the delegate's parts of the graph."""
    parts = [o for o in interpreter._get_ops_details() if o["op_name"] == "DELEGATE"]
    if not parts:
        return BUILT_IN
    produced = set(parts[0]["outputs"].tolist())
    is_whole = len(parts) == 1 and produced >= {t["index"] for t in interpreter.get_output_details()}
    return DELEGATE if is_whole else PART
