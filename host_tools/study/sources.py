"""A hash of the code that a result depends on: a module and all of this project's modules that it imports."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

OURS = ("host_tools", "edge_runtime")


def source_digest(*modules: str) -> str:
    """Hexadecimal sha256 over the sources of `modules` and everything of ours below them."""
    digest = hashlib.sha256()
    for path in sorted(set().union(*(_below(m) for m in modules))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _below(module: str) -> frozenset[Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _file(name)
        if path is None:
            continue
        found[name] = path
        waiting += [n for n in _imports(path) if n.split(".")[0] in OURS]
    return frozenset(found.values())


def _file(name: str) -> Path | None:
    """The source of a module; None for a name inside one. A user's task is a file, not a module."""
    if name.endswith(".py"):
        return Path(name)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names
