"""The walls between rooms: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("sensors", "engine", "vitals", "sinks")
# Libraries of the device beside numpy, each behind one file; its name is here where the design gives one.
ONE_FILE_EACH = {
    "onnxruntime": "edge_runtime/engine/onnx.py",
    "ai_edge_litert": "edge_runtime/engine/tflite.py",
    "tflite_runtime": "edge_runtime/engine/tflite.py",
    "psutil": None,
    "serial": None,
    "bleak": "edge_runtime/sensors/ble.py",  # there only where it was asked for
}
INFERENCE_AND_TRAINING = (
    "torch",
    "onnxruntime",
    "ai_edge_litert",
    "tflite_runtime",
    "wfdb",
    "onnx",
    "host_tools",
)


@dataclass(frozen=True)
class Import:
    """One imported name: `importer` is a path from the root, `imported` a dotted name."""

    importer: PurePosixPath
    line: int
    imported: str

    @property
    def room(self) -> str:
        """First part of the imported name."""
        return self.imported.split(".")[0]

    def __str__(self) -> str:
        """Where it stands, and what it imports."""
        return f"{self.importer}:{self.line} imports {self.imported}"


def imports(importer: str, source: str) -> Iterator[Import]:
    """All imports of a file, those inside functions included; `from a import b` counts as a.b."""
    path = PurePosixPath(importer)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join((*package, *([node.module] if node.module else [])))
            for alias in node.names:
                yield Import(path, node.lineno, f"{base}.{alias.name}")


def all_imports(*rooms: str) -> list[Import]:
    """All imports of all files in some rooms."""
    files = [f for room in rooms for f in sorted((ROOT / room).rglob("*.py"))]
    return [i for f in files for i in imports(f.relative_to(ROOT).as_posix(), f.read_text("utf-8"))]


def is_in(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or lies in one."""
    return any(name == p or name.startswith(p + ".") for p in packages)


def contract_wall(found: Import) -> bool:
    """The contract stands on the standard library and numpy alone."""
    return (
        found.room in sys.stdlib_module_names or found.room == "numpy" or is_in(found.imported, "edge_runtime.contract")
    )


def device_wall(found: Import) -> bool:
    """The device's room uses its own names, numpy, and the libraries named above."""
    return found.room in {"edge_runtime", "numpy", *ONE_FILE_EACH, *sys.stdlib_module_names}


def one_file_wall(found: Import) -> bool:
    """An inference library is imported by the one file that is named after it."""
    return ONE_FILE_EACH.get(found.room) in (None, found.importer.as_posix())


def stage_wall(found: Import) -> bool:
    """A stage knows the contract and its own room, no other stage and nothing above."""
    own = ".".join(found.importer.parts[:2])
    return found.room != "edge_runtime" or is_in(found.imported, "edge_runtime.contract", own)


def pipeline_wall(found: Import) -> bool:
    """The one loop knows the contract and no concrete class."""
    return found.room != "edge_runtime" or is_in(found.imported, "edge_runtime.contract")


def cli_wall(found: Import) -> bool:
    """Nothing stands on the command line, except what starts it."""
    return found.importer.name == "__main__.py" or not is_in(found.imported, "edge_runtime.cli", "host_tools.cli")


def private_wall(found: Import) -> bool:
    """Private names stay in their room."""
    own = found.importer.parts[0]
    parts = [p for p in found.imported.split(".") if not p.startswith("__")]
    return found.room not in ("edge_runtime", "host_tools") or found.room == own or not any(p[0] == "_" for p in parts)


def stage_imports() -> list[Import]:
    """All imports of the device's stages."""
    return all_imports(*(f"edge_runtime/{s}" for s in STAGES))


def pipeline_imports() -> list[Import]:
    """All imports of the one loop."""
    return [i for i in all_imports("edge_runtime") if i.importer == PurePosixPath("edge_runtime/pipeline.py")]


@pytest.mark.parametrize(
    ("wall", "found"),
    [
        (contract_wall, all_imports("edge_runtime/contract")),
        (device_wall, all_imports("edge_runtime")),
        (one_file_wall, all_imports("edge_runtime")),
        (stage_wall, stage_imports()),
        (pipeline_wall, pipeline_imports()),
        (cli_wall, all_imports("edge_runtime", "host_tools", "benchmarks")),
        (private_wall, all_imports("edge_runtime", "host_tools", "benchmarks")),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_nobody_looks_over_the_wall(wall, found):
    assert found
    assert [str(i) for i in found if not wall(i)] == [], wall.__doc__


@pytest.mark.parametrize("library", sorted(ONE_FILE_EACH))
def test_each_library_of_the_device_is_imported_by_one_file(library):
    importers = {str(i.importer) for i in all_imports("edge_runtime") if i.room == library}
    assert len(importers) <= 1


@pytest.mark.parametrize(
    ("wall", "importer", "source"),
    [
        (contract_wall, "edge_runtime/contract/x.py", "import scipy"),
        (contract_wall, "edge_runtime/contract/x.py", "from edge_runtime.engine import engine"),
        (contract_wall, "edge_runtime/contract/x.py", "from ..engine import engine"),
        (device_wall, "edge_runtime/x.py", "def f():\n    import torch.nn"),
        (device_wall, "edge_runtime/x.py", "from host_tools import recipe"),
        (device_wall, "edge_runtime/sensors/wfdb.py", "def f():\n    import wfdb"),
        (one_file_wall, "edge_runtime/engine/engine.py", "import onnxruntime"),
        (stage_wall, "edge_runtime/sinks/x.py", "from edge_runtime.vitals import beats"),
        (stage_wall, "edge_runtime/sensors/x.py", "from edge_runtime import pipeline"),
        (pipeline_wall, "edge_runtime/pipeline.py", "import edge_runtime.engine.onnx"),
        (cli_wall, "edge_runtime/service.py", "from edge_runtime import cli"),
        (private_wall, "host_tools/x.py", "from edge_runtime.contract.latency import _percentile"),
        (private_wall, "benchmarks/x.py", "from host_tools.nets._inner import net"),
    ],
)
def test_the_walls_see_what_they_are_for(wall, importer, source):
    assert not all(wall(i) for i in imports(importer, source))


def test_importing_the_runtime_loads_no_inference_or_training_library():
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in (ROOT / "edge_runtime").glob("*.py")]
    modules = [n.removesuffix(".__init__") for n in names if not n.endswith("__main__")]
    program = (
        f"import sys, {', '.join(sorted(modules))}; print(*sorted(set(sys.modules) & set({INFERENCE_AND_TRAINING!r})))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert loaded.stdout.split() == []
