"""Sources of the programs that run on a device: one by one, or several as one text that needs none of the others."""

from __future__ import annotations

import ast
from importlib.resources import files

PACKAGE = "host_tools.ship"
# Nothing that is installed or set there changes what a program does, and it leaves no bytecode that is not on the disk.
ALONE = ("-I", "-S", "-B")


def text_of(name: str) -> str:
    """The text of a file of this package."""
    return files(PACKAGE).joinpath(name).read_text()


def program(*names: str) -> str:
    """Python files, one behind the other: what they import of each other is there already."""
    return "from __future__ import annotations\n" + "".join(_without_own_imports(text_of(name)) for name in names)


def _without_own_imports(text: str) -> str:
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith((PACKAGE, "__future__")):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return "".join(lines)
