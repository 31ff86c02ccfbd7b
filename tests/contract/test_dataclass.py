"""The quick dataclasses against the standard ones."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import asdict, field, replace
from typing import Any

import pytest

from edge_runtime.contract import dataclass as quick


def _pair(**options: Any) -> tuple[Any, Any]:
    """The same class made both ways; the standard one is the oracle."""

    def plain() -> type[Any]:
        class Told:
            """Something with all that a field can have."""

            a: int
            b: float = 2.0
            c: list[int] = field(default_factory=list)
            d: int = field(default=0, compare=False)

            def __post_init__(self) -> None:
                if self.a < 0:
                    raise ValueError("a is negative")

        return Told

    return dataclasses.dataclass(**options)(plain()), quick.dataclass(**options)(plain())


@pytest.mark.parametrize("options", [{"frozen": True}, {"frozen": True, "eq": False}, {}], ids=str)
def test_a_quick_dataclass_is_like_a_standard_one(options: dict[str, bool]) -> None:
    for cls in _pair(kw_only=True, **options):
        first, same, other = cls(a=1), cls(a=1, d=5), cls(a=1, b=3.0)
        assert (first == same) is options.get("eq", True)
        assert first != other
        assert asdict(replace(other, a=4)) == {"a": 4, "b": 3.0, "c": [], "d": 0}
        assert repr(first).endswith("Told(a=1, b=2.0, c=[], d=0)")
        assert first.c is not same.c
        assert (cls.__hash__ is None) == (options == {})
        with pytest.raises(ValueError, match="negative"):
            cls(a=-1)
        for wrong in ({}, {"a": 1, "e": 2}, {"b": 1.0, "e": 2}):
            with pytest.raises(TypeError):
                cls(**wrong)


def test_a_frozen_one_stays_as_it_is() -> None:
    for cls in _pair(kw_only=True, frozen=True):
        told = cls(a=1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
            told.a = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'a'"):
            del told.a
        assert told.a == 1


def test_equal_ones_have_one_hash() -> None:
    class Point:
        """A point."""

        x: int
        y: int = 0

    made: Any = quick.dataclass(frozen=True, kw_only=True)(Point)
    assert hash(made(x=1)) == hash(made(x=1, y=0))
    assert len({made(x=1), made(x=1), made(x=2)}) == 2


def test_a_manifest_part_travels_between_processes() -> None:
    from edge_runtime.contract.beats import BeatTiming

    timing = BeatTiming(stride=4)
    assert pickle.loads(pickle.dumps(timing)) == timing
