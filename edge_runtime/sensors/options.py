"""The query of a source's URL -> one frozen dataclass of options; unknown and malformed keys are refused."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build

T = TypeVar("T")
DECLARED_UNIT = (("*", "its unit= and scale="),)  # of sources whose numbers are what the URL says they are


def chosen_columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted channels stand among all names; raises SettingsError naming one that is none of them."""
    unknown = [c for c in wanted if c not in names]
    if unknown:
        raise SettingsError(f"channel is {unknown[0]!r}; channels are {', '.join(names)}")
    return [names.index(c) for c in wanted]


def unit_of(units: Sequence[str]) -> str:
    """The unit of some columns: their common one, or each column's between commas."""
    return units[0] if len(set(units)) == 1 else ",".join(units)


def parse_options(cls: type[T], query: str, where: str) -> T:
    """Make a `cls` from `a=1&b=x`; a number may be given as `max`, which is infinity.

    where  the source as the user named it, for messages
    Raises SettingsError naming the key, what was found, and the keys that exist.
    """
    keys = ", ".join(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise SettingsError(f"{where}: options are {query!r}; key=value&key=value wanted; keys are {keys}") from error
    hints = typing.get_type_hints(cls)
    values: dict[str, object] = {}
    for key, text in pairs:
        if key in values:
            raise SettingsError(f"{where}: key '{key}' is given twice")
        values[key] = _value(hints.get(key), text, f"{where}: {key}")
    return build(cls, values, where, SettingsError)


def in_range(where: str, value: float, low: float, high: float) -> None:
    """Raise SettingsError unless low <= value <= high."""
    if not low <= value <= high:
        raise SettingsError(f"{where} is {value:g}; {low:g} to {high:g} wanted")


def _value(hint: Any, text: str, where: str) -> object:
    kinds = typing.get_args(hint) or (hint,)
    if float in kinds:
        try:
            number = math.inf if text == "max" else float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise SettingsError(f"{where} is {text!r}; a number wanted")
        return number
    if int in kinds:
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{where} is {text!r}; a whole number wanted") from None
    return text
