"""docs/architecture.md says where each thing lives: of all modules, and of none that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = ("edge_runtime", "host_tools")


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_has_its_line(room: str) -> None:
    modules = [p for p in (ROOT / room).rglob("*.py") if p.name != "__init__.py"]
    assert len(modules) > 50
    told = {
        module: re.search(rf"\b{module.name}\b", PAGE) or f"{module.parent.relative_to(ROOT / room)}/*.py" in PAGE
        for module in modules
    }
    assert [str(module.relative_to(ROOT)) for module, is_told in told.items() if not is_told] == []


def test_every_module_that_is_named_is_there() -> None:
    named = set(re.findall(r"`([a-z0-9_/]+\.py)`", PAGE))
    assert len(named) > 100
    places = [ROOT, *(ROOT / room for room in ROOMS), *(p for room in ROOMS for p in (ROOT / room).glob("*/"))]
    assert sorted(name for name in named if not any((place / name).is_file() for place in places)) == []
