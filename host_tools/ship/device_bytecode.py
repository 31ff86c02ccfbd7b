"""Runs on the device, behind `device_loop.py`: bytecode of what a runtime loads, made once, when it is unpacked.

Standard library only. A start that finds no bytecode compiles everything anew, and Python would keep what it compiled
whenever it is called, not brought to the disk and hashed by nobody. So programs here are told not to write any; it is
made aside with the rest of a runtime, and runtime.json notes the sha256 of each file (`device_facts.strays`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import marshal
import os
import struct
from collections.abc import Iterator

from host_tools.ship.device_facts import strays
from host_tools.ship.device_files import sync

PACKAGE = "edge_runtime"


def compiled(site: str) -> dict[str, str]:
    """Compile `edge_runtime` and what it imports, beside the sources; gives path below `site` -> sha256.

    Nothing is run: imports are read from the sources. What a library imports only inside of a function is left out.
    """
    waiting = [os.path.join(w, n) for w, _, names in os.walk(os.path.join(site, PACKAGE)) for n in names]
    seen = set(waiting)
    made = {}
    while waiting:
        path = waiting.pop()
        if not path.endswith(".py"):
            continue
        with open(path, "rb") as stream:
            source, facts = stream.read(), os.fstat(stream.fileno())
        try:
            tree = ast.parse(source, path)
            code = compile(tree, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            continue  # it says so itself when it is imported
        # As Python writes it: PEP 552, checked against the source's time and size.
        head = struct.pack("<3I", 0, int(facts.st_mtime) & 0xFFFFFFFF, facts.st_size & 0xFFFFFFFF)
        data = importlib.util.MAGIC_NUMBER + head + marshal.dumps(code)
        place = importlib.util.cache_from_source(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as out:
            out.write(data)
        made[os.path.relpath(place, site)] = hashlib.sha256(data).hexdigest()
        folder = os.path.relpath(os.path.dirname(path), site).split(os.sep)
        for name in imported(tree, folder, is_deep=folder[0] == PACKAGE):
            for found in files_of(site, name):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
    return made


def imported(tree: ast.Module, folder: list[str], *, is_deep: bool) -> Iterator[list[str]]:
    """Names that a module in `folder` imports when it is loaded, and, if `is_deep`, when its functions run."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else []
            base = above + (node.module.split(".") if node.module else [])
            yield from ([*base, alias.name] for alias in node.names)
        elif is_deep or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def files_of(site: str, name: list[str]) -> Iterator[str]:
    """The files that are loaded for a dotted name: of each package on the way, and of the module if it is one."""
    for n in range(1, len(name) + 1):
        base = os.path.join(site, *name[:n])
        for path in (os.path.join(base, "__init__.py"), base + ".py"):
            if os.path.isfile(path):
                yield path
                break


def sweep(folder: str) -> None:
    """Remove from a runtime what no archive brought and no deployment made."""
    found = strays(folder)
    for name in found:
        os.remove(os.path.join(folder, "site", name))
    for where in {os.path.dirname(os.path.join(folder, "site", name)) for name in found}:
        sync(where)
