"""JSON objects and TOML tables -> frozen dataclasses; unknown, missing or mistyped keys are refused by name."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

from edge_runtime.contract.errors import EdgeError

T = TypeVar("T")


def build(cls: type[T], value: object, where: str, error: type[EdgeError], base: T | None = None) -> T:
    """Make a `cls` (a dataclass) from a mapping.

    where  how the place is named in messages
    base   gives the values of keys that are not in the mapping; without it they take the fields' defaults, and
           a nested table likewise starts from the default of its own field
    Raises `error` naming the key, what was found, and the keys that exist.
    """
    if not isinstance(value, dict):
        raise error(f"{where}: found {type(value).__name__}; a table wanted")
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise error(f"{where}: unknown key '{unknown[0]}'; keys are {', '.join(sorted(fields))}")
    given = {k: _default(f) if base is None else getattr(base, k) for k, f in fields.items()}
    missing = sorted(k for k, default in given.items() if k not in value and default is dataclasses.MISSING)
    if missing:
        raise error(f"{where}: key '{missing[0]}' is missing")
    given |= {k: _convert(hints[k], v, f"{where}.{k}", error, given[k]) for k, v in value.items()}
    try:
        return cls(**given)
    except EdgeError as refused:  # by the dataclass itself
        raise error(f"{where}: {refused}") from refused


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """Types of the fields; each is text that has to be compiled, so once for a class."""
    return typing.get_type_hints(cls)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _convert(hint: Any, value: object, where: str, error: type[EdgeError], base: Any = None) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        exact = [a for a in kinds if type(value) is a]  # an int among `str | float | int` stays one
        return _convert((exact or kinds)[0], value, where, error, base)
    if origin is typing.Literal:
        if value not in arguments:
            raise error(f"{where} is {value!r}; one of {', '.join(map(repr, arguments))} wanted")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, f"{where}[{i}]", error) for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise error(f"{where} has {len(value)} values; {len(arguments)} wanted")
        return tuple(_convert(a, v, where, error) for a, v in zip(arguments, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {str(k): _convert(arguments[1], v, f"{where}.{k}", error) for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where, error, base if isinstance(base, hint) else None)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin or hint
    if plain is object or (isinstance(value, plain) and not (plain is int and isinstance(value, bool))):
        return value
    raise error(f"{where} is {value!r}; {getattr(plain, '__name__', plain)} wanted")
